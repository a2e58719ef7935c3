"""How many files this process may have open."""

from __future__ import annotations

import contextlib
import resource

__all__ = ["allow_open_files"]

_MOST = 1 << 16  # more than any run needs; some libraries keep tables as long as the limit


def allow_open_files() -> None:
    """Raise the limit as far as this process may: every worker takes some, and the usual 1024 are soon gone.

    For whoever starts processes, or owns this one; who only imports llamapipe keeps the limit that he has.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):  # where it is forbidden, there are as many as there are
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
