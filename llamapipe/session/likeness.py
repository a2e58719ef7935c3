"""Whether all videos of a run look like the one that it is tuned for, or whose frames are sampled for it."""

from __future__ import annotations

from pathlib import Path

from llamapipe.clock import Clock, Env
from llamapipe.errors import SourceError
from llamapipe.media import SourceSpec, open_source
from llamapipe.session.prepare import sources_of
from llamapipe.session.request import RunRequest
from llamapipe.session.stretches import decode_stretches
from llamapipe.spec.model import SloSpec
from llamapipe.tune import LIKE, VideoSignature, distance, signature_of

__all__ = ["unlike_the_first"]

_FRAMES, _STRETCHES = 40, 4
_MOST_S = 3.0  # that all others are looked at
_SHARE_OF_DEADLINE = 0.02
_NAMED = 5  # of the videos that are unlike


def unlike_the_first(
    request: RunRequest, slo: SloSpec | None, *, recorded: bool = False, clock: Clock, env: Env
) -> str:
    """What to tell of files that look unlike the first one, which is what is tuned for; empty where there is nothing.

    Alike is what the tuning cache takes for the same. Of one file nothing is decoded. The others are looked at for
    three seconds, and a fiftieth of a deadline, at most. A file that cannot be read is left to the run. ``recorded``:
    the first source is a live one, of which a piece was tuned on; how others look is not known then.
    """
    asked = sources_of(request.sources, env, None)
    if recorded:
        several = f"tuned for what the first of {len(asked)} sources showed; run sources that look unlike it apart"
        return several if len(asked) > 1 else ""
    specs = {s.uri: s for s in asked if s.kind == "file" and Path(s.uri).is_file()}
    files = list(specs.values())
    if len(files) < 2:
        return ""
    most_s = _MOST_S if slo is None or slo.deadline_s is None else min(_MOST_S, _SHARE_OF_DEADLINE * slo.deadline_s)
    began_s = clock.now_s()
    first = _look(files[0], request, clock)
    if first is None:
        return ""
    unlike: list[tuple[str, float]] = []
    unseen = 0
    for spec in files[1:]:
        if clock.now_s() - began_s >= most_s:
            unseen += 1
        elif (look := _look(spec, request, clock)) is not None and (far := distance(first, look)) > LIKE:
            unlike.append((Path(spec.shown).name, far))
    return _said(Path(files[0].shown).name, unlike, unseen)


def _look(spec: SourceSpec, request: RunRequest, clock: Clock) -> VideoSignature | None:
    try:
        opened = open_source(spec, clock=clock, threads=1)
        opened.close()
        part = (request.start_s, request.end_s)
        held = decode_stretches(spec, opened.info, _FRAMES, _STRETCHES, clock=clock, part=part)
    except SourceError:
        return None
    info = held.info
    return signature_of(held.luma(), width=info.width, height=info.height, fps=held.fps)


def _said(first: str, unlike: list[tuple[str, float]], unseen: int) -> str:
    if not unlike:
        return ""
    named = [f"{name} (distance {far:.2f})" for name, far in unlike[:_NAMED]]
    rest = len(unlike) - len(named)
    told = ", ".join(named) + (f" and {rest} more" if rest else "")
    looks = "looks" if len(unlike) == 1 else "look"
    more = f"; {unseen} not looked at" if unseen else ""
    return (
        f"{told} {looks} unlike {first}, by which alone the configuration was chosen (alike is up to {LIKE:g}{more}): "
        "run them apart, so that each has its own"
    )
