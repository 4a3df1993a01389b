"""Who used how much, and what a tenant sees of it."""
