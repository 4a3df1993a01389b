"""Who computes: the services' processes and the training workers, as they are now."""
