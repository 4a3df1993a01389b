"""Training and sampling as computation only: no IO, no HTTP, no processes (a test enforces it)."""
