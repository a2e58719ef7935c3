"""``python -m llamapipe.session.worker_process``: a worker process. Started by the engine, of no use by hand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from llamapipe.clock import SystemClock, system_env
from llamapipe.inference import AssetStore, register_file, use_catalogue
from llamapipe.operator import load_registry
from llamapipe.runtime import Boot, StageSetup, read_boot, serve_process
from llamapipe.session.setups import predictor_loader, when_atoms

__all__ = ["main"]


def _setups(boot: Boot) -> Mapping[str, StageSetup]:
    use_catalogue(Path(boot.cache_root))
    for file, decoder, labels, input_size in boot.models:
        register_file(Path(file), decoder=decoder, labels=labels, input_size=input_size)
    registry = load_registry(boot.operators)
    assets = AssetStore(Path(boot.cache_root), env=system_env())
    return {
        stage.name: StageSetup(
            stage,
            registry.get(stage.type),
            stage.configuration.params,
            when_atoms(stage.name, boot.all_stages),
            predictor_loader(assets),
        )
        for stage in boot.stages
    }


def main() -> None:
    """Be a worker until the engine says stop, or is gone."""
    boot = read_boot(Boot)
    serve_process(boot, partial(_setups, boot), SystemClock())


if __name__ == "__main__":
    main()
