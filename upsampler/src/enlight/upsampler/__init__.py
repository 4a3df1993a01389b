"""The Stable Diffusion x4 upscaler behind HTTP."""
