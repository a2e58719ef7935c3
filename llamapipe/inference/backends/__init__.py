"""Inference libraries behind one interface."""

from collections.abc import Mapping

from llamapipe.inference.backends.contract import Backend, BackendStatus, LoadRequest, Network, Request
from llamapipe.inference.backends.onnxruntime import OnnxRuntime
from llamapipe.inference.backends.openvino import OpenVino
from llamapipe.inference.backends.tensorrt import TensorRt
from llamapipe.inference.backends.torch import Torch, TorchCompiled

__all__ = ["BACKENDS", "Backend", "BackendStatus", "LoadRequest", "Network", "Request", "backends"]

BACKENDS: Mapping[str, Backend] = {
    backend.name: backend for backend in (OnnxRuntime(), OpenVino(), Torch(), TorchCompiled(), TensorRt())
}
"""Backends by name."""


def backends() -> list[BackendStatus]:
    """What can be used here, and why the rest cannot."""
    return [backend.status() for backend in BACKENDS.values()]
