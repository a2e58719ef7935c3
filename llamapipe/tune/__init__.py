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
from llamapipe.tune.signature import LIKE, VideoSignature, distance, signature_of
from llamapipe.tune.space import Knob, Point, Scale, Space, Value
from llamapipe.tune.surrogate import preload
from llamapipe.tune.tuning import Predicted, Tried, Tuning

__all__ = [
    "LIKE",
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
    "Predicted",
    "Prediction",
    "Scale",
    "Search",
    "SearchState",
    "Space",
    "Trend",
    "Tried",
    "Tuning",
    "Value",
    "VideoSignature",
    "distance",
    "preload",
    "signature_of",
]
