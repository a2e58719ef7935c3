"""``python -m llamapipe``."""

from llamapipe.cli import main

main()
