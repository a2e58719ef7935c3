"""Backends, models and their variants."""
