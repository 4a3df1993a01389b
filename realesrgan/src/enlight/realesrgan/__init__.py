"""Upscaling with the Real-ESRGAN family, over HTTP."""
