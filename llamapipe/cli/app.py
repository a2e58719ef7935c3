"""The commands, and the one place where failures become exit codes.

0 done; 1 failed; 2 bad usage or pipeline; 3 SLO missed; 4 source lost; 130 interrupted, outputs finalised.
Commands import what they need when they are called: ``--help`` must not wait for the libraries of ``run``.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from llamapipe import __version__
from llamapipe.cli import (
    asset_cache,
    building,
    comparison,
    diagnosis,
    evaluation,
    models,
    ops,
    pipelines,
    planning,
    profiling,
    reproduction,
    run,
    serving,
    simulation,
    starter,
    tuning,
)
from llamapipe.cli.failures import INTERRUPTED, show_failure
from llamapipe.cli.options import Quiet, Verbose
from llamapipe.cli.terminal import Terminal
from llamapipe.runtime.open_files import allow_open_files

__all__ = ["app", "call", "run_cli"]

app = typer.Typer(
    name="llamapipe",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run video analytics pipelines to an objective: say what to find and how well, not how.",
    epilog="Try: llamapipe run blur-faces -i sample:bikes -o out",
)


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"llamapipe {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    pass


app.command()(run.run)
app.command()(serving.query)
app.command()(serving.load)
app.command()(planning.plan)
app.command()(comparison.compare)
app.command()(tuning.tune)
app.command()(pipelines.validate)
app.command()(pipelines.graph)
app.command()(pipelines.schema)
app.add_typer(ops.app, name="ops")
models.app.command()(building.build)
models.app.command()(profiling.profile)
app.add_typer(models.app, name="models")
app.command(name="eval")(evaluation.evaluate)
app.command()(simulation.simulate)
app.command()(simulation.capacity)
app.command()(reproduction.reproduce)
app.command()(starter.init)
app.command()(diagnosis.doctor)
app.add_typer(asset_cache.app, name="cache")


def call(args: Sequence[str]) -> int:
    """Run one command line and return its exit code; whatever goes wrong is told on stderr."""
    terminal = Terminal()
    try:
        command = typer.main.get_command(app)
        result = command.main(args=list(args), prog_name="llamapipe", standalone_mode=False, obj=terminal)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our stdout went away (`| head`): nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            # A group called alone asks for its help: it is printed by now, unless it came as the message.
            if str(error):
                terminal.data(str(error))
            return 0
        return show_failure(error, terminal)
    return result if isinstance(result, int) else 0


def _open_standard_streams() -> None:
    """Give what was closed at the start (`2>&-`) a place, lest the next file opened be taken for stderr."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def run_cli() -> NoReturn:
    """The ``llamapipe`` command."""
    _open_standard_streams()
    allow_open_files()
    code = call(sys.argv[1:])
    if code == INTERRUPTED and any(thread.name.startswith("llamapipe") for thread in threading.enumerate()):
        # A thread is still loading a model, which nothing can stop, and whoever pressed Ctrl-C does not wait for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
