"""Arrays in, arrays out: no files, no HTTP, no networks."""
