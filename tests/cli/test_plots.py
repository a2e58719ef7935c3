"""Charts of characters."""

from __future__ import annotations

from llamapipe.cli.plots import plot


def test_a_plot_has_marks_limits_and_a_legend() -> None:
    drawn = plot(
        [("one", [(1, 10), (4, 40)]), ("two", [(1, 10), (4, 20)])], across="batch", up="ms", width=21, height=3
    )
    assert drawn.splitlines() == [
        "ms",
        "40 |                    a",
        "   |                    b",
        "10 |+",
        "   +---------------------",
        "    1       batch       4",
        "  a  one",
        "  b  two",
    ]


def test_one_point_is_drawn_in_the_middle() -> None:
    assert "  a" in plot([("one", [(3, 3)])], across="x", up="y", width=5, height=3).splitlines()[2]


def test_nothing_is_nothing() -> None:
    assert plot([], across="x", up="y") == plot([("one", [])], across="x", up="y") == ""


def test_zero_and_below_are_drawn_on_an_even_axis() -> None:
    assert plot([("one", [(0, 0), (1, 1)])], across="x", up="y")
