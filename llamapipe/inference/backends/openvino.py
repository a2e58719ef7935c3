"""OpenVINO: ONNX, TFLite, TensorFlow graphs and its own format, on the CPU and Intel's GPUs."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamapipe.errors import BackendError
from llamapipe.inference.backends.contract import BackendStatus, LoadRequest
from llamapipe.inference.backends.rebatch import rebatch
from llamapipe.inference.backends.untold import openvino
from llamapipe.inference.hardware import cores_to_come

__all__ = ["OpenVino"]

_LOG = logging.getLogger(__name__)
_SLOW_TO_READ = frozenset({"tf-graph", "tflite"})

# Of what a quantised network does not compute in int8.
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}


@lru_cache(maxsize=1)
def _core() -> Any:
    return openvino().Core()


def _device(device: str) -> str:
    return "CPU" if device == "cpu" else device.replace("gpu:", "GPU.").replace("gpu", "GPU")


class OpenVino:
    """See `Backend`."""

    name = "openvino"
    formats = frozenset({"onnx", "tflite", "tf-graph", "openvino-ir"})

    def status(self) -> BackendStatus:
        """See `Backend.status`."""
        try:
            version = openvino().__version__
        except ImportError as error:
            return BackendStatus(self.name, False, reason=str(error), hint="pip install openvino")
        devices = tuple(name.lower().replace(".", ":") for name in _core().available_devices)
        return BackendStatus(self.name, bool(devices), version.split("-")[0], devices)

    def precisions(self, device: str) -> frozenset[str]:
        """fp32 always; bf16 and fp16 where the processor has them, int8 for networks made for it."""
        capabilities = set(_core().get_property(_device(device), "OPTIMIZATION_CAPABILITIES"))
        return frozenset(
            name
            for name, capability in (("fp32", "FP32"), ("bf16", "BF16"), ("fp16", "FP16"), ("int8", "INT8"))
            if capability in capabilities
        )

    def load(self, request: LoadRequest) -> _Network:
        """See `Backend.load`."""
        core = _core()
        height, width = request.input_size
        shape = [request.batch, 3, height, width] if request.layout == "nchw" else [request.batch, height, width, 3]
        kept = _kept(request, shape)
        try:
            model = _read_kept(core, kept)
            fresh = model is None
            if model is None:
                model = core.read_model(str(request.path))
            if len(model.inputs) != 1:
                raise BackendError(f"{request.path.name} has {len(model.inputs)} inputs, expected one picture input")
            if request.any_size:
                if model.inputs[0].partial_shape.rank.get_length() != 4 or model.inputs[0].partial_shape[0].is_static:
                    raise BackendError(
                        f"{request.path.name} takes {model.inputs[0].partial_shape}, expected any number of pictures"
                    )
            elif (
                list(model.inputs[0].partial_shape.to_shape() if model.inputs[0].partial_shape.is_static else [])
                != shape
            ):
                rebatch(model, shape)
            if fresh and kept is not None:
                _keep(model, kept)
        except RuntimeError as error:
            raise BackendError(
                f"openvino cannot run {request.path.name} with an input of {'x'.join(map(str, shape))}: "
                f"{_first_line(error)}"
            ) from error
        cores = max(1, _streams(request.threads))
        settings = {
            # Never left to the library: on some processors it would pick bf16 by itself, which changes the boxes.
            "INFERENCE_PRECISION_HINT": _HINTS[request.precision],
            "INFERENCE_NUM_THREADS": cores * request.threads,
            "NUM_STREAMS": cores,
            "ENABLE_CPU_PINNING": False,
            **request.options,
        }
        if request.device != "cpu":
            settings = {"INFERENCE_PRECISION_HINT": _HINTS[request.precision]}
        if request.compiled is not None:  # the library checks what it finds there, and compiles anew what is damaged
            settings["CACHE_DIR"] = str(request.compiled)
        try:
            compiled = core.compile_model(model, _device(request.device), settings)
        except RuntimeError as error:
            raise BackendError(f"openvino cannot compile {request.path.name}: {_first_line(error)}") from error
        return _Network(compiled, request)


def _kept(request: LoadRequest, shape: Sequence[int]) -> Path | None:
    """Where a network in a format that takes long to read is kept in the library's own: half a second of a graph of
    TensorFlow. None for the others. Another file, library or shape is kept under another name."""
    if request.compiled is None or request.format not in _SLOW_TO_READ:
        return None
    try:
        found = request.path.stat()
    except OSError:
        return None  # reading it says why
    what = (str(request.path), found.st_size, found.st_mtime_ns, openvino().__version__, request.any_size, *shape)
    return request.compiled / f"{request.path.stem}-{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.xml"


def _read_kept(core: Any, kept: Path | None) -> Any:
    """None where it is not there, or not whole."""
    if kept is None or not kept.is_file():
        return None
    try:
        return core.read_model(str(kept))
    except RuntimeError as error:
        _LOG.debug("%s cannot be read, the network is read anew: %s", kept, _first_line(error))
        return None


def _keep(model: Any, kept: Path) -> None:
    """Weights first: what has its description is whole. What cannot be kept is read anew the next time."""
    partial = kept.with_name(f".{kept.stem}-{os.getpid()}-{threading.get_native_id()}.xml")
    weights = partial.with_suffix(".bin")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        openvino().save_model(model, str(partial), compress_to_fp16=False)
        os.replace(weights, kept.with_suffix(".bin"))
        os.replace(partial, kept)
    except (OSError, RuntimeError) as error:
        _LOG.debug("%s cannot be kept: %s", kept, error)
        for left in (weights, partial):
            left.unlink(missing_ok=True)


def _streams(threads: int) -> int:
    """How many requests may run at once: one a core."""
    return cores_to_come() // threads


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class _Network:
    def __init__(self, compiled: Any, request: LoadRequest) -> None:
        self._compiled = compiled
        outputs = list(compiled.outputs)
        if request.output_names:
            by_name = {name.split(":")[0]: output for output in outputs for name in output.names}
            missing = [name for name in request.output_names if name not in by_name]
            if missing:
                raise BackendError(f"{request.path.name} has no output {missing[0]!r}, it has {', '.join(by_name)}")
            outputs = [by_name[name] for name in request.output_names]
        self._outputs = outputs
        self.output_shapes: Sequence[Sequence[int]] = [
            [n.get_length() if n.is_static else -1 for n in output.partial_shape] for output in outputs
        ]

    def request(self) -> _Request:
        return _Request(self._compiled.create_infer_request(), self._outputs)


class _Request:
    def __init__(self, request: Any, outputs: Sequence[Any]) -> None:
        self._request = request
        self._outputs = outputs

    def infer(self, tensor: NDArray[np.generic]) -> Sequence[NDArray[np.float32]]:
        self._request.set_input_tensor(openvino().Tensor(tensor, shared_memory=True))
        self._request.infer()
        return [self._request.get_tensor(output).data for output in self._outputs]
