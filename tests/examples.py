"""How many examples hypothesis tries: a third usually, all of them where LLAMAPIPE_TEST_EXAMPLES is full."""

from __future__ import annotations

import os


def examples(full: int) -> int:
    """Of so many, how many now."""
    return full if os.environ.get("LLAMAPIPE_TEST_EXAMPLES") == "full" else max(20, full // 3)
