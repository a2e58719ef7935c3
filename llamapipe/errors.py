"""The exception tree. Every error has a stable ``code`` and, where one is known, a ``hint`` that mends it.

LlamapipeError
├── UsageError            exit 2   a flag, a path or a combination that cannot be
│   └── SpecError         exit 2   a pipeline that does not validate; carries every problem at once
├── SourceError           exit 1   a source that cannot be opened or read
│   └── SourceLostError   exit 4   a source that was there and went away
├── OutputError           exit 1   an output that cannot be written
├── AssetError            exit 1   a model or clip that cannot be fetched or verified
├── BackendError          exit 1   an inference library that is missing or refuses a model
│   └── DecoderError      exit 1   a network whose outputs a decoder was not made for
├── OperatorError         exit 1   an operator that raised
├── WireError             exit 1   a message that cannot be read
├── InvalidTransition     exit 1   a state machine asked to do what its table forbids
├── QueryRefused          exit 3   a query that nothing here can answer as asked
├── LedgerError           exit 1   frames that do not add up
└── InterruptedRun        exit 130 the user stopped the run; every output is finalised
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "AssetError",
    "BackendError",
    "DecoderError",
    "InterruptedRun",
    "InvalidTransition",
    "LedgerError",
    "LlamapipeError",
    "OperatorError",
    "OutputError",
    "Problem",
    "QueryRefused",
    "SourceError",
    "SourceLostError",
    "SpecError",
    "UsageError",
    "WireError",
]


class LlamapipeError(Exception):
    """Base of every error raised on purpose.

    ``message`` names the thing, what was expected and what came; ``hint`` says how to mend it.
    """

    code = "llamapipe"
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} ({self.hint})"


class UsageError(LlamapipeError):
    """A flag, a path or a combination of them that cannot be."""

    code = "usage"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a pipeline: where, what came, what was expected, the likely fix."""

    code: str
    message: str
    where: str = ""  # "file.yaml:12" or "pipeline.ops.detect"
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"


class SpecError(UsageError):
    """A pipeline that does not validate. ``problems`` holds all of them, in file order."""

    code = "spec"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems) or "invalid pipeline")


class SourceError(LlamapipeError):
    """A source that cannot be opened or read."""

    code = "source"


class SourceLostError(SourceError):
    """A source that was there and went away."""

    code = "source-lost"
    exit_code = 4


class OutputError(LlamapipeError):
    """An output that cannot be written, or would overwrite what is there."""

    code = "output"


class AssetError(LlamapipeError):
    """A model or clip that cannot be fetched or verified."""

    code = "asset"


class BackendError(LlamapipeError):
    """An inference library that is missing, or refuses a model."""

    code = "backend"


class DecoderError(BackendError):
    """A network whose outputs have a shape that the decoder was not made for."""

    code = "decoder"


class OperatorError(LlamapipeError):
    """An operator that raised; the cause is chained."""

    code = "operator"


class WireError(LlamapipeError):
    """A message that cannot be read: wrong protocol version, or bytes that are no message."""

    code = "wire"


class InvalidTransition(LlamapipeError):
    """A state machine was asked for a transition that its table forbids; carries the history."""

    code = "transition"

    def __init__(self, machine: str, state: str, event: str, history: Sequence[str] = ()) -> None:
        self.history = tuple(history)
        story = " > ".join(self.history) or "(new)"
        super().__init__(f"{machine}: no transition from {state} on {event}; history: {story}")


class QueryRefused(LlamapipeError):
    """A query that cannot be answered as asked. ``why`` is one word, ``nearest`` what can be had instead, in words.

    ``why``: "unknown" (no such task, model or variant), "constraint" (nothing on this machine meets it), "cold" (it
    would have to be loaded first, which takes too long), "overload" (not in time), "failed", "closed".
    """

    code = "refused"
    exit_code = 3

    def __init__(self, message: str, *, why: str, nearest: str | None = None) -> None:
        super().__init__(message, hint=None if nearest is None else f"the closest that can be had: {nearest}")
        self.why = why
        self.nearest = nearest


class LedgerError(LlamapipeError):
    """Frames that do not add up. Always a bug in llamapipe."""

    code = "ledger"


class InterruptedRun(LlamapipeError):
    """The user stopped the run; every output has been finalised."""

    code = "interrupted"
    exit_code = 130
