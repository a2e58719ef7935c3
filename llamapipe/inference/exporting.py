"""Networks that are Python objects: torch modules, and torchvision's by name, written as exported programs."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamapipe.catalog import Accuracy, AccuracyKind
from llamapipe.errors import BackendError, UsageError
from llamapipe.inference.decoders import DECODERS

__all__ = ["TORCHVISION", "NamedNetwork", "export_module", "torchvision_network"]

TORCHVISION = "torchvision:"
"""What a network's name in torchvision begins with, where a file is expected otherwise."""


@dataclass(frozen=True, slots=True)
class NamedNetwork:
    """A network of torchvision with what its authors say of it. ``load`` fetches the weights."""

    name: str
    load: Callable[[], Any]
    input_size: tuple[int, int]  # (height, width)
    labels: tuple[str, ...]
    accuracy: tuple[Accuracy, ...]


def export_module(module: Any, input_size: tuple[int, int], path: Path) -> Path:
    """Write a ``torch.nn.Module`` that takes (n, 3, height, width) as an exported program of any batch.

    Raises BackendError where torch is missing or cannot export it.
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"{type(module).__name__} is no network: expected a path, {TORCHVISION}NAME or a torch.nn.Module"
        )
    given = torch.zeros(2, 3, *input_size)
    try:
        with torch.no_grad():
            batches = torch.export.Dim("batch")
            program = torch.export.export(module.eval(), (given,), dynamic_shapes=({0: batches},))
    except Exception:  # the network's code may hang on a batch of one
        try:
            with torch.no_grad():
                program = torch.export.export(module.eval(), (given[:1],))
        except Exception as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise BackendError(
                f"torch cannot export {type(module).__name__}: {reason[:300]}",
                hint="expected a module of one input, (n, 3, height, width), without branches on its values",
            ) from error
    torch.export.save(program, str(path))
    return path


def torchvision_network(source: str) -> NamedNetwork:
    """``torchvision:resnet18``, or ``torchvision:resnet18@IMAGENET1K_V1`` for weights other than the default.

    Raises UsageError for one that is not there, or that is no classifier; BackendError where torchvision is missing.
    """
    wanted, _, weights_name = source.removeprefix(TORCHVISION).partition("@")
    _torch()
    try:
        from torchvision import models
    except ImportError as error:
        raise BackendError(f"torchvision is missing: {error}", hint="pip install 'llamapipe[torchvision]'") from error
    except RuntimeError as error:  # one built for CUDA beside a torch built for CPUs, or for another version
        raise BackendError(
            f"torchvision does not go with this torch: {error}", hint="install both from the same place, in one go"
        ) from error
    known = models.list_models(module=models)
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1)
        raise UsageError(
            f"torchvision has no classifier {wanted!r}",
            hint=f"did you mean {near[0]}?" if near else f"for example {TORCHVISION}mobilenet_v3_small",
        )
    kinds = models.get_model_weights(wanted)
    try:
        weights = kinds[weights_name or "DEFAULT"]
    except KeyError:
        raise UsageError(
            f"torchvision has no weights {weights_name!r} of {wanted}: expected one of {', '.join(kinds.__members__)}"
        ) from None
    top1 = weights.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
    transforms = weights.transforms()
    wanted_look = DECODERS["classifier"].preprocess
    if (tuple(transforms.mean), tuple(transforms.std)) != (wanted_look.mean, wanted_look.std):
        raise UsageError(
            f"torchvision's {wanted} takes pictures of another mean and deviation ({transforms.mean}, "
            f"{transforms.std}) than classifiers are given here",
            hint="export it to ONNX with its own normalisation inside, and register the file",
        )
    side = transforms.crop_size[0]

    def load() -> Any:
        try:
            return models.get_model(wanted, weights=weights)
        except Exception as error:
            raise BackendError(
                f"weights of {wanted} could not be fetched from {weights.url}: {error}", hint="is the network up?"
            ) from error

    return NamedNetwork(
        wanted,
        load,
        (side, side),
        _told_apart(weights.meta["categories"]),
        (Accuracy("imagenet_top1", round(top1 / 100, 5), "ImageNet-1K", AccuracyKind.PUBLISHED),) if top1 else (),
    )


def _told_apart(labels: list[str]) -> tuple[str, ...]:
    """ImageNet has two classes "crane" and two "maillot"."""
    return tuple(f"{label} ({i})" if label in labels[:i] else label for i, label in enumerate(labels))


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise BackendError(f"torch is missing: {error}", hint="pip install 'llamapipe[torch]'") from error
    return torch
