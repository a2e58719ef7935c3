"""Models, and the libraries that run them."""

from llamapipe.inference.assets import Asset, AssetStore, cache_root
from llamapipe.inference.backends import BACKENDS, BackendStatus, backends
from llamapipe.inference.catalogue import CatalogueStore, open_catalogue
from llamapipe.inference.choose import choose_variant, required_assets
from llamapipe.inference.decoders import DECODERS
from llamapipe.inference.hardware import cores_busy_s, expect_cores
from llamapipe.inference.hardware import fingerprint as hardware_fingerprint
from llamapipe.inference.models import (
    MODELS,
    TASKS,
    all_models,
    find_models,
    is_given_file,
    known_tasks,
    label_table,
    local_file,
    model_named,
    register_file,
    registered_files,
    task_labels,
)
from llamapipe.inference.predictor import load_predictor
from llamapipe.inference.registered import registered_models, use_catalogue
from llamapipe.inference.registration import parse_accuracy, register

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
    "cores_busy_s",
    "expect_cores",
    "all_models",
    "find_models",
    "hardware_fingerprint",
    "is_given_file",
    "known_tasks",
    "label_table",
    "load_predictor",
    "local_file",
    "model_named",
    "parse_accuracy",
    "register",
    "register_file",
    "registered_files",
    "registered_models",
    "required_assets",
    "task_labels",
    "use_catalogue",
]
