"""For those who write operators: rules that every operator keeps, test pictures, a clock that obeys."""

from llamapipe.testing.clock import FakeClock
from llamapipe.testing.conformance import check_operator, example_inputs
from llamapipe.testing.pictures import moving_scene

__all__ = ["FakeClock", "check_operator", "example_inputs", "moving_scene"]
