"""TensorRT: ONNX networks built for one NVIDIA GPU, and engines that were built before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamapipe.errors import BackendError
from llamapipe.inference.backends.contract import BackendStatus, LoadRequest

__all__ = ["TensorRt"]

_HINT = "pip install 'llamapipe[tensorrt]'"


class TensorRt:
    """See `Backend`. The engine is built while loading, which takes from seconds to minutes."""

    name = "tensorrt"
    formats = frozenset({"onnx", "tensorrt-engine"})

    def status(self) -> BackendStatus:
        """See `Backend.status`."""
        try:
            import tensorrt
            from cuda.bindings import runtime
        except ImportError as error:
            return BackendStatus(self.name, False, reason=str(error), hint=_HINT)
        version = str(tensorrt.__version__)
        try:
            error_code, count = runtime.cudaGetDeviceCount()
        except RuntimeError as error:  # cuda.bindings loads the driver when it is first asked
            return BackendStatus(self.name, False, version, reason=str(error), hint="install NVIDIA's driver")
        if error_code != runtime.cudaError_t.cudaSuccess or not count:
            return BackendStatus(
                self.name, False, version, reason="there is no NVIDIA GPU here", hint="use the openvino backend"
            )
        return BackendStatus(self.name, True, version, tuple(f"cuda:{i}" for i in range(count)))

    def precisions(self, device: str) -> frozenset[str]:
        """fp32 without TF32, and fp16. An engine computes in what it was built for, whatever is asked."""
        return frozenset({"fp32", "fp16"})

    def load(self, request: LoadRequest) -> _Network:
        """See `Backend.load`."""
        import tensorrt
        from cuda.bindings import runtime

        if request.any_size:
            raise BackendError(f"tensorrt runs no network with inputs that differ in size: {request.path.name}")
        _call(runtime, runtime.cudaSetDevice(_number(request.device)))
        logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        if request.format == "tensorrt-engine":
            engine = tensorrt.Runtime(logger).deserialize_cuda_engine(request.path.read_bytes())
            if engine is None:
                raise BackendError(
                    f"tensorrt {tensorrt.__version__} cannot load {request.path.name}",
                    hint="engines run only with the TensorRT and on the kind of GPU that they were built with",
                )
            return _Network(tensorrt, runtime, engine, request)
        builder = tensorrt.Builder(logger)
        network = builder.create_network(0)
        parser = tensorrt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(request.path)):
            reason = parser.get_error(0).desc() if parser.num_errors else "no reason given"
            raise BackendError(f"tensorrt cannot read {request.path.name}: {reason}")
        if network.num_inputs != 1:
            raise BackendError(f"{request.path.name} has {network.num_inputs} inputs, expected one picture input")
        config = builder.create_builder_config()
        config.clear_flag(tensorrt.BuilderFlag.TF32)  # fp32 means fp32
        if request.precision == "fp16":
            config.set_flag(tensorrt.BuilderFlag.FP16)
        given = network.get_input(0)
        shape = _shape(request)
        declared = tuple(given.shape)
        if len(declared) != 4 or any(n not in (-1, m) for n, m in zip(declared, shape, strict=True)):
            raise BackendError(
                f"tensorrt runs {request.path.name} with an input of {'x'.join(map(str, declared))}, "
                f"asked was {'x'.join(map(str, shape))}",
                hint="export it with a dynamic batch and input size",
            )
        if -1 in declared:
            profile = builder.create_optimization_profile()
            profile.set_shape(given.name, shape, shape, shape)
            config.add_optimization_profile(profile)
        built = builder.build_serialized_network(network, config)
        engine = tensorrt.Runtime(logger).deserialize_cuda_engine(built) if built is not None else None
        if engine is None:
            raise BackendError(f"tensorrt cannot build {request.path.name} for {request.device}")
        return _Network(tensorrt, runtime, engine, request)


def _number(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def _shape(request: LoadRequest) -> tuple[int, int, int, int]:
    height, width = request.input_size
    return (request.batch, 3, height, width) if request.layout == "nchw" else (request.batch, height, width, 3)


def _call(runtime: Any, answer: tuple[Any, ...]) -> Any:
    """The value of a CUDA call. Raises BackendError where it failed."""
    if answer[0] != runtime.cudaError_t.cudaSuccess:
        raise BackendError(f"CUDA: {runtime.cudaGetErrorString(answer[0])[1].decode()}")
    return answer[1] if len(answer) > 1 else None


class _Network:
    def __init__(self, tensorrt: Any, runtime: Any, engine: Any, request: LoadRequest) -> None:
        self._tensorrt, self._runtime, self._engine, self._request = tensorrt, runtime, engine, request
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        self._input = next(name for name in names if modes[name] == tensorrt.TensorIOMode.INPUT)
        outputs = [name for name in names if modes[name] == tensorrt.TensorIOMode.OUTPUT]
        missing = [name for name in request.output_names if name not in outputs]
        if missing:
            raise BackendError(f"{request.path.name} has no output {missing[0]!r}, it has {', '.join(outputs)}")
        self._unused = [name for name in outputs if request.output_names and name not in request.output_names]
        self._outputs = list(request.output_names or outputs)
        context = engine.create_execution_context()
        context.set_input_shape(self._input, _shape(request))
        self.output_shapes: Sequence[Sequence[int]] = [tuple(context.get_tensor_shape(n)) for n in self._outputs]

    def request(self) -> _Request:
        context = self._engine.create_execution_context()
        context.set_input_shape(self._input, _shape(self._request))
        return _Request(self._tensorrt, self._runtime, context, self._input, self._outputs, self._unused, self._request)


class _Request:
    """Its own context, stream and device buffers, so that requests do not wait for each other."""

    def __init__(
        self,
        tensorrt: Any,
        runtime: Any,
        context: Any,
        input_name: str,
        outputs: Sequence[str],
        unused: Sequence[str],
        request: LoadRequest,
    ) -> None:
        self._runtime, self._context = runtime, context
        self._device = _number(request.device)
        self._buffers: list[int] = []
        self._stream: Any = None
        _call(runtime, runtime.cudaSetDevice(self._device))
        self._stream = _call(runtime, runtime.cudaStreamCreate())
        engine = context.engine
        dtype = np.dtype(tensorrt.nptype(engine.get_tensor_dtype(input_name)))
        self._given = np.empty(_shape(request), dtype)
        self._given_device = self._buffer(input_name, self._given.nbytes)
        self._found: list[tuple[NDArray[Any], int]] = []
        for name in (*outputs, *unused):
            shape = tuple(context.get_tensor_shape(name))
            if -1 in shape:
                raise BackendError(f"output {name} of {request.path.name} has a size that only a run can tell")
            host = np.empty(shape, tensorrt.nptype(engine.get_tensor_dtype(name)))
            device = self._buffer(name, host.nbytes)
            if name in outputs:
                self._found.append((host, device))

    def _buffer(self, name: str, size_bytes: int) -> int:
        pointer = int(_call(self._runtime, self._runtime.cudaMalloc(size_bytes)))
        self._buffers.append(pointer)
        self._context.set_tensor_address(name, pointer)
        return pointer

    def infer(self, tensor: NDArray[np.generic]) -> Sequence[NDArray[np.float32]]:
        runtime, kinds = self._runtime, self._runtime.cudaMemcpyKind
        _call(runtime, runtime.cudaSetDevice(self._device))
        np.copyto(self._given, tensor, casting="unsafe")
        _call(
            runtime,
            runtime.cudaMemcpyAsync(
                self._given_device,
                self._given.ctypes.data,
                self._given.nbytes,
                kinds.cudaMemcpyHostToDevice,
                self._stream,
            ),
        )
        if not self._context.execute_async_v3(int(self._stream)):
            raise BackendError("tensorrt could not run the network")
        for host, device in self._found:
            _call(
                runtime,
                runtime.cudaMemcpyAsync(
                    host.ctypes.data, device, host.nbytes, kinds.cudaMemcpyDeviceToHost, self._stream
                ),
            )
        _call(runtime, runtime.cudaStreamSynchronize(self._stream))
        return [host.astype(np.float32, copy=False) for host, _ in self._found]

    def __del__(self) -> None:
        for pointer in self._buffers:
            self._runtime.cudaFree(pointer)
        if self._stream is not None:
            self._runtime.cudaStreamDestroy(self._stream)
