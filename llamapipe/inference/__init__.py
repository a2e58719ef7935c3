"""Models, and the libraries that run them."""

from llamapipe.inference.assets import Asset, AssetStore, cache_root
from llamapipe.inference.backends import BACKENDS, BackendStatus, backends
from llamapipe.inference.catalogue import CatalogueStore, open_catalogue
from llamapipe.inference.choose import choose_variant, required_assets
from llamapipe.inference.decoders import DECODERS
from llamapipe.inference.models import (
    MODELS,
    TASKS,
    find_models,
    label_table,
    local_file,
    model_named,
    register_file,
    registered_files,
    task_labels,
)
from llamapipe.inference.predictor import load_predictor

__all__ = [
    "CatalogueStore",
    "open_catalogue",
    "BACKENDS",
    "DECODERS",
    "MODELS",
    "TASKS",
    "Asset",
    "AssetStore",
    "BackendStatus",
    "backends",
    "cache_root",
    "choose_variant",
    "find_models",
    "label_table",
    "load_predictor",
    "local_file",
    "model_named",
    "register_file",
    "registered_files",
    "required_assets",
    "task_labels",
]
