"""Messages and their codec: bytes in, bytes out."""
