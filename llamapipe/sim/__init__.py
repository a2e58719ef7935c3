"""Drives control in virtual time."""
