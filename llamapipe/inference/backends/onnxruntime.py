"""onnxruntime: ONNX networks on the CPU, and on CUDA where that build is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamapipe.errors import BackendError
from llamapipe.inference.backends.contract import BATCH, BackendStatus, LoadRequest

__all__ = ["OnnxRuntime"]


class OnnxRuntime:
    """See `Backend`."""

    name = "onnxruntime"
    formats = frozenset({"onnx"})

    def status(self) -> BackendStatus:
        """See `Backend.status`."""
        try:
            import onnxruntime
        except ImportError as error:
            return BackendStatus(self.name, False, reason=str(error), hint="pip install onnxruntime")
        devices = ["cpu"]
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            devices.append("cuda:0")
        return BackendStatus(self.name, True, onnxruntime.__version__, tuple(devices))

    def precisions(self, device: str) -> frozenset[str]:
        """What the network was made for: onnxruntime changes none."""
        return frozenset({"fp32", "int8"})

    def load(self, request: LoadRequest) -> _Network:
        """See `Backend.load`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # A replica's threads are planned; threads that spin for work would take the cores of its neighbours.
        options.intra_op_num_threads = request.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if not request.any_size:  # told beforehand, shapes are computed once instead of at every call
            options.add_free_dimension_override_by_name(BATCH, request.batch)
        providers: list[Any] = ["CPUExecutionProvider"]
        if request.device.startswith("cuda"):
            number = request.device.partition(":")[2] or "0"
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": number}))
        try:
            session = onnxruntime.InferenceSession(str(request.path), options, providers=providers, enable_fallback=0)
        except Exception as error:
            raise BackendError(f"onnxruntime cannot load {request.path.name}: {str(error).splitlines()[0]}") from error
        if len(providers) > 1 and "CUDAExecutionProvider" not in session.get_providers():
            raise BackendError(
                f"onnxruntime cannot run {request.path.name} on {request.device}: it would run on the CPU",
                hint="are the GPU, its driver and CUDA's libraries there? See: llamapipe doctor",
            )
        return _Network(session, request)


class _Network:
    def __init__(self, session: Any, request: LoadRequest) -> None:
        self._session = session
        given = session.get_inputs()
        if len(given) != 1:
            raise BackendError(f"{request.path.name} has {len(given)} inputs, expected one picture input")
        self._input = given[0].name
        height, width = request.input_size
        expected = (request.batch, 3, height, width) if request.layout == "nchw" else (request.batch, height, width, 3)
        shape = tuple(n if isinstance(n, int) else -1 for n in given[0].shape)
        if request.any_size:
            if len(shape) != 4 or shape[0] != -1:
                raise BackendError(f"{request.path.name} takes {given[0].shape}, expected any number of pictures")
        elif len(shape) != 4 or any(n not in (-1, m) for n, m in zip(shape, expected, strict=True)):
            raise BackendError(
                f"onnxruntime runs {request.path.name} with an input of {'x'.join(map(str, given[0].shape))}, "
                f"asked was {'x'.join(map(str, expected))}",
                hint="the openvino backend can change a network's input size and batch",
            )
        names = [output.name for output in session.get_outputs()]
        wanted = list(request.output_names or names)
        missing = [name for name in wanted if name not in names]
        if missing:
            raise BackendError(f"{request.path.name} has no output {missing[0]!r}, it has {', '.join(names)}")
        self._outputs = wanted
        shapes = {o.name: [n if isinstance(n, int) else -1 for n in o.shape] for o in session.get_outputs()}
        self.output_shapes: Sequence[Sequence[int]] = [shapes[name] for name in wanted]

    def request(self) -> _Request:
        return _Request(self._session, self._input, self._outputs)


class _Request:
    def __init__(self, session: Any, name: str, outputs: list[str]) -> None:
        self._session = session
        self._name = name
        self._outputs = outputs

    def infer(self, tensor: NDArray[np.generic]) -> Sequence[NDArray[np.float32]]:
        found: Sequence[NDArray[np.float32]] = self._session.run(self._outputs, {self._name: tensor})
        return found
