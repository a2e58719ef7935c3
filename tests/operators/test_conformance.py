"""Every built-in operator keeps the rules that third parties' are held to, and the rules catch who breaks them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llamapipe.data import Events, Image
from llamapipe.operator import FILTERED, Context, Inputs, Manifest, Operator, Outputs, Port, PortKind, State, operator
from llamapipe.testing import check_operator
from llamapipe_operators import OPERATORS
from tests.operators.kit import BrightSpot, Overall

NEEDED: dict[str, dict[str, Any]] = {
    "llamapipe/detect@v1": {"predictor": BrightSpot()},
    "llamapipe/classify@v1": {"predictor": Overall()},
    "llamapipe/resize@v1": {"params": {"width": 33}},
    "llamapipe/sample@v1": {"params": {"fps": 10.0}},
    "llamapipe/zones@v1": {"params": {"zones": [{"name": "right", "polygon": [[0.3, 0], [1, 0], [1, 1], [0.3, 1]]}]}},
    "llamapipe/line-crossing@v1": {"params": {"lines": [{"name": "middle", "start": [0.3, 0], "end": [0.3, 1]}]}},
}


@pytest.mark.parametrize("cls", OPERATORS, ids=lambda cls: cls.manifest.short_name)
def test_every_built_in_operator_keeps_the_rules(cls: type[Operator]) -> None:
    check_operator(cls, **NEEDED.get(cls.manifest.type, {}))


@pytest.mark.parametrize("method", ["bilateral", "median", "nlmeans"])
def test_every_way_to_denoise_keeps_the_rules(method: str) -> None:
    denoise = next(cls for cls in OPERATORS if cls.manifest.short_name == "denoise")
    check_operator(denoise, params={"method": method}, sizes=((40, 30), (1, 1)), frames=2)


@pytest.mark.parametrize("cls", OPERATORS, ids=lambda cls: cls.manifest.short_name)
def test_everything_a_user_can_set_is_explained(cls: type[Operator]) -> None:
    manifest = cls.manifest
    for name, part in {**manifest.inputs, **manifest.outputs, **manifest.params}.items():
        assert part.doc, f"{manifest.type}: {name} has no doc"


def test_who_writes_into_the_picture_is_caught() -> None:
    class Scribble(_Pictures):
        def process(self, inputs: Inputs) -> Outputs:
            image: Image = inputs["frames"]
            image.bgr.flags.writeable = True
            image.bgr[0, 0] = 255
            return {"frames": image}

    with pytest.raises(AssertionError, match="wrote into its inputs"):
        check_operator(Scribble)


def test_hidden_state_is_caught() -> None:
    class Counts(_Pictures):
        def __init__(self, context: Context) -> None:
            super().__init__(context)
            self._n = 0

        def process(self, inputs: Inputs) -> Outputs:
            self._n += 1
            image: Image = inputs["frames"]
            return {"frames": image.replaced(np.full(image.bgr.shape, self._n, np.uint8))}

    with pytest.raises(AssertionError, match="depend on the order"):
        check_operator(Counts)


def test_state_that_a_snapshot_lacks_is_caught() -> None:
    class Forgets(_Pictures):
        manifest = Manifest(
            "test/forgets@v1",
            "Counts and forgets.",
            {"frames": Port(PortKind.FRAMES)},
            {"frames": Port(PortKind.FRAMES)},
            state=State.PER_STREAM,
        )

        def __init__(self, context: Context) -> None:
            super().__init__(context)
            self._n = 0

        def process(self, inputs: Inputs) -> Outputs:
            self._n += 1
            image: Image = inputs["frames"]
            return {"frames": image.replaced(np.full(image.bgr.shape, self._n, np.uint8))}

    with pytest.raises(AssertionError, match="restored after 1 frames"):
        check_operator(Forgets)


def test_filtering_must_be_declared() -> None:
    @operator("test/ends@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
    def ends(frames: Image) -> Any:
        """End every frame."""
        return FILTERED

    with pytest.raises(AssertionError, match="filters=True"):
        check_operator(ends)


def test_a_missing_output_is_named() -> None:
    @operator("test/half@v1", inputs={"frames": "frames"}, outputs={"frames": "frames", "events": "events"})
    def half(frames: Image) -> Any:
        """Give half."""
        return {"events": Events()}

    with pytest.raises(AssertionError, match="output frames is missing"):
        check_operator(half)


class _Pictures(Operator):
    manifest = Manifest(
        "test/pictures@v1",
        "Pictures to pictures.",
        {"frames": Port(PortKind.FRAMES)},
        {"frames": Port(PortKind.FRAMES)},
    )
