"""``llamapipe init``: a starter pipeline to edit."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from llamapipe.cli.options import Quiet, Verbose, terminal_of
from llamapipe.errors import OutputError, UsageError

__all__ = ["STARTER", "init"]

STARTER = """\
# A llamapipe pipeline. Check it:  llamapipe validate {path}
# See it:                          llamapipe graph {path}
# Run it:                          llamapipe run {path} -i sample:bikes -o out
version: 1
name: {name}
description: Find and follow people, and draw them into the video.

# Values that a run can change: --set params.min_score=0.5
params:
  min_score: 0.4

# How well, not how. Judged on live sources and with --realtime.
slo: {{latency_p95_ms: 500}}

ops:
  # What to find. Left out, llamapipe chooses the model, the backend, the precision and the input size;
  # `llamapipe ops show detect` lists every knob, `llamapipe models list` every model.
  - name: detect
    type: detect
    inputs: $source.frames
    task: person-detection
    min_score: ${{params.min_score}}

  # Gives every person an id that stays the same from frame to frame.
  - name: follow
    type: track
    inputs: $ops.detect.boxes

  # Draws boxes, labels and ids. `when` leaves a stage out where its condition does not hold.
  - name: draw
    type: annotate
    inputs: {{frames: $source.frames, boxes: $ops.follow.tracks}}

# Files go into the folder given with -o.
sinks:
  - {{name: video, type: video, input: $ops.draw.frames, path: annotated.mp4}}
  - {{name: detections, type: jsonl, inputs: [$ops.follow.tracks], path: detections.jsonl}}
"""


def init(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("pipeline.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Write a commented starter pipeline."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UsageError(f"{path}: expected a name that ends in .yaml", hint=f"for example: {path}.yaml")
    if path.exists() and not force:
        raise OutputError(f"{path} exists already", hint="name another file, or give --force to overwrite it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STARTER.format(path=shlex.quote(str(path)), name=_name(path)), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}", hint="name another place"
        ) from error
    terminal = terminal_of(ctx)
    terminal.note(f"wrote {path}\nnext:  llamapipe run {shlex.quote(str(path))} -i sample:bikes -o out")


def _name(path: Path) -> str:
    """A pipeline name made of the file's: a letter, then letters, digits and dashes, all of ASCII."""
    kept = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")
    return kept if kept[:1].isalpha() else f"pipeline-{kept}".strip("-")
