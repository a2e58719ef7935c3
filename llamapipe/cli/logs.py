"""Logging under -v and -vv: to stderr, with credentials taken out of URLs."""

from __future__ import annotations

import logging

from llamapipe.redaction import redacted_text

__all__ = ["set_up_logging"]


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted_text(super().format(record))


def set_up_logging(verbosity: int, *, quiet: bool = False) -> None:
    """Warnings, but for -q; -v adds what llamapipe does, -vv every detail of it and what the libraries say."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Redacting("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    for earlier in [known for known in root.handlers if isinstance(known.formatter, _Redacting)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.WARNING)
    levels = (logging.ERROR if quiet else logging.WARNING, logging.INFO, logging.DEBUG)
    logging.getLogger("llamapipe").setLevel(levels[min(verbosity, 2)])
