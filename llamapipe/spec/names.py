"""Names in specs: what they may look like, types as people write them, and the likely word behind a typo."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = ["NAME_RULE", "did_you_mean", "is_name", "nearest", "resolve_type", "short_type", "unique_name"]

_NAME = re.compile(r"^[a-z][a-z0-9_-]*$", re.IGNORECASE)
_TYPE = re.compile(r"^(?:(?P<namespace>[^/@]+)/)?(?P<name>[^/@]+)(?:@v(?P<version>[0-9]+))?$")

NAME_RULE = "a letter, then letters, digits, - or _"


def is_name(text: str) -> bool:
    """Whether a pipeline, stage or sink may be called so."""
    return _NAME.fullmatch(text) is not None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like ``word``, or None where none comes close."""
    spelled = {name.lower(): name for name in known}
    found = difflib.get_close_matches(str(word).lower(), spelled, n=1, cutoff=0.55)
    return spelled[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str], otherwise: str | None = None) -> str | None:
    """A hint with the nearest known word; else ``otherwise``, else the known words where they are few."""
    choices = list(known)
    likely = nearest(word, choices)
    if likely is not None:
        return f"did you mean {likely}?"
    if otherwise is not None:
        return otherwise
    return f"known: {', '.join(choices)}" if 0 < len(choices) <= 12 else None


def short_type(type: str) -> str:
    """``detect`` of ``llamapipe/detect@v1``."""
    return type.rsplit("/", 1)[-1].split("@", 1)[0]


def resolve_type(text: str, known: Iterable[str]) -> str | None:
    """The full type that ``detect``, ``detect@v1`` or ``llamapipe/detect`` means, or None.

    Without a version the highest one is meant; without a namespace llamapipe's own, else the only one there is.
    """
    types = list(known)
    if text in types:
        return text
    asked = _TYPE.fullmatch(text)
    if asked is None:
        return None
    fitting: dict[str, list[tuple[int, str]]] = {}
    for type in types:
        have = _TYPE.fullmatch(type)
        if have is None or have["name"] != asked["name"]:
            continue
        if asked["version"] is not None and asked["version"] != have["version"]:
            continue
        if asked["namespace"] is not None and asked["namespace"] != have["namespace"]:
            continue
        fitting.setdefault(have["namespace"], []).append((int(have["version"] or 0), type))
    if "llamapipe" in fitting:
        return max(fitting["llamapipe"])[1]
    if len(fitting) == 1:
        return max(next(iter(fitting.values())))[1]
    return None


def unique_name(base: str, taken: Iterable[str]) -> str:
    """``base``, or ``base-2``, ``base-3``, ... where it is taken."""
    used = set(taken)
    name, count = base, 1
    while name in used:
        count += 1
        name = f"{base}-{count}"
    return name
