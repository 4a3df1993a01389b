"""The Stable Diffusion family: training and inference for one GPU, over HTTP."""
