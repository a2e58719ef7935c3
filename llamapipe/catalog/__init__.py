"""Models, variants, configurations and what is known of them."""

from llamapipe.catalog.model import Accuracy, AccuracyKind, Model
from llamapipe.catalog.variant import Configuration, Precision, Variant

__all__ = ["Accuracy", "AccuracyKind", "Configuration", "Model", "Precision", "Variant"]
