"""torch: TorchScript and exported programs, on the CPU and on CUDA.

Neither needs the Python code of the network. Exported programs run eagerly, node by node, as torch.export wrote them,
or compiled as a whole.
"""

from __future__ import annotations

import io
import json
import shutil
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamapipe.errors import BackendError
from llamapipe.inference.backends.contract import BackendStatus, LoadRequest

__all__ = ["Torch", "TorchCompiled"]


_COMPILERS = ("g++", "c++", "clang++")


class Torch:
    """See `Backend`."""

    name = "torch"
    formats = frozenset({"torchscript", "torch-export"})

    def status(self) -> BackendStatus:
        """See `Backend.status`."""
        try:
            import torch
        except ImportError as error:
            return BackendStatus(self.name, False, reason=str(error), hint="pip install 'llamapipe[torch]'")
        devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        return BackendStatus(self.name, True, str(torch.__version__), tuple(devices))

    def precisions(self, device: str) -> frozenset[str]:
        """fp32 and bf16; fp16 only where the device computes in it faster than it converts."""
        return frozenset({"fp32", "bf16"} | ({"fp16"} if device.startswith("cuda") else set()))

    def load(self, request: LoadRequest) -> _Network:
        """See `Backend.load`. The network runs once, since only that tells the shapes of its outputs."""
        import torch

        if request.output_names:
            raise BackendError(
                f"torch networks have no names for outputs, asked was {', '.join(request.output_names)}",
                hint="use a decoder that reads the outputs by their order",
            )
        try:
            if request.format == "torch-export":
                _refuse_code(request.path)
                module = torch.export.load(str(request.path)).module().to(request.device)
            else:
                with warnings.catch_warnings():  # deprecated in favour of torch.export, and still what people have
                    warnings.simplefilter("ignore", DeprecationWarning)
                    module = torch.jit.load(str(request.path), map_location=request.device).eval()
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(f"torch cannot load {request.path.name}: {_first_line(error)}") from error
        return _Network(self._prepared(module), request)

    def _prepared(self, module: Any) -> Any:
        return module


class TorchCompiled(Torch):
    """Exported programs compiled for the processor by torch.compile: slow to load, and mostly faster to run."""

    name = "torch-compiled"
    formats = frozenset({"torch-export"})

    def status(self) -> BackendStatus:
        """See `Backend.status`."""
        found = super().status()
        if found.available and not any(shutil.which(name) for name in _COMPILERS):
            return BackendStatus(
                self.name, False, reason="no C++ compiler is installed", hint="for example: apt install g++"
            )
        return replace(found, name=self.name)

    def _prepared(self, module: Any) -> Any:
        import torch

        return torch.compile(module, dynamic=False)


def _refuse_code(path: Path) -> None:
    """An exported program may carry pickles, which are code: only plain tensors pass."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                folder, _, file = name.rpartition("/")
                if file.endswith("_config.json") and "/data/" in name:
                    entries = json.loads(archive.read(name)).get("config", {}).values()
                    pickled = [f"{folder}/{entry['path_name']}" for entry in entries if entry.get("use_pickle")]
                elif folder.endswith("/data/sample_inputs"):
                    pickled = [name]
                elif folder.endswith("/data/constants") and not file.startswith("tensor"):
                    raise BackendError(f"{path.name} holds {file}, an object of Python: only tensors are loaded")
                else:
                    continue
                for member in pickled:
                    torch.load(io.BytesIO(archive.read(member)), weights_only=True)
    except BackendError:
        raise
    except zipfile.BadZipFile as error:
        raise BackendError(f"{path.name} is no exported program: {error}", hint="is it complete?") from error
    except Exception as error:
        raise BackendError(
            f"{path.name} holds objects that are not plain tensors: it is not loaded",
            hint="export it again with torch.export.save, with tensors alone as example inputs",
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class _Network:
    def __init__(self, module: Any, request: LoadRequest) -> None:
        self._module = module
        self._request = request
        height, width = request.input_size
        shape = (request.batch, 3, height, width) if request.layout == "nchw" else (request.batch, height, width, 3)
        try:
            outputs = self.request().infer(np.zeros(shape, np.float32))
        except BackendError as error:
            raise BackendError(
                f"torch cannot run {request.path.name} with an input of {'x'.join(map(str, shape))}: {error.message}",
                hint="use the input size and the batch that it was exported with",
            ) from error
        self.output_shapes: Sequence[Sequence[int]] = [output.shape for output in outputs]

    def request(self) -> _Request:
        return _Request(self._module, self._request)


class _Request:
    def __init__(self, module: Any, request: LoadRequest) -> None:
        import torch

        self._torch = torch
        self._module = module
        self._device = torch.device(request.device)
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[request.precision]
        self._threads = request.threads
        self._threads_set = False

    def infer(self, tensor: NDArray[np.generic]) -> Sequence[NDArray[np.float32]]:
        torch = self._torch
        if not self._threads_set:  # torch keeps the number by calling thread
            torch.set_num_threads(self._threads)
            self._threads_set = True
        given = torch.from_numpy(tensor).to(self._device)
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not None),
            ):
                outputs = self._module(given)
        except (RuntimeError, AssertionError, TypeError, ValueError) as error:
            raise BackendError(_first_line(error)) from error
        found = list(_flat(outputs))
        if not found or not all(isinstance(output, torch.Tensor) for output in found):
            raise BackendError(f"the network gives {type(outputs).__name__}, expected tensors")
        return [output.float().cpu().numpy() for output in found]


def _flat(outputs: Any) -> Sequence[Any]:
    if isinstance(outputs, dict):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
