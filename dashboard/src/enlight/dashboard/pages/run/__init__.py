"""The suite at a glance, for the one who runs it."""
