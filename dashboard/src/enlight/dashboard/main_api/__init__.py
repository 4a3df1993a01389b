"""main-api as the pages use it."""
