"""Computation only: arrays in, arrays out."""
