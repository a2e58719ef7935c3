"""The clip and the operators of the session's tests."""

from tests.session.conftest import clip, operators

__all__ = ["clip", "operators"]
