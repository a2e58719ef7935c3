"""``llamapipe run``: the main job."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llamapipe.cli import completion
from llamapipe.cli.failures import INTERRUPTED
from llamapipe.cli.options import (
    OpsFiles,
    PricesFile,
    Quiet,
    Sets,
    Verbose,
    assignments,
    number_or_word,
    seconds,
    terminal_of,
)
from llamapipe.cli.terminal import Terminal
from llamapipe.errors import UsageError

if TYPE_CHECKING:
    from llamapipe.report import PlanView
    from llamapipe.session import Progress, RunRequest

__all__ = ["check_machine", "run", "sampled"]


class DropChoice(StrEnum):
    """What happens to frames that come faster than they are worked off."""

    BLOCK = "block"
    DROP_OLDEST = "drop-oldest"
    DROP_NEWEST = "drop-newest"


_SOURCE = "Sources and time"
_OUTPUT = "Output"
_OBJECTIVE = "Pipeline and objective"


def run(
    ctx: typer.Context,
    pipeline: Annotated[
        str,
        typer.Argument(
            metavar="PIPELINE",
            help="Built-in name, YAML file, or file.py:name.",
            show_default=False,
            autocompletion=completion.pipelines,
        ),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "-i",
            "--input",
            metavar="SOURCE",
            help="File, folder, glob, rtsp://, http(s)://, .m3u8, camera index, or sample:bikes; repeatable.",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Folder for every file.", rich_help_panel=_OUTPUT),
    ] = None,
    sets: Sets = None,
    slo: Annotated[
        str | None,
        typer.Option(
            "--slo",
            metavar="SLO",
            help="Objective: p95=200ms (p50, p99) or deadline=30s.",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy",
            metavar="SHARE",
            help="Least agreement with the reference. Left out: the pipeline's, if it has one.",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="What llamapipe tune found for a video like these; --set goes before it.",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Tune for the first video, or take what is known of one like it. Takes a tenth of its length, "
            "10 s of a short one.",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = False,
    shadow: Annotated[
        float,
        typer.Option(
            "--shadow",
            metavar="SHARE",
            help="Share of frames on which the configuration is compared with its reference meanwhile; 0.02 is plenty.",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = 0.0,
    retune: Annotated[
        bool,
        typer.Option(
            "--retune/--no-retune",
            help="Where --shadow finds it below the floor: run the reference, and search anew meanwhile.",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = True,
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="TIME", help="Begin at: seconds or h:mm:ss.", rich_help_panel=_SOURCE),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--end", metavar="TIME", help="Stop before: seconds or h:mm:ss.", rich_help_panel=_SOURCE),
    ] = None,
    max_frames: Annotated[
        int | None,
        typer.Option("--max-frames", metavar="N", min=1, help="At most N frames a source.", rich_help_panel=_SOURCE),
    ] = None,
    loop: Annotated[
        int, typer.Option("--loop", metavar="N", min=1, help="Play files N times.", rich_help_panel=_SOURCE)
    ] = 1,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Pace files at their own rate, like a camera.", rich_help_panel=_SOURCE)
    ] = False,
    reconnect_for: Annotated[
        float | None,
        typer.Option(
            "--reconnect-for",
            metavar="SECONDS",
            min=0,
            help="Call a live source back for so long, and try so long for its first connection; 0: never. "
            "Left out: 60, and the first connection is tried once, or as long as other sources go on.",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    stall_timeout: Annotated[
        float,
        typer.Option(
            "--stall-timeout",
            metavar="SECONDS",
            help="Call a live source back that sends nothing for so long.",
            rich_help_panel=_SOURCE,
        ),
    ] = 5.0,
    drop_policy: Annotated[
        DropChoice | None,
        typer.Option(
            "--drop-policy",
            help="When frames come too fast. Left out: block for files, drop-oldest for live sources.",
            rich_help_panel=_SOURCE,
        ),
    ] = None,
    sinks: Annotated[
        list[str] | None,
        typer.Option(
            "--sink",
            metavar="KIND=PATH",
            help="One more output: video, jsonl, csv, parquet, mot, coco, frames, webhook; repeatable.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            "--workers",
            metavar="KIND",
            help="thread, process, a number, or both as in process:3. Left out: thread; one more than cores.",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    cores: Annotated[
        str | None,
        typer.Option(
            "--cores",
            metavar="N|all",
            help="Use so many cores. Left out: all, and as few as meet it where there is an objective.",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    invocation_timeout: Annotated[
        float | None,
        typer.Option(
            "--invocation-timeout",
            metavar="SECONDS",
            help="Replace a worker that takes longer over one batch. Left out: 20 times the usual, 10 s at least.",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="MECHANISM",
            help="Switch off, to see what it brings: feedback, late-commit, delayed-batching, deep-first, stragglers "
            "or fusing; repeatable.",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = None,
    ops: OpsFiles = None,
    prices: PricesFile = None,
    events: Annotated[
        bool, typer.Option("--events", help="Write events.jsonl, which can be replayed.", rich_help_panel=_OUTPUT)
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Say what is planned and why, and at the end how it was decided.",
            rich_help_panel=_OBJECTIVE,
        ),
    ] = False,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print the run's summary as JSON on stdout.", rich_help_panel=_OUTPUT),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run, and stop.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with a run that was killed, where DIR holds one.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write into a folder that holds an earlier run.", rich_help_panel=_OUTPUT),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> int:
    """Run a pipeline on videos or streams.

    llamapipe run blur-faces -i sample:bikes -o out
    """
    from dataclasses import replace

    from llamapipe.clock import SystemClock
    from llamapipe.session import RunRequest

    terminal = terminal_of(ctx)
    params, stage_sets = assignments(sets)
    request = RunRequest(
        pipeline=pipeline,
        sources=sources or [],
        output=output,
        params=params,
        sets=stage_sets,
        slo=slo,
        min_accuracy=min_accuracy,
        start_s=seconds("--start", start),
        end_s=seconds("--end", end),
        max_frames=max_frames,
        loop=loop,
        realtime=realtime,
        reconnect_for_s=reconnect_for,
        stall_timeout_s=stall_timeout,
        drop_policy=drop_policy.value if drop_policy else None,
        sinks=sinks or [],
        ops_files=ops or [],
        force=force,
        workers=workers,
        cores=number_or_word(cores),
        invocation_timeout_s=invocation_timeout,
        record_events=events,
        resume=resume,
        prices=prices,
        config=config,
        shadow=shadow,
        retune=retune,
        without=without or [],
    )
    clock = SystemClock()
    asked_s = clock.now_s()
    if config is not None:
        check_machine(config, terminal)
    if tune:
        if config is not None:
            raise UsageError("--tune finds a configuration, --config gives one", hint="leave one of them out")
        request = _tuned(request, terminal)
    if request.agreed is None:
        request = sampled(request, terminal)
    request = replace(request, waited_s=clock.now_s() - asked_s)
    return (_plan if dry_run else _run)(request, terminal, json, explain=explain)


def check_machine(config: Path, terminal: Terminal) -> None:
    """Warn where the configuration was tuned on another machine. Raises UsageError for a file that is none."""
    from llamapipe.session.pinned import read_pinned, unlike

    warning = unlike(read_pinned(config))
    if warning is not None:
        terminal.warning(warning)


def _tuned(request: RunRequest, terminal: Terminal) -> RunRequest:
    """The request with what tuning for its first video finds; as it is where there is no time for that.

    One that goes on with a run is given what was found for that.

    Raises QueryRefused where nothing comes close.
    """
    from dataclasses import replace

    from llamapipe.cli.tuning import TrialLines
    from llamapipe.clock import SystemClock, system_env
    from llamapipe.session.agreeing import with_agreements
    from llamapipe.session.checkpoints import killed_before
    from llamapipe.session.refusing import described, refusal
    from llamapipe.session.searching import BudgetTooShort
    from llamapipe.session.tuning import tune_for

    if (earlier := killed_before(request)) is not None:
        if earlier.tuning is None:
            return _unwatched(request, terminal)
        return replace(request, config=earlier.tuning)
    try:
        with TrialLines(terminal) as lines:
            tuned = tune_for(request, on_step=lines.show)
    except BudgetTooShort as error:
        why = f"{error.message}; give more with llamapipe tune --budget-s, and --config"
        terminal.warning(f"it runs untuned: {why}")
        request = _unwatched(request, terminal)
        return with_agreements(request, clock=SystemClock(), env=system_env(), untried=why)
    if tuned is None:
        terminal.note(f"{request.pipeline} has one configuration here: there is nothing to tune")
        return _unwatched(request, terminal)
    terminal.note(str(tuned))
    if (close := tuned.tuning.close) is not None:
        terminal.warning(f"{refusal(tuned.tuning)}; it runs with what came closest: {described(close)}")
    if tuned.unlike:
        terminal.warning(tuned.unlike)
    return replace(request, config=tuned.tuning, remarks=[*request.remarks, *filter(None, [tuned.unlike])])


def _unwatched(request: RunRequest, terminal: Terminal) -> RunRequest:
    """Without --shadow, which compares what tuning has found with its reference."""
    from dataclasses import replace

    if request.shadow:
        terminal.warning("--shadow is left out: nothing was tuned that could be compared")
    return replace(request, shadow=0.0)


def sampled(request: RunRequest, terminal: Terminal) -> RunRequest:
    """The request with what its floor needs to know of variants on its own video."""
    from llamapipe.cli.tuning import TrialLines
    from llamapipe.clock import SystemClock, system_env
    from llamapipe.session.agreeing import with_agreements

    known = len(request.remarks)
    with TrialLines(terminal) as lines:
        request = with_agreements(request, clock=SystemClock(), env=system_env(), on_step=lines.show)
    if request.agreed is not None:
        terminal.note(request.agreed.note)
    for remark in request.remarks[known:]:
        terminal.warning(remark)
    return request


def _plan(request: RunRequest, terminal: Terminal, json: bool, *, explain: bool) -> int:
    from llamapipe.cli.planning import show_plan
    from llamapipe.session import plan_run

    preview = plan_run(request, explain=explain)
    if json:
        terminal.json(preview.to_dict())
        return 0
    terminal.data(str(preview))
    if preview.plan is not None:
        terminal.data("")
        show_plan(preview.plan, terminal)
    return 0


def _run(request: RunRequest, terminal: Terminal, json: bool, *, explain: bool) -> int:
    import threading

    from llamapipe.cli.interrupts import first_finalises
    from llamapipe.cli.planning import show_plan
    from llamapipe.cli.progress import ProgressLine
    from llamapipe.cli.summary import show_decisions, show_summary
    from llamapipe.session import killed_before, look_back
    from llamapipe.session import run as run_session

    begun = threading.Event()
    if request.resume and request.output is not None:
        left = look_back(request.output)
        if left.kind == "complete":
            summary = run_session(request)  # checks that it is this run, and does no more
            terminal.note(f"{request.output}: {left}, nothing is left to do")
            if json:
                terminal.json(summary)
            return 0
        if left.kind == "killed":
            terminal.note(f"{request.output}: {left}")
        elif left.kind == "nothing":
            terminal.note(f"{request.output}: {left}, beginning anew")
    try:
        with first_finalises(terminal, begun.is_set) as interrupt, ProgressLine(terminal) as line:

            def show(progress: Progress) -> None:
                begun.set()
                line.show(progress)

            def tell(plan: PlanView) -> None:
                show_plan(plan, terminal)

            # As data, both are in the summary.
            on_plan = tell if explain and not json else None
            summary = run_session(request, on_progress=show, on_plan=on_plan, interrupt=interrupt)
    except KeyboardInterrupt:
        said = "gave up: what was not finished is removed" if begun.is_set() else "interrupted"
        if killed_before(request) is not None:
            said = "gave up: --resume goes on again where a checkpoint was"
        terminal.error(said)
        return INTERRUPTED
    show_summary(summary, terminal, request.output)
    if explain and not json:
        show_decisions(summary, terminal)
    if json:
        terminal.json(summary)
    return summary.exit_code
