"""The route of rembg's own server, ``rembg s``."""
