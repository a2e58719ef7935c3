"""Operators from functions and classes."""

import numpy as np
import pytest

from llamapipe.data import Events, Image
from llamapipe.errors import UsageError
from llamapipe.operator import FILTERED, Context, Registry, operator


@operator("test/dark@v1", inputs={"frames": "frames"}, outputs={"events": "events"}, filters=True)
def dark(frames: Image, *, threshold: float = 40.0):
    """Say when it is dark."""
    return Events() if frames.bgr.mean() < threshold else FILTERED


def test_a_function_becomes_an_operator_with_ports_and_parameters():
    assert dark.manifest.short_name == "dark"
    assert dark.manifest.params["threshold"].default == 40.0
    made = dark(Context(params={"threshold": 10.0}))
    picture = Image.from_bgr(np.full((4, 4, 3), 20, np.uint8))
    assert made.process({"frames": picture}) is FILTERED


def test_an_argument_that_is_no_port_is_refused():
    with pytest.raises(ValueError, match="'threshold' is no input port"):

        @operator("test/bad@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
        def bad(frames, threshold): ...


def test_two_operators_of_one_type_are_refused():
    @operator("test/dark@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
    def other(frames): ...

    with pytest.raises(UsageError, match="registered twice"):
        Registry([dark, other])
