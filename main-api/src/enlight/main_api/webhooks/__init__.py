"""What is told to a tenant's own servers when a training ends."""
