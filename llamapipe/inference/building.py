"""The variants of a model on this machine: which there could be, the files that they need, and which of them pass.

Every library, precision, input size and number of threads that can be had is tried. What is found not to do what the
model does is kept as rejected, with the reason: it is not tried again at every turn, and people can see why.

Every variant is kept as soon as it is judged (`llamapipe.inference.verdicts`). Building that was interrupted goes on
with the next one, and building again builds nothing, while all that a verdict hangs on is the same: the network's file,
the pictures, the bound, the libraries, and how variants are built (`BUILDER`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from llamapipe.accuracy import Agreement
from llamapipe.catalog import AccuracyFigure, AccuracyKind, Model, Precision, Profile, ProfileState, Variant
from llamapipe.data import Image
from llamapipe.errors import LlamapipeError, UsageError
from llamapipe.inference.assets import AssetStore
from llamapipe.inference.backends import BACKENDS, Backend
from llamapipe.inference.built import NetworkFile, key_of, rewritten, source_file
from llamapipe.inference.cascade import CASCADE
from llamapipe.inference.catalogue import CatalogueStore, digest_of
from llamapipe.inference.checking import (
    GOOD_AGREEMENT,
    LEAST_AGREEMENT,
    LEAST_AGREEMENT_OF_SIZES,
    LEAST_BOXES,
    Findings,
    Pictures,
    best_of,
    figures_of,
    judge,
)
from llamapipe.inference.choose import choose_variant
from llamapipe.inference.decoders import DECODERS
from llamapipe.inference.models import FORMATS, find_models, model_named, task_labels
from llamapipe.inference.quantising import (
    FLOAT_PARTS,
    nncf_missing,
    quantise_onnx,
    quantise_openvino,
    tensors_of,
)
from llamapipe.inference.rewriting import rewrite
from llamapipe.inference.verdicts import Verdict, boxes_of, digest_of_boxes, digest_of_pictures, found_of

__all__ = ["BUILDER", "Built", "Result", "Skipped", "build_variants", "models_of", "possible_variants", "rate_task"]

BUILDER = 1
"""Of how variants are built and judged. Raised where that changes: what another number was kept of is built anew."""

_ORDER = (Precision.FP32, Precision.BF16, Precision.FP16, Precision.INT8)


@dataclass(frozen=True, slots=True)
class Skipped:
    """What could not even be tried here, and why: a library or a device is missing."""

    what: str  # "yolox-nano/tensorrt"
    reason: str


@dataclass(frozen=True, slots=True)
class Built:
    """One variant after building, for all its numbers of threads."""

    variant: Variant
    state: ProfileState
    reason: str = ""
    agreement: Agreement | None = None  # with ``source``; None: there was nothing to compare
    source: Variant | None = None
    note: str = ""  # how it was built
    in_float: str = ""  # of int8 networks: what of it is not, one of `FLOAT_PARTS`
    ap50: float | None = None  # average precision at IoU 0.5, where the pictures are labelled
    known: bool = False  # built and judged by an earlier call


@dataclass(slots=True)
class Result:
    """What building came to."""

    built: list[Built] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def possible_variants(model: Model) -> tuple[list[Variant], list[Skipped]]:
    """Variants with one thread that could be had here, those that others are held against first."""
    found: list[Variant] = []
    skipped: list[Skipped] = []
    for backend in BACKENDS.values():
        if model.format not in backend.formats:
            continue
        status = backend.status()
        name = f"{model.name}/{backend.name}"
        if not status.available:
            skipped.append(Skipped(name, f"{status.reason}" + (f" ({status.hint})" if status.hint else "")))
            continue
        for device in status.devices:
            precisions = backend.precisions(device)
            for precision in [p for p in _ORDER if p in precisions]:
                if precision == Precision.INT8 and (why := _no_int8(model, backend, device)):
                    skipped.append(Skipped(f"{name}/{device}/int8", why))
                    continue
                found += [
                    Variant(model.name, backend.name, device, precision.value, size, 1) for size in model.input_sizes
                ]
    if all(variant.device == "cpu" for variant in found):
        skipped.append(Skipped(f"{model.name} on a GPU", "no library here sees one"))
    return found, skipped


def _no_int8(model: Model, backend: Backend, device: str) -> str:
    """Why a model cannot be had in int8 there; empty where it can."""
    if model.decoder == CASCADE:
        return "its networks depend on each other: only single ones are quantised"
    if device != "cpu":
        return "int8 networks are built for the CPU"
    if backend.name == "onnxruntime" or (backend.name == "openvino" and not nncf_missing()):
        return ""
    if backend.name == "openvino":
        return "" if model.format == "onnx" else nncf_missing()
    return f"{backend.name} is given no int8 networks"


def build_variants(
    models: Sequence[Model],
    *,
    calibration: Sequence[Image],
    pictures: Pictures,
    store: CatalogueStore,
    assets: AssetStore,
    max_threads: int = 1,
    least_agreement: float = LEAST_AGREEMENT,
    again: bool = False,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> Result:
    """Build and judge the variants of models, and keep what is found in the catalogue, points of profiles untouched.

    ``calibration`` is what int8 networks learn their ranges from; variants are judged on ``pictures``, which should be
    others: F1 with the source below ``least_agreement`` (0..1) is too little. What an earlier call has built and judged
    by the same is not done again, unless ``again``. Raises UsageError where the model itself cannot be run here.
    """
    result = Result()
    findings = Findings(pictures, assets, seed=seed)
    judged_by = (digest_of_pictures(calibration), findings.digest, digest_of_boxes(pictures.truths or ()), seed)
    for model in models:
        _Builder(
            model, calibration, findings, store, assets, max_threads, least_agreement, judged_by, again, on_step
        ).run(result)
    for task in dict.fromkeys(task for model in models for task in model.tasks):
        on_step(f"{task}: comparing with the best variant")
        rate_task(task, findings, store)
    return result


def rate_task(task: str, findings: Findings, store: CatalogueStore) -> Variant | None:
    """Write into the profiles of a task how far each agrees with the best variant, which is returned.

    Figures of other kinds and tasks stay. None where no variant of the task is ready on this machine.
    """
    order = [model.name for model in find_models(task)]
    profiles = [
        profile
        for name in order
        for profile in store.profiles(model=name)
        if profile.state == ProfileState.READY and profile.variant.threads == 1
    ]
    if not profiles:
        return None
    for profile in profiles:
        _recall(profile.variant, findings, store)
    best = best_of([profile.variant for profile in profiles], findings, task_labels(task))
    for profile in profiles:
        figures = figures_of(profile.variant, best, task, findings)
        _update_figures(profile.variant, task, figures, store)
    return best


def _recall(variant: Variant, findings: Findings, store: CatalogueStore) -> None:
    verdict = store.verdict(variant)
    if verdict is not None and verdict.found and verdict.pictures == findings.digest:
        findings.recall(variant, boxes_of(verdict))


def _update_figures(variant: Variant, task: str, figures: Sequence[AccuracyFigure], store: CatalogueStore) -> None:
    alike = [p for p in store.profiles(model=variant.model) if _alone(p.variant) == variant]
    store.put(
        *(
            msgspec.structs.replace(
                profile,
                accuracy=(
                    *(a for a in profile.accuracy if a.task != task or a.kind == AccuracyKind.PUBLISHED),
                    *figures,
                ),
            )
            for profile in alike
        )
    )


class _Builder:
    """Builds one model's variants."""

    def __init__(
        self,
        model: Model,
        calibration: Sequence[Image],
        findings: Findings,
        store: CatalogueStore,
        assets: AssetStore,
        max_threads: int,
        least_agreement: float,
        judged_by: tuple[object, ...],
        again: bool,
        on_step: Callable[[str], None],
    ) -> None:
        self._model = model
        self._calibration = calibration
        self._findings = findings
        self._store = store
        self._assets = assets
        self._threads = [1 << i for i in range(max(1, max_threads).bit_length())]
        self._least = least_agreement
        self._judged_by = judged_by
        self._again = again
        self._on_step = on_step
        self._source = choose_variant(model=model.name, precision=Precision.FP32)
        self._at_size: dict[tuple[int, int], Variant] = {}  # the first variant of each size that passed
        self._parts: dict[str, tuple[str, ...]] = {}  # what was left in float at the own size, by backend

    def run(self, result: Result) -> None:
        """Do it, and keep it."""
        variants, skipped = possible_variants(self._model)
        result.skipped += skipped
        own = self._model.input_sizes[0]
        self._at_size[own] = self._source
        variants.sort(key=lambda v: (_ORDER.index(Precision(v.precision)), v.input_size != own))
        self._forget_rewritten(variants)
        with self._store.workplace() as folder:
            for variant in variants:
                built = self._known(variant)
                if built is None:
                    self._on_step(f"{variant.name.rpartition('/')[0]}: building and checking")
                    built = self._built(variant, folder)
                    self._keep(built)
                else:
                    self._on_step(f"{variant.name.rpartition('/')[0]}: {built.state}, as it was found before")
                self._learn(built)
                result.built.append(built)

    def _forget_rewritten(self, variants: Sequence[Variant]) -> None:
        """Networks rewritten for other sizes and batches are made anew with the variants that are loaded from them."""
        verdicts = [self._store.verdict(variant) for variant in variants]
        if self._again or any(found is not None and found.builder != BUILDER for found in verdicts):
            for key in self._store.artifacts(self._model.name):
                if f"/{Precision.FP32}" in key:
                    self._store.remove_artifact(self._model.name, key)

    def _built(self, variant: Variant, folder: Path) -> Built:
        try:
            self._findings.boxes(self._source)
        except LlamapipeError as error:
            raise UsageError(
                f"model {self._model.name} cannot be run here: {error.message}", hint=error.hint
            ) from error
        if variant.precision == Precision.INT8:
            return self._int8(variant, folder)
        return self._judged(variant, None, "")

    def _known(self, variant: Variant) -> Built | None:
        """What came of it an earlier time, where all that it hangs on is the same and all that was kept is there."""
        found = None if self._again else self._store.verdict(variant)
        if found is None or found.basis != self._basis(variant):
            return None
        profiles = [self._store.profile(one.name) for one in self._of_all_threads(variant)]
        if any(profile is None or profile.state != found.state for profile in profiles):
            return None
        ready = found.state == ProfileState.READY
        if ready and variant.precision == Precision.INT8 and self._kept_file(variant) is None:
            return None
        _recall(variant, self._findings, self._store)
        state = ProfileState(found.state)
        more = (found.agreement, found.source, found.note, found.in_float, found.ap50)
        return Built(variant, state, found.reason, *more, known=True)

    def _learn(self, built: Built) -> None:
        """What the variants after it are held against, and how they are quantised."""
        if built.state != ProfileState.READY:
            return
        self._at_size.setdefault(built.variant.input_size, built.variant)
        if built.in_float:
            self._parts.setdefault(built.variant.backend, (built.in_float,))

    def _basis(self, variant: Variant) -> str:
        """Digest of all that a verdict hangs on."""
        versions = [BACKENDS[name].status().version for name in (variant.backend, self._source.backend)]
        if variant.precision == Precision.INT8:
            versions += [_version("nncf"), _version("onnxruntime")]
        model = self._model
        reading = (model.decoder, model.labels, model.format, model.input_sizes)
        facts = (BUILDER, self._sources(), reading, versions, self._judged_by, self._least)
        return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()

    def _judged(self, variant: Variant, file: NetworkFile | None, note: str) -> Built:
        """Held against the first variant of its size, that one against the model at its own size."""
        if variant == self._source:
            ap50 = self._findings.measured(variant, ())
            return Built(variant, ProfileState.READY, note="the source of all others", ap50=ap50)
        reference = self._at_size.get(variant.input_size, self._source)
        same_size = variant.input_size == reference.input_size
        least = self._least if same_size else min(self._least, LEAST_AGREEMENT_OF_SIZES)
        try:
            found = self._findings.agreement(variant, reference, file=file)
        except LlamapipeError as error:
            return Built(variant, ProfileState.REJECTED, f"cannot be loaded: {error.message}", note=note)
        reason = judge(found, reference, least)
        same = variant.precision == reference.precision and same_size
        if same and found.num_reference < LEAST_BOXES:
            reason = ""  # the same network, computed by another library: nothing was changed that could be judged
        state = ProfileState.REJECTED if reason else ProfileState.READY
        return Built(
            variant, state, reason, found, reference, note, ap50=self._findings.measured(variant, (), file=file)
        )

    def _int8(self, variant: Variant, folder: Path) -> Built:
        """Quantise more and more carefully until it finds nearly the same; else the nearest attempt counts."""
        if variant.input_size not in self._at_size:
            return Built(variant, ProfileState.REJECTED, "no variant of this input size passed to be held against")
        attempts: list[tuple[Built, NetworkFile | None]] = []
        for in_float in self._parts.get(variant.backend, FLOAT_PARTS):
            try:
                file = self._quantised(variant, in_float, folder)
            except LlamapipeError as error:
                attempts.append((Built(variant, ProfileState.REJECTED, f"cannot be built: {error.message}"), None))
                continue
            attempt = replace(self._judged(variant, file, f"{in_float} in float"), in_float=in_float)
            attempts.append((attempt, file))
            self._tell(attempt)
            if attempt.agreement is None or attempt.agreement.num_reference < LEAST_BOXES:
                break  # leaving more in float would not help
            if attempt.agreement.f1 >= max(self._least, GOOD_AGREEMENT):
                break
        best, best_file = max(attempts, key=lambda one: -1.0 if one[0].agreement is None else one[0].agreement.f1)
        if best.state == ProfileState.READY and best_file is not None:
            path = best_file.path
            self._store.add_artifact(self._model.name, self._key(variant), path, digest_of(path))
            self._findings.settle(variant, best_file)
        else:
            self._store.remove_artifact(self._model.name, self._key(variant))
            self._findings.settle(variant, None)
        return best

    def _tell(self, attempt: Built) -> None:
        if attempt.agreement is None or attempt.source is None:
            return
        found = f"{attempt.agreement} of {attempt.source.name.rpartition('/')[0]}"
        figures = f"{found}, ap50 {attempt.ap50:.3f}" if attempt.ap50 is not None else found
        self._on_step(f"{attempt.variant.name.rpartition('/')[0]}: {attempt.note}: {figures}")

    def _quantised(self, variant: Variant, in_float: str, folder: Path) -> NetworkFile:
        """Quantised once, at the model's own size: other sizes take over its ranges of values."""
        model, own = self._model, self._model.input_sizes[0]
        decoder = DECODERS[model.decoder]
        by_nncf = variant.backend == "openvino" and not nncf_missing()
        stem = f"{model.name}-int8-{'nncf' if by_nncf else 'qdq'}-{FLOAT_PARTS.index(in_float)}"
        base = folder / (f"{stem}.xml" if by_nncf else f"{stem}.onnx")
        if not base.is_file() and (kept := self._kept_base(variant, in_float)) is not None:
            base = kept
        elif not base.is_file():
            self._on_step(f"{model.name}: int8, {in_float} in float")
            tensors = tensors_of(self._calibration, decoder, own)
            source = rewritten(model, own, self._assets) if model.format == "onnx" else source_file(model, self._assets)
            if by_nncf:
                layout = decoder.preprocess.layout
                copies = [tensor.copy() for tensor in tensors]
                quantise_openvino(source, base, copies, size=own, layout=layout, in_float=in_float)
            else:
                quantise_onnx(source, base, tensors, in_float=in_float)
        path = base
        if not by_nncf and variant.input_size != own:
            path = folder / f"{stem}-{variant.input_size[0]}x{variant.input_size[1]}.onnx"
            if not path.is_file():
                rewrite(base, path, size=variant.input_size, layout=decoder.preprocess.layout)
        return NetworkFile(path, FORMATS[path.suffix])

    def _key(self, variant: Variant) -> str:
        return key_of(variant.backend, variant.precision, variant.input_size)

    def _kept_file(self, variant: Variant) -> Path | None:
        return self._store.artifact(self._model.name, self._key(variant))

    def _kept_base(self, variant: Variant, in_float: str) -> Path | None:
        """The network of the model's own size that an earlier call has quantised so."""
        own = msgspec.structs.replace(variant, input_size=self._model.input_sizes[0])
        if own == variant:
            return None
        found = self._known(own)
        return self._kept_file(own) if found is not None and found.in_float == in_float else None

    def _of_all_threads(self, variant: Variant) -> list[Variant]:
        threads = self._threads if variant.device == "cpu" else self._threads[:1]
        return [msgspec.structs.replace(variant, threads=number) for number in threads]

    def _keep(self, built: Built) -> None:
        digest = self._digest()
        before = self._store.verdict(built.variant)
        same = before is None or before.basis == self._basis(built.variant)  # else what was timed is another network
        profiles: list[Profile] = []
        for variant in self._of_all_threads(built.variant):
            old = self._store.profile(variant.name)
            if old is None or (old.file_sha256 and digest and old.file_sha256 != digest):
                old = Profile(variant, self._store.hardware, accuracy=_published(self._model))
            profiles.append(
                msgspec.structs.replace(
                    old,
                    state=built.state.value,
                    reason=built.reason,
                    points=old.points if built.state == ProfileState.READY and same else (),
                    file_sha256=digest,
                    tasks=self._model.tasks,
                )
            )
        ready = built.state == ProfileState.READY
        found = self._findings.boxes(built.variant, every_score=True) if ready else []
        verdict = Verdict(
            built.variant,
            self._basis(built.variant),
            built.state.value,
            built.reason,
            built.agreement,
            built.source,
            built.note,
            built.in_float,
            built.ap50,
            BUILDER,
            self._findings.digest,
            self._model.labels,
            found_of(found),
        )
        self._store.put_verdict(verdict, *profiles)

    def _digest(self) -> str:
        """Of the network's file; empty where there are several."""
        found = self._sources()
        return found[0] if len(found) == 1 else ""

    def _sources(self) -> list[str]:
        kept = self._store.kept_model(self._model.name)
        return [kept.sha256] if kept is not None else [self._assets.asset(file).sha256 for file in self._model.files]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _published(model: Model) -> tuple[AccuracyFigure, ...]:
    return tuple(
        AccuracyFigure(a.metric, a.value, a.dataset, a.kind.value, *(a.interval or (None, None)))
        for a in model.accuracy
    )


def _alone(variant: Variant) -> Variant:
    return msgspec.structs.replace(variant, threads=1)


def models_of(names: Iterable[str], task: str | None) -> list[Model]:
    """The named models, and all of a task. Raises UsageError."""
    found = {name: model_named(name) for name in names}
    if task is not None:
        found |= {model.name: model for model in find_models(task)}
    return list(found.values())
