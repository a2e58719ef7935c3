"""Types as people write them, and likely words behind typos."""

from __future__ import annotations

import pytest

from llamapipe.spec.names import did_you_mean, is_name, nearest, resolve_type, unique_name

TYPES = ["llamapipe/detect@v1", "llamapipe/detect@v2", "llamapipe/detect@v10", "acme/detect@v3", "acme/shout@v1",
         "a/same@v1", "b/same@v1"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ("detect", "llamapipe/detect@v10"),
        ("detect@v2", "llamapipe/detect@v2"),
        ("detect@v3", "acme/detect@v3"),
        ("llamapipe/detect", "llamapipe/detect@v10"),
        ("acme/detect", "acme/detect@v3"),
        ("acme/detect@v3", "acme/detect@v3"),
        ("shout", "acme/shout@v1"),
        ("same", None),  # two namespaces have it
        ("a/same", "a/same@v1"),
        ("other/detect", None),
        ("detect@v4", None),
        ("detect@latest", None),
        ("", None),
    ],
)
def test_short_types_mean_the_highest_version(text, type):
    assert resolve_type(text, TYPES) == type


def test_the_nearest_name_is_found_whatever_its_case():
    assert nearest("MIN_SCOR", ["min_score", "task"]) == "min_score"
    assert nearest("zzz", ["min_score"]) is None
    assert did_you_mean("zzz", ["a", "b"]) == "known: a, b"
    assert did_you_mean("zzz", [], "nothing") == "nothing"


def test_names_start_with_a_letter():
    assert all(is_name(name) for name in ("a", "Blur-faces_2"))
    assert not any(is_name(name) for name in ("", "2a", "a.b", "a b", "a\n", "-a"))


def test_a_taken_name_gets_the_next_number():
    assert unique_name("a", []) == "a"
    assert unique_name("a", ["a", "a-2"]) == "a-3"
