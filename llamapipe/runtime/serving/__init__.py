"""Serves queries for real: replicas in threads and processes of their own."""
