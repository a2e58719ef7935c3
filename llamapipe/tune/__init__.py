"""The Bayesian-optimisation configurator: ask and tell, never runs a pipeline."""

from llamapipe.tune.profiling import BATCHES, SHARE, Figures, GridPoint, ProfileSearch
from llamapipe.tune.search import (
    Best,
    Constraint,
    Goal,
    Interval,
    Observation,
    Prediction,
    Search,
    SearchState,
    Trend,
)
from llamapipe.tune.space import Knob, Point, Scale, Space, Value

__all__ = [
    "BATCHES",
    "SHARE",
    "Figures",
    "GridPoint",
    "ProfileSearch",
    "Best",
    "Constraint",
    "Goal",
    "Interval",
    "Knob",
    "Observation",
    "Point",
    "Prediction",
    "Scale",
    "Search",
    "SearchState",
    "Space",
    "Trend",
    "Value",
]
