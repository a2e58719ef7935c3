"""Models, variants, configurations and what is known of them."""

from llamapipe.catalog.model import Accuracy, AccuracyKind, Model
from llamapipe.catalog.profile import AccuracyFigure, BatchPoint, Profile, ProfileState
from llamapipe.catalog.requirement import Floor, Query
from llamapipe.catalog.variant import Configuration, Precision, Variant

__all__ = [
    "Accuracy",
    "AccuracyFigure",
    "AccuracyKind",
    "BatchPoint",
    "Configuration",
    "Floor",
    "Model",
    "Precision",
    "Profile",
    "ProfileState",
    "Query",
    "Variant",
]
