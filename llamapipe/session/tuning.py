"""``llamapipe tune``: the cheapest configuration of a pipeline for a video, found by trying a few on sampled frames."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from llamapipe.clock import Clock, Env, SystemClock, system_env
from llamapipe.errors import InterruptedRun, QueryRefused, UsageError
from llamapipe.inference import AssetStore, cache_root, open_catalogue
from llamapipe.inference.hardware import fingerprint
from llamapipe.session.costs import prices_for
from llamapipe.session.labelled import Row, read_truths
from llamapipe.session.likeness import unlike_the_first
from llamapipe.session.pinned import as_sets, digest_of_pipeline, of_stages
from llamapipe.session.prepare import OnAsset, profiles_here
from llamapipe.session.processes import parse_workers
from llamapipe.session.refusing import SPENT, closest, nearest, refusal
from llamapipe.session.request import RunRequest
from llamapipe.session.resolve import LoadedPipeline, check_floor, load_pipeline
from llamapipe.session.searching import OnStep, search_configuration
from llamapipe.session.stillness import looks_at
from llamapipe.session.stretches import Stretches, decode_stretches, part_s
from llamapipe.session.targets import Targets
from llamapipe.session.trials import Judge, Trials, judged_results
from llamapipe.session.tunable import Choice, Tunable, asked_knobs, still_stages, tunable
from llamapipe.session.tune_request import TuneRequest
from llamapipe.session.tuned_video import tuned_video
from llamapipe.spec import format_slo, parse_slo
from llamapipe.spec.accuracy_text import check_share
from llamapipe.spec.model import SloSpec
from llamapipe.spec.names import did_you_mean
from llamapipe.spec.yaml_tree import parse_scalar
from llamapipe.tune import (
    LIKE,
    Interval,
    Observation,
    Tuning,
    distance,
    signature_of,
)

__all__ = [
    "Tuned",
    "tune",
    "tune_for",
    "tune_on",
]

_SHARE_OF_MEDIA = 0.1
_SHARE_OF_DEADLINE = 0.1  # of a run that waits for it
_SHORT_MEDIA_S = 30.0  # a tenth of what is shorter is not enough to load a few networks
_SHORT_BUDGET_S = 10.0
_MOST_UNASKED_S = 30.0  # that a run takes for what it needs to know of variants
_LEAST_BUDGET_S = 3.0
_USUAL_FLOOR = 0.9
_ANY_FPS = 25.0  # of a video that was not opened: enough to sample from
_SEARCH = 3  # of the way to search: what an earlier one has found is not taken for what this one would find
_STRETCHES = 4
_FRAMES = (40, 480)  # fewest and most that are looked at
_REFERENCE_SHARE = 0.35  # of the budget that the reference's frames may take
_SLACK = 4.0  # times the boxes that would prove the floor if all agreed
_CROWD = 3.0  # items a frame of a stage that works on crops, before anything is known of them
_GUESS_CORE_S = 0.03  # a frame, of what nothing is known of
_Z = 1.96  # of a 95 % interval
_FAR = 2.0  # times the distance of a like video, up to which another one tells where to begin
_HINT_NOISE = 0.2  # relative, of another video's cost
_BESIDE = 2.0  # times the budget, for a search that has only what a run leaves of the machine
_REFERRED = ("model", "backend", "device", "precision", "input_size")
_SEARCHED = (*_REFERRED, "batch", "sample_fps", "skip_still")  # of every stage with a model
_STILL = (0.004, 0.016)  # shares of the picture that must change for a stage to look, tried where little does
_PAYS = 0.85  # share of frames that change, above which skipping the others is not tried
_HINT_WIDTH = 0.1  # of another video's accuracy, either side


@dataclass(frozen=True, slots=True)
class Tuned:
    """``cached_from``: the like video that was searched before, and how far it is; None: searched now.

    ``unlike``: what to tell of a run's other videos, which were not tuned for; empty: they are alike, or there is none.
    """

    tuning: Tuning
    cached_from: tuple[str, float] | None = None
    unlike: str = ""

    def __str__(self) -> str:
        if self.cached_from is not None:
            name, far = self.cached_from
            return f"answered without a search: {name} was tuned for and is alike (distance {far:.2f})"
        tuning = self.tuning
        return f"tuned in {tuning.took_s:.1f} s: {len(tuning.tried)} of {tuning.points} configurations tried"


def tune(
    request: TuneRequest,
    *,
    on_step: OnStep = lambda _: None,
    on_asset: OnAsset | None = None,
    interrupt: threading.Event | None = None,
    clock: Clock | None = None,
    env: Env | None = None,
) -> Tuned:
    """Find the cheapest configuration that meets floor and objective on this video, within the budget.

    What is found is kept, and a like video is answered from it without a search. Raises UsageError, SpecError,
    SourceError, AssetError, and InterruptedRun.
    """
    check_floor(request.min_accuracy, request.sets)
    clock = clock if clock is not None else SystemClock()
    env = env if env is not None else system_env()
    return _Tuning(request, on_step, on_asset, interrupt or threading.Event(), clock, env).run()


def tune_for(
    request: RunRequest,
    *,
    on_step: OnStep = lambda _: None,
    interrupt: threading.Event | None = None,
    clock: Clock | None = None,
    env: Env | None = None,
) -> Tuned | None:
    """Tune for the first source of a run, with what the run asks for; where nothing fits, what comes close enough.

    None: there is nothing to choose. Raises also QueryRefused: nothing comes close.
    """
    if not request.sources:
        raise UsageError("--tune: there is no video to tune for", hint="add -i VIDEO")
    check_floor(request.min_accuracy, request.sets)
    asked = replace(TuneRequest.of_run(request, request.sources[0]), slo=request.slo, before_run=True)
    clock = clock if clock is not None else SystemClock()
    env = env if env is not None else system_env()
    search = _Tuning(asked, on_step, None, interrupt or threading.Event(), clock, env)
    if not search.has_choice():
        return None
    tuned = search.run()
    tuning = tuned.tuning
    slo = parse_slo(tuning.objective) if tuning.objective else None
    if not tuning.feasible:
        if (close := closest(tuning)) is None:
            raise QueryRefused(refusal(tuning), why="constraint", nearest=nearest(tuning))
        tuned = Tuned(close)
    return replace(tuned, unlike=unlike_the_first(request, slo, recorded=search.recorded, clock=clock, env=env))


def tune_on(
    held: Stretches, like: Tuning, run: RunRequest, *, interrupt: threading.Event, clock: Clock, env: Env
) -> Tuning:
    """Search anew for what another tuning is for, on these frames, in one worker and within twice its budget.

    Latency is left out: beside a run it would be that of both. Raises what `tune` raises.
    """
    # Knobs that the user had tried stay as they were found: a run could not change them while it goes on.
    kept = {key: value for key, value in like.values.items() if key.rpartition(".")[2] not in _SEARCHED}
    reference = {key: value for key, value in like.reference.items() if key.rpartition(".")[2] in _REFERRED}
    request = replace(
        TuneRequest.of_run(run, run.sources[0]),
        sets={**as_sets(kept), **run.sets},
        min_accuracy=like.floor,
        budget_s=_BESIDE * max(_LEAST_BUDGET_S, like.budget_s),
        reference=as_sets(reference),
        workers=1,
        again=True,
    )
    return _Tuning(request, lambda _: None, None, interrupt, clock, env).run_on(held, like)


class _Tuning:
    def __init__(
        self,
        request: TuneRequest,
        on_step: OnStep,
        on_asset: OnAsset | None,
        interrupt: threading.Event,
        clock: Clock,
        env: Env,
    ) -> None:
        self._request = request
        self._on_step = on_step
        self._on_asset = on_asset
        self._interrupt = interrupt
        self._clock = clock
        self._env = env
        self._prices = prices_for(request.prices, env)
        self._began_s = clock.now_s()
        self.recorded = False  # whether what is tuned on is a piece of a live source

    def has_choice(self) -> bool:
        """Whether there is more than one configuration. A trial of the only one would tell a run nothing new."""
        loaded = self._load(self._request.sets)
        return bool(still_stages(loaded)) or len(self._choices(loaded, _ANY_FPS).space.points) > 1

    def run(self) -> Tuned:
        request = self._request
        parse_workers(request.workers)  # before any trial is one of too few
        loaded = self._load(request.sets)
        self._check_labels(loaded)
        slo = parse_slo(request.slo) if request.slo is not None else loaded.spec.slo
        with tuned_video(
            request,
            clock=self._clock,
            env=self._env,
            on_step=self._on_step,
            on_asset=self._on_asset,
            interrupt=self._interrupt,
        ) as video:
            self.recorded = video.recorded
            if video.recorded:  # which takes as long as it is: the budget is for what comes now
                self._began_s = self._clock.now_s()
            budget_s = self._budget_s(part_s(video.info, *video.part), slo)
            plain = self._choices(loaded, float(video.info.fps or 25))
            count = self._num_frames(plain, budget_s)
            held = decode_stretches(video.source, video.info, count, _STRETCHES, clock=self._clock, part=video.part)
        slo = None if request.variants_alone else slo
        luma = held.luma()
        stages = [] if request.variants_alone else still_stages(loaded)
        looks = looks_at(luma, held, loaded.registry, _STILL) if stages else {}
        skipping = self._choices(loaded, held.fps, dict.fromkeys(stages, looks))
        choices = skipping if looks.get(_STILL[0], 1.0) <= _PAYS else plain
        blank = self._blank(loaded, choices, held, luma, video.name, budget_s)
        blank = msgspec.structs.replace(blank, objective="" if slo is None else format_slo(slo))
        key = self._key(blank)
        known = self._known(blank, key)
        if known is not None and known[1] <= LIKE and not request.again:
            tuned, far = known
            targets = self._targets(blank, held, self._left(slo, self._clock.now_s() - self._began_s))
            # The like video may have had a little more motion, or a little less.
            if any(_still_holds(tuned, those, targets) for those in (plain, skipping)):
                return Tuned(tuned, (tuned.video, far))
        tuning = self._searched(loaded, choices, held, blank, self._left(slo, budget_s), known)
        # Where there was no time for more than the reference, another day may have it.
        if tuning.feasible and (len(tuning.tried) > 1 or tuning.points == 1 or tuning.took_s < SPENT * budget_s):
            with open_catalogue(self._env, clock=self._clock) as store:
                store.put_tuning(key, tuning)
        return Tuned(tuning)

    def _budget_s(self, media_s: float, slo: SloSpec | None) -> float:
        request = self._request
        usual_s = _usual_budget_s(media_s)
        usual_s = min(usual_s, _MOST_UNASKED_S) if request.variants_alone else usual_s
        budget_s = usual_s if request.budget_s is None else request.budget_s
        if not 0 < budget_s < inf:
            raise UsageError(
                f"--budget-s {budget_s:g}: expected more than 0, and no infinity", hint="for example --budget-s 60"
            )
        if request.before_run and slo is not None and slo.deadline_s is not None:
            budget_s = min(budget_s, _SHARE_OF_DEADLINE * slo.deadline_s)
        return budget_s

    def run_on(self, held: Stretches, like: Tuning) -> Tuning:
        """Search on these frames, without latency, for what a run with another tuning can be changed to."""
        budget_s = self._request.budget_s
        assert budget_s is not None
        loaded = self._load(self._request.sets)
        luma = held.luma()
        looks = {
            stage: looks_at(luma, held, loaded.registry, [float(like.values[f"{stage}.skip_still"])])
            for stage in still_stages(loaded)
            if f"{stage}.skip_still" in like.values
        }
        choices = self._choices(loaded, held.fps, looks)
        blank = self._blank(loaded, choices, held, luma, Path(held.info.uri).name, budget_s)
        tuning = self._searched(loaded, choices, held, blank, None, None)
        return msgspec.structs.replace(tuning, objective=like.objective)

    def _choices(
        self, loaded: LoadedPipeline, fps: float, looks: Mapping[str, Mapping[float, float]] | None = None
    ) -> Tunable:
        found = tunable(
            loaded,
            profiles_here(self._env),
            AssetStore(cache_root(self._env), env=self._env),
            fps=fps,
            asked=asked_knobs(self._request.knobs),
            reference={key: parse_scalar(value) for key, value in self._request.reference.items()},
            prices=self._prices,
            looks=looks,
        )
        return found.variants_alone() if self._request.variants_alone else found

    def _blank(
        self,
        loaded: LoadedPipeline,
        choices: Tunable,
        held: Stretches,
        luma: Sequence[NDArray[np.uint8]],
        video: str,
        budget_s: float,
    ) -> Tuning:
        """What is known of the tuning before anything was tried."""
        floor, metric = self._floor(loaded)
        info = held.info
        return Tuning(
            pipeline=loaded.spec.name,
            digest=digest_of_pipeline(self._load({}).spec),
            objective="",
            metric=metric,
            floor=floor,
            hardware=fingerprint(),
            signature=signature_of(luma, width=info.width, height=info.height, fps=held.fps),
            video=video,
            values={},
            predicted=None,
            reference={},
            tried=(),
            points=len(choices.space.points),
            frames=len(held.frames),
            budget_s=budget_s,
            took_s=0.0,
            notes=tuple(choices.notes),
        )

    def _load(self, sets: Mapping[str, str]) -> LoadedPipeline:
        request = self._request
        # A search beside a run has the floor of the first one, whatever the run's own settings were.
        least = None if {"accuracy.min", "accuracy.metric"} & sets.keys() else request.min_accuracy
        return load_pipeline(
            request.pipeline,
            env=self._env,
            params=request.params,
            sets=sets,
            ops_files=request.ops_files,
            min_accuracy=least,
        )

    def _check_labels(self, loaded: LoadedPipeline) -> None:
        """That they can be read and compared, before anything is decoded or tried."""
        labels, stage = self._request.labels, self._request.labels_stage
        if stage is not None and labels is None:
            raise UsageError(f"--labels-stage {stage}: there are no labels", hint="give them with --labels FILE")
        if labels is not None and not read_truths(labels)[0]:
            raise UsageError(f"labels {labels} hold no boxes")
        if stage is not None:
            manifests = {op.name: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
            known = [name for name, manifest in manifests.items() if "boxes" in manifest.outputs]
            known += [result.split(".")[0] for result in judged_results(loaded.spec, manifests)]
            if stage not in known:
                expected = f"expected one of {', '.join(dict.fromkeys(known)) or '(none)'}"
                raise UsageError(
                    f"--labels-stage {stage}: no stage of {loaded.spec.name} that finds boxes has this name",
                    hint=did_you_mean(stage, known, expected),
                )

    def _floor(self, loaded: LoadedPipeline) -> tuple[float, str]:
        """(floor, metric): the command line's, else the pipeline's, else a usual one."""
        request, spec = self._request, loaded.spec.accuracy
        metric = "agreement" if request.labels is None else "ap50"
        floor = request.min_accuracy
        if floor is None and spec is not None and (spec.metric or "agreement") == metric:
            floor = spec.min
        if floor is None and metric == "ap50":
            raise UsageError("--labels: say how right is right enough", hint="for example: --min-accuracy 0.6")
        floor = _USUAL_FLOOR if floor is None else floor
        check_share(floor)
        return floor, metric

    def _num_frames(self, choices: Tunable, budget_s: float) -> int:
        """As many as the reference could work off in its share of the budget, were there nothing but models to run."""
        core_s = sum(
            (1.0 if stage.per_frame else _CROWD)
            * (stage.core_s(*choices.variant(choices.reference, stage)) or _GUESS_CORE_S)
            for stage in choices.stages
        )
        frames = round(_REFERENCE_SHARE * budget_s / max(core_s, 1e-3))
        if self._request.budget_frames is not None:
            frames = min(frames, self._request.budget_frames // 4)
        return max(_FRAMES[0], min(_FRAMES[1], frames))

    def _more(self, budget_s: float, choices: Tunable) -> str:
        """What lets more frames be looked at: more of the budget that bounds them."""
        most, frames = self._request.budget_frames, _FRAMES[1]
        if most is not None and most // 4 <= self._num_frames(choices, budget_s) < frames:
            return "a larger --budget-frames"
        return "a longer --budget-s"

    def _key(self, blank: Tuning) -> str:
        """All that a tuning hangs on, but for the video and the machine."""
        request = self._request
        return msgspec.json.encode(
            [
                *(_SEARCH, request.variants_alone),
                *(blank.digest, blank.objective, blank.metric, blank.floor, dict(request.sets), list(request.knobs)),
                *(dict(request.reference), str(request.workers or ""), self._labels(), request.labels_stage or ""),
                *([self._prices.model_dump(mode="json")] if self._prices.devices else []),
            ],
            order="deterministic",
        ).decode()

    def _labels(self) -> str:
        """Digest of the labels: the same file may say something else tomorrow."""
        labels = self._request.labels
        if labels is None:
            return ""
        try:
            return hashlib.sha256(labels.read_bytes()).hexdigest()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"labels {labels} cannot be read: {reason}", hint="expected a file of labels") from error

    def _known(self, blank: Tuning, key: str) -> tuple[Tuning, float] | None:
        """The tuning of the most alike video, and how far it is; None where none tells anything of this one."""
        with open_catalogue(self._env, clock=self._clock) as store:
            found = [(t, distance(t.signature, blank.signature)) for t in store.tunings(key)]
        near = min(found, key=lambda entry: entry[1], default=None)
        return near if near is not None and near[1] <= _FAR * LIKE else None

    def _searched(
        self,
        loaded: LoadedPipeline,
        choices: Tunable,
        held: Stretches,
        blank: Tuning,
        slo: SloSpec | None,
        known: tuple[Tuning, float] | None,
    ) -> Tuning:
        request = self._request
        manifests = {op.name: loaded.registry.manifest(op.type) for op in loaded.spec.ops}
        results, truths = judged_results(loaded.spec, manifests), None
        if request.labels is not None:
            results, truths = self._labelled(results, held, request.labels)
        judge = Judge(results, truths)
        targets = self._targets(blank, held, slo)
        stop = threading.Event()
        run = RunRequest(
            request.pipeline,
            [request.source],
            params=request.params,
            sets=of_stages(request.sets),
            workers=request.workers,
            ops_files=request.ops_files,
        )
        evaluator = Trials(
            run,
            blank,
            held,
            judge,
            reference_s=_REFERENCE_SHARE * blank.budget_s,
            enough=_enough(blank.floor),
            interrupt=stop,
            clock=self._clock,
            env=self._env,
            prices=self._prices,
        )
        over = threading.Event()
        alarm = threading.Thread(target=self._ring, args=(stop, over, blank.budget_s), daemon=True)
        alarm.start()
        try:
            found = search_configuration(
                evaluator,
                choices,
                targets,
                budget_s=blank.budget_s,
                budget_frames=request.budget_frames,
                began_s=self._began_s,
                clock=self._clock,
                hints=_hints(known, choices),
                seed=request.seed,
                on_step=self._on_step,
            )
        finally:
            over.set()
            alarm.join()
            evaluator.close()
        if self._interrupt.is_set():
            raise InterruptedRun("the tuning was interrupted; nothing is kept of it")
        notes = [*blank.notes, *_remarks(judge, choices, blank.floor, self._more(blank.budget_s, choices))]
        own = _own(request.sets)
        return msgspec.structs.replace(
            blank,
            metric=judge.metric,
            values={} if found.best is None else {**own, **found.best.values},
            predicted=None if found.best is None else found.best.predicted,
            reference=choices.choices[choices.reference],
            frames=evaluator.num_frames,
            tried=tuple(found.tried),
            nearest=found.nearest,
            close=found.close and msgspec.structs.replace(found.close, values={**own, **found.close.values}),
            took_s=self._clock.now_s() - self._began_s,
            notes=tuple(notes),
        )

    def _left(self, slo: SloSpec | None, spent_s: float) -> SloSpec | None:
        """What a run that waits has of its deadline when so long was spent on tuning."""
        if slo is None or slo.deadline_s is None or not self._request.before_run:
            return slo
        return slo.model_copy(update={"deadline_s": max(1e-3, slo.deadline_s - spent_s)})

    def _targets(self, blank: Tuning, held: Stretches, slo: SloSpec | None) -> Targets:
        num_frames = held.info.num_frames or round(held.media_s * held.fps)
        latency, deadline_s = (None, None) if slo is None else (slo.latency, slo.deadline_s)
        return Targets(blank.floor, latency, deadline_s, num_frames, held.fps)

    def _labelled(
        self, results: Sequence[str], held: Stretches, labels: Path
    ) -> tuple[list[str], dict[int, list[Row]]]:
        """The one result that labels are compared with, and the truths of the frames that are looked at."""
        rows, labelled, _ = read_truths(labels)
        mine = set(held.indices) & labelled
        if not mine:
            raise UsageError(f"{labels} labels none of the {len(held.indices)} frames that are looked at")
        wanted = self._request.labels_stage
        stages = [name for name in results if wanted is None or name.split(".")[0] == wanted]
        if wanted is not None and not stages:
            stages = [f"{wanted}.boxes"]
        if len(stages) != 1:
            raise UsageError(
                f"--labels: {len(stages)} results could be compared with them: {', '.join(stages)}",
                hint="say which: --labels-stage STAGE",
            )
        return stages, {index: [row for row in rows if row.frame == index] for index in sorted(mine)}

    def _ring(self, stop: threading.Event, over: threading.Event, budget_s: float) -> None:
        """Stop what is being tried when the budget is used up, or the user has had enough."""
        while not over.wait(0.02):
            if self._interrupt.is_set() or self._clock.now_s() - self._began_s >= budget_s:
                stop.set()
                return


def _usual_budget_s(media_s: float) -> float:
    """Seconds that tuning may take where the user does not say."""
    return _SHARE_OF_MEDIA * media_s if media_s >= _SHORT_MEDIA_S else _SHORT_BUDGET_S


def _enough(floor: float) -> int:
    """Boxes from which a configuration that is a little better than the floor can be told to be so (Wilson, 1927)."""
    return round(_SLACK * _Z**2 * floor / max(0.01, 1 - floor))


def _own(sets: Mapping[str, str]) -> dict[str, Any]:
    """What the user has set, of stages: it is part of the configuration."""
    return {key: parse_scalar(value) for key, value in of_stages(sets).items()}


def _remarks(judge: Judge, choices: Tunable, floor: float, more: str) -> list[str]:
    if not choices.accurate:
        return ["nothing that is tuned changes what comes out: cost alone was looked at"]
    if judge.metric == "none":
        return ["the pipeline's sinks have no boxes to compare, so nobody knows what a configuration does to results"]
    if judge.metric == "agreement" and not judge.found:
        return [f"the reference found nothing in the frames that were looked at: try {more}"]
    fewest = round(_enough(floor) / _SLACK)
    if judge.metric == "agreement" and judge.found < fewest:
        too_few = f"{judge.found} boxes in the frames that were looked at are too few to prove a floor of {floor:g}"
        return [f"{too_few}, which takes {fewest} at least: try {more}"]
    return []


def _still_holds(tuning: Tuning, choices: Tunable, targets: Targets) -> bool:
    """Whether there is still the same to choose from: no variant is gone, and none has come since.

    And whether it is fast enough for this video: a deadline is another one where there are more frames.
    """
    if tuning.predicted is None or targets.shortfall(tuning.predicted) > 0:
        return False
    there = any(choice.items() <= tuning.values.items() for choice in choices.choices.values())
    return there and tuning.points == len(choices.space.points)


def _hints(known: tuple[Tuning, float] | None, choices: Tunable) -> list[Observation]:
    """What another video was found to take, less sure the less it is alike."""
    if known is None:
        return []
    tuning, far = known
    places = {_frozen(choice): point for point, choice in choices.choices.items()}
    found: list[Observation] = []
    for tried in tuning.tried:
        point = places.get(_frozen(tried.values))
        if point is None or tried.predicted is None:
            continue
        low = tried.predicted.accuracy_low
        width = _HINT_WIDTH + far
        measured = {} if low is None else {"accuracy": Interval(low, low - width, low + width)}
        found.append(
            Observation(point, tried.predicted.cost_core_ms, noise=_HINT_NOISE + far, measured=measured, hint=True)
        )
    return found


def _frozen(choice: Choice) -> bytes:
    return msgspec.json.encode(dict(choice), order="deterministic")
