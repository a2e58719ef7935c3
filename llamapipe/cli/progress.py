"""Progress of a run on stderr: one live line on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from llamapipe.cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from llamapipe.session import Progress

__all__ = ["ProgressLine", "duration"]

PLAIN_EVERY_S = 5.0
BAR_WIDTH = 18


class ProgressLine:
    """Shows `Progress` as it comes. A context manager; nothing is shown under -q."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._live: Live | None = None
        self._last_plain_s = 0.0
        self._shown = ("", "")  # state, and what was fetched

    def __enter__(self) -> Self:
        if not self._terminal.quiet and self._terminal.drawn:
            from rich.live import Live

            # Redrawn by `show` alone: a thread of its own would compete with the run's.
            self._live = Live(console=self._terminal.stderr, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, progress: Progress) -> None:
        """Show the run's present state."""
        if self._live is not None:
            self._live.update(_drawn(progress), refresh=True)
        elif self._is_news(progress):
            self._last_plain_s = progress.elapsed_s
            self._terminal.note(": ".join(filter(None, [progress.state, ", ".join(_facts(progress))])))
            self._shown = (progress.state, progress.fetching)

    def _is_news(self, progress: Progress) -> bool:
        """Whether a plain line is due. The end is the summary's to tell."""
        if progress.state == "done":
            return False
        if (progress.state, progress.fetching) != self._shown and (
            progress.state in ("fetching", "loading") or progress.frames_done
        ):
            return True
        return progress.elapsed_s - self._last_plain_s >= PLAIN_EVERY_S


def duration(seconds: float) -> str:
    """``0:07``, ``12:05``, ``1:02:03``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _wanted(progress: Progress) -> list[str]:
    """What is ahead, while nothing is done yet."""
    facts = [] if progress.frames_total is None else [_frames(str(progress.frames_total), progress.frames_total)]
    if progress.slo:
        facts.append(f"SLO {progress.slo}")
    if progress.elapsed_s >= 1:
        facts.append(f"{duration(progress.elapsed_s)} elapsed")
    return facts


def _facts(progress: Progress) -> list[str]:
    if progress.state == "fetching":
        return [progress.fetching]
    return _wanted(progress) if progress.state == "loading" else _running(progress)


def _running(progress: Progress) -> list[str]:
    done, total = progress.frames_done, progress.frames_total
    facts = [_frames(f"{done}", done) if total is None else _frames(f"{done}/{total}", total)]
    if progress.frames_done:
        facts.append(f"{progress.fps:.1f} fps")
    if progress.x_realtime is not None and progress.frames_done:
        facts.append(f"{progress.x_realtime:.2f} x realtime")
    if progress.p95_ms is not None:
        facts.append(f"p95 {progress.p95_ms:.0f} ms" + (f" (SLO {progress.slo})" if progress.slo else ""))
    elif progress.slo:
        facts.append(f"SLO {progress.slo}")
    facts.append(f"{progress.dropped} dropped")
    if progress.failed:
        facts.append(f"{progress.failed} failed")
    facts.append(
        f"{duration(progress.elapsed_s)} elapsed" if progress.eta_s is None else f"ETA {duration(progress.eta_s)}"
    )
    return facts


def _frames(text: str, count: int) -> str:
    return f"{text} frame" if count == 1 else f"{text} frames"


def _drawn(progress: Progress) -> Text:
    from rich.text import Text

    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{progress.state:<9}", style="bold cyan")
    if progress.frames_total:
        filled = round(BAR_WIDTH * min(1.0, progress.frames_done / progress.frames_total))
        line.append("━" * filled, style="green").append("━" * (BAR_WIDTH - filled), style="bright_black").append(" ")
    for index, fact in enumerate(_facts(progress)):
        late = "failed" in fact or (fact.endswith("dropped") and progress.dropped)
        line.append("" if index == 0 else "  ").append(fact, style="red" if late else "")
    return line
