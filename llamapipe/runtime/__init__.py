"""Drives control for real: sockets, workers, frame arenas."""
