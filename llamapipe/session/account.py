"""From what control, the engine and the watcher know to the run's summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from llamapipe.control import WHYS, Controller, SinkAccount, StagePlan
from llamapipe.inference import hardware_fingerprint
from llamapipe.report import (
    Decided,
    FrameCounts,
    Quantiles,
    RunSummary,
    ServedBy,
    SloResult,
    StageSummary,
    StreamSummary,
)
from llamapipe.runtime import EngineResult
from llamapipe.session.costs import CostMeter
from llamapipe.session.objective import Objective
from llamapipe.session.planning import Went, view_of
from llamapipe.session.prepare import Prepared
from llamapipe.session.tuned import AsTuned
from llamapipe.session.watch import StageWatch, Watcher

__all__ = ["summarise"]

_EXIT_OK, _EXIT_FAILED, _EXIT_SLO, _EXIT_LOST, _EXIT_INTERRUPTED = 0, 1, 3, 4, 130
_PACKAGES = ("llamapipe", "av", "numpy", "onnxruntime", "opencv-python", "openvino", "pyzmq", "supervision", "trackers")


def summarise(
    prepared: Prepared,
    controller: Controller,
    watcher: Watcher,
    result: EngineResult,
    costs: CostMeter,
    *,
    ended_s: float,
    started_at: str,
    wall_s: float,
    cpu_s: float,
    observed: Mapping[str, int],
) -> RunSummary:
    """The account of a finished run."""
    streams = _streams(prepared, controller, result, watcher.joined_s)
    frames = _sum([stream.frames for stream in streams])
    latency = watcher.latency.quantiles() if not _unpaced(prepared) else None
    outcome, error = _outcome(result, streams, frames)
    begun_s = watcher.first_dispatch_s
    load_s = wall_s if begun_s is None else max(0.0, begun_s - watcher.started_s)
    went = Went(
        prepared.request.waited_s + load_s,
        frames.decoded if outcome == "done" else 0,
        [watcher.stages[stage.name].busy_s for stage in prepared.plan.stages],
    )
    view = view_of(prepared, went=went)
    slo = _slo(prepared.objective, watcher, wall_s, _whole(frames, watcher), outcome)
    left_s = watcher.last_delivered_s
    running_s = watcher.running_before_s
    if begun_s is not None and left_s is not None:
        running_s += left_s - begun_s
    rate = _rate(streams, watcher, running_s)
    # What a filter leaves out is worked off as what is delivered is: a stretch of video that nobody need look at again.
    done = frames.delivered + sum(frames.filtered.values())
    tuned = AsTuned.of(prepared.request)
    worked = frames.decoded - sum(frames.dropped.values()) - frames.cancelled
    stages = [
        msgspec.structs.replace(
            _stage(plan, watcher, costs.rates[plan.name], rated=tuned is None and view.accuracy is not None),
            **_as_tuned(plan, watcher, tuned),
            frame_ms=1000 * watcher.stages[plan.name].busy_s / worked if prepared.plan.job and worked else None,
            budget_ms=stage.budget_ms,
            decisions=_decisions(plan, controller.decided[plan.name]),
        )
        for plan, stage in zip(prepared.plan.stages, view.stages, strict=True)
    ]
    core_price = prepared.prices.of("cpu")
    core_ms = 1000 * sum(stage.cost for stage in stages) / core_price / worked if core_price and worked else None
    cost = costs.summary(ended_s, sum(stage.cost for stage in stages), frames.delivered)
    return RunSummary(
        pipeline=prepared.compiled.spec.name,
        outcome=outcome,
        error=error,
        exit_code=_exit_code(outcome, result, prepared, slo),
        started_at=started_at,
        wall_s=wall_s,
        load_s=load_s,
        first_frame_s=None
        if watcher.first_delivered_s is None
        else watcher.waited_s + watcher.first_delivered_s - watcher.started_s,
        fps=frames.delivered / running_s if running_s > 0 else 0.0,
        x_realtime=done / running_s / rate if running_s > 0 and rate > 0 else None,
        frames=frames,
        latency_ms=latency,
        slo=slo,
        cost_core_s=cost.device_s.get("cpu", 0.0),
        cpu_s=cpu_s,
        workers=len(prepared.plan.workers),
        stages=stages,
        streams=streams,
        outputs=[file for stream in streams for file in stream.outputs],
        versions=_versions(),
        notes=watcher.notes,
        waited_s=watcher.waited_s,
        cores=watcher.cores,
        changes=watcher.changes,
        cost=cost,
        plan=view,
        hardware=hardware_fingerprint(),
        observed=dict(observed),
        tuning=None if tuned is None else tuned.summary(core_ms),
        fingerprint=dict(prepared.fingerprint),
        folder="" if prepared.request.output is None else str(prepared.request.output),
    )


def _unpaced(prepared: Prepared) -> bool:
    return not prepared.request.realtime and any(spec.kind == "file" for spec in prepared.specs.values())


def _streams(
    prepared: Prepared, controller: Controller, result: EngineResult, joined_s: Mapping[str, float]
) -> list[StreamSummary]:
    ledger = controller.ledger
    summaries: list[StreamSummary] = []
    for name, spec in prepared.specs.items():
        source = prepared.sources.get(name)
        if source is None:  # it never was there
            failure = prepared.failures.get(name) or result.errors.get(name)
            summaries.append(
                StreamSummary(
                    name=name,
                    source=spec.shown,
                    width=0,
                    height=0,
                    fps=None,
                    outcome="failed",
                    error=str(failure) if failure is not None else "it was not there",
                    frames=FrameCounts(),
                    media_s=0.0,
                    outputs=[],
                )
            )
            continue
        info, stats = source.info, source.stats
        accounts = [ledger.accounts[name, sink.name] for sink in prepared.plan.sinks]
        worst = min(accounts, key=lambda account: (account.delivered, -_lost(account)))
        error = result.errors.get(name)
        decoded = ledger.decoded[name]
        summaries.append(
            StreamSummary(
                name=name,
                source=info.uri,
                width=info.width,
                height=info.height,
                fps=float(info.fps) if info.fps else None,
                outcome="lost" if name in result.lost else "failed" if error else result.outcome,
                error=error,
                frames=_counts(decoded, worst),
                media_s=decoded / float(info.fps) if info.fps else 0.0,
                outputs=result.files.get(name, point.files if (point := prepared.point(name)) is not None else []),
                reconnects=stats.reconnects,
                offline_s=stats.offline_s,
                joined_s=joined_s.get(name, 0.0),
            )
        )
    return summaries


def _lost(account: SinkAccount) -> int:
    return sum(account.dropped.values()) + sum(account.failed.values())


def _rate(streams: Sequence[StreamSummary], watcher: Watcher, running_s: float) -> float:
    """Frames a second that the sources give at their own rate: all together, as far as they ran at the same time."""
    total = 0.0
    for stream in streams:
        if stream.fps and stream.frames.decoded:
            begun_s, ended_s = watcher.first_dispatch_s, watcher.last_of.get(stream.name)
            share = 1.0
            # Of those that an earlier process has worked off nobody knows any more when they were.
            if begun_s is not None and ended_s is not None and running_s > 0 and not watcher.running_before_s:
                there_s = ended_s - max(begun_s, watcher.started_s + stream.joined_s)
                share = min(1.0, max(0.0, there_s / running_s))
            total += stream.fps * share
    return total


def _whole(frames: FrameCounts, watcher: Watcher) -> FrameCounts:
    """What became of whole frames, at all sinks together: what an objective is about.

    Of frames that an earlier process has worked off only each sink's account is known, and the worst one stands.
    """
    return frames if watcher.running_before_s else _counts(frames.decoded, watcher.leaving.account)


def _counts(decoded: int, account: SinkAccount) -> FrameCounts:
    return FrameCounts(
        decoded=decoded,
        delivered=account.delivered,
        filtered=dict(account.filtered),
        dropped=dict(account.dropped),
        failed=dict(account.failed),
        cancelled=account.cancelled,
    )


def _sum(counts: list[FrameCounts]) -> FrameCounts:
    filtered: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for count in counts:
        filtered.update(count.filtered)
        dropped.update(count.dropped)
        failed.update(count.failed)
    return FrameCounts(
        decoded=sum(count.decoded for count in counts),
        delivered=sum(count.delivered for count in counts),
        filtered=dict(filtered),
        dropped=dict(dropped),
        failed=dict(failed),
        cancelled=sum(count.cancelled for count in counts),
    )


def _outcome(result: EngineResult, streams: list[StreamSummary], frames: FrameCounts) -> tuple[str, str | None]:
    if result.outcome == "failed":
        hint = f" ({result.hint})" if result.hint else ""
        return "failed", (result.reason or next(iter(result.errors.values()), "the run failed")) + hint
    broken = [stream for stream in streams if stream.error]
    if result.outcome == "done" and broken and len(broken) == len(streams):
        return "failed", broken[0].error
    if result.outcome == "done" and frames.failed and not frames.delivered:
        reason, count = max(frames.failed.items(), key=lambda entry: entry[1])
        return "failed", f"no frame came through: {count} of {frames.decoded} failed with {reason}"
    if broken:
        return result.outcome, f"{broken[0].name}: {broken[0].error}"
    return result.outcome, None


def _slo(objective: Objective, watcher: Watcher, wall_s: float, frames: FrameCounts, outcome: str) -> SloResult | None:
    slo = objective.slo
    if slo is None or not objective.text:
        return None
    if objective.unjudged:
        return SloResult(objective=objective.text, judged=False, reason=objective.unjudged)
    wanted = frames.decoded - sum(frames.filtered.values()) - frames.cancelled
    # What an earlier process delivered, and when, is not known any more.
    attainment = watcher.in_time / wanted if wanted and not watcher.running_before_s else None
    dropped = sum(frames.dropped.values()) / max(1, frames.decoded)
    many = dropped > slo.max_drop_share
    reason = f"{dropped:.1%} of frames were dropped, at most {slo.max_drop_share:.1%} may be" if many else ""
    if slo.deadline_s is not None:
        since_asked_s = watcher.waited_s + wall_s
        met = outcome == "done" and since_asked_s <= slo.deadline_s and not many
        return SloResult(objective.text, True, met, since_asked_s, slo.deadline_s, reason, attainment)
    bound = objective.quantile
    assert bound is not None
    value = watcher.latency.quantile(bound[0])
    if value is None and wanted <= 0:
        return SloResult(objective=objective.text, judged=False, reason="there was no frame to be delivered")
    if value is None:
        reason = reason or "no frame was delivered"
    return SloResult(
        objective=objective.text,
        judged=True,
        met=value is not None and value <= bound[1] and not many,
        value=None if value is None else value * 1000,
        limit=bound[1] * 1000,
        reason=reason,
        attainment=attainment,
    )


def _exit_code(outcome: str, result: EngineResult, prepared: Prepared, slo: SloResult | None) -> int:
    if outcome == "cancelled":
        return _EXIT_INTERRUPTED
    if result.lost:
        return _EXIT_LOST
    if outcome == "failed" or prepared.failures or result.errors:
        return _EXIT_FAILED
    return _EXIT_SLO if slo is not None and slo.met is False else _EXIT_OK


def _stage(plan: StagePlan, watcher: Watcher, rates: Sequence[float], *, rated: bool) -> StageSummary:
    configuration, watch = plan.configuration, watcher.stages[plan.name]
    latency: Quantiles | None = watch.latency.quantiles()
    return StageSummary(
        name=plan.name,
        type=plan.type,
        variant=configuration.variant.name if configuration.variant is not None else None,
        batch=configuration.batch,
        params={**_knobs(plan), **configuration.params},
        items=watch.items,
        invocations=watch.invocations,
        busy_s=watch.busy_s,
        failed=watch.failed,
        latency_ms=latency,
        load_s=sum(watch.load_s),
        replicas=len(watch.load_s),
        served_by=_served_by(plan, watch, rates, rated=rated),
        cost=watch.cost(rates),
        through_ms=watcher.times.through[plan.name].quantiles() if watcher.times is not None else None,
        accuracy=_accuracy(plan, watch) if rated else None,
    )


def _knobs(plan: StagePlan) -> dict[str, Any]:
    """What is found hangs on these as it does on the operator's own parameters, which win where they have the name."""
    configuration = plan.configuration
    knobs: dict[str, Any] = {"sample_fps": plan.sample_fps}
    if configuration.variant is not None:
        knobs |= {"min_score": configuration.min_score, "labels": list(configuration.labels)}
    return knobs


def _as_tuned(plan: StagePlan, watcher: Watcher, tuned: AsTuned | None) -> dict[str, Any]:
    """How right a tuned stage is. Of a run that was changed meanwhile nobody can say: ``shadow`` has what is known."""
    if tuned is None or not tuned.has(plan.name) or any(not change.error for change in watcher.changes):
        return {}
    return {"accuracy": tuned.accuracy, "accuracy_of": tuned.accuracy_of}


def _decisions(plan: StagePlan, decided: Mapping[tuple[int, str], int]) -> list[Decided]:
    found: list[Decided] = []
    for (choice, code), times in sorted(decided.items(), key=lambda entry: (-entry[1], entry[0])):
        variant = plan.choice(choice).variant if choice >= 0 else None
        runs = (variant.name if variant is not None else plan.type) if choice >= 0 else None
        found.append(Decided(runs, code, WHYS.get(code, code), times))
    return found


def _accuracy(plan: StagePlan, watch: StageWatch) -> float | None:
    if not plan.candidates:
        return None
    items = {choice: served[0] for choice, served in watch.served.items()}
    total = sum(items.values())
    ways = plan.ways
    return sum(n * ways[choice].accuracy for choice, n in items.items()) / total if total else None


def _served_by(plan: StagePlan, watch: StageWatch, rates: Sequence[float], *, rated: bool) -> list[ServedBy]:
    if len(plan.ways) < 2:
        return []
    found: list[ServedBy] = []
    for choice, (items, invocations, busy_s) in sorted(watch.served.items()):
        variant = plan.choice(choice).variant
        name = None if variant is None else variant.name
        accuracy = plan.ways[choice].accuracy if rated else None
        found.append(ServedBy(name, int(items), int(invocations), busy_s, busy_s * rates[choice], accuracy, choice))
    return found


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
