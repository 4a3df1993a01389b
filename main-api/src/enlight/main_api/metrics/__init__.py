"""What the gateway measures besides its requests."""
