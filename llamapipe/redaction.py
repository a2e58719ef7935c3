"""What may be shown of an address: without logins, passwords and tokens, wherever cameras and services have them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

__all__ = ["redacted", "redacted_text"]

# Of keys whose values nobody else may see; too much is taken out rather than too little.
_KEY = r"(?:token|key|secret|pas|pwd|psw|auth|sig|user|usr|login)"
_IN_QUERY = re.compile(rf"(?i)((?:^|&)[^=&]*{_KEY}[^=&]*=)[^&]*")
_IN_PATH = re.compile(rf"(?i)((?:^|[/&;])[^=/&;]*{_KEY}[^=/&;]*=)[^/&;]*")  # rtsp://HOST/user=me&password=...

# A password may hold @ and, badly written, even a slash.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^/\s'\"]+|[^/\s'\"@]*:[^\s'\"]*)(?=@)")
_QUERY_OF_TEXT = re.compile(rf"(?i)(?<=[?&])([\w.%-]*{_KEY}[\w.%-]*=)[^&\s'\"]+")
_URL = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^\s'\"]+")
_PATH_OF_URL = re.compile(rf"(?i)(?<=[/;])([\w.%-]*{_KEY}[\w.%-]*=)[^/&;\s'\"]+")


def redacted(uri: str) -> str:
    """``uri`` without user name, password, and secret values of its path and query."""
    if "://" not in uri:
        return uri
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:  # a password with / # or ? in it, unescaped: where it ends is anybody's guess
        scheme, rest = uri.split("://", 1)
        return f"{scheme}://***@{rest.rsplit('@', 1)[1]}" if "@" in rest else f"{scheme}://***"
    place = f"***@{parts.netloc.rsplit('@', 1)[1]}" if "@" in parts.netloc else parts.netloc
    path, query = _IN_PATH.sub(r"\1***", parts.path), _IN_QUERY.sub(r"\1***", parts.query)
    return urlunsplit(parts._replace(netloc=place, path=path, query=query))


def redacted_text(text: str) -> str:
    """``text`` with the same taken out of all URLs in it."""
    text = _QUERY_OF_TEXT.sub(r"\1***", _CREDENTIALS.sub("***", text))
    return _URL.sub(lambda found: _PATH_OF_URL.sub(r"\1***", found[0]), text)
