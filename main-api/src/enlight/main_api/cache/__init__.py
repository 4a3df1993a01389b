"""Answers that are kept, and a client that never waits for long."""
