"""The exact account of every frame, per stream and per sink."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from llamapipe.control.plan import SinkTally
from llamapipe.errors import LedgerError

__all__ = ["Ledger", "SinkAccount"]

_MOST_REASONS = 100  # that are counted apart: errors that hold a number or a time would be as many as frames


@dataclass(slots=True)
class SinkAccount:
    """What became of one stream's frames at one sink."""

    delivered: int = 0
    filtered: Counter[str] = field(default_factory=Counter)  # by stage
    dropped: Counter[str] = field(default_factory=Counter)  # by reason
    failed: Counter[str] = field(default_factory=Counter)  # by reason
    cancelled: int = 0

    @property
    def total(self) -> int:
        """Frames accounted for."""
        return (
            self.delivered
            + sum(self.filtered.values())
            + sum(self.dropped.values())
            + sum(self.failed.values())
            + self.cancelled
        )

    @classmethod
    def of(cls, tally: SinkTally) -> SinkAccount:
        """An account that goes on from a checkpoint's."""
        filtered, dropped, failed = Counter(tally.filtered), Counter(tally.dropped), Counter(tally.failed)
        return cls(tally.delivered, filtered, dropped, failed, tally.cancelled)

    def tally(self) -> SinkTally:
        """The account as it stands, as plain data."""
        return SinkTally(self.delivered, dict(self.filtered), dict(self.dropped), dict(self.failed), self.cancelled)

    def enter(self, outcome: str, stage: str, reason: str) -> None:
        """Count one frame."""
        if outcome == "delivered":
            self.delivered += 1
        elif outcome == "filtered":
            self.filtered[stage] += 1
        elif outcome == "dropped":
            self.dropped[reason] += 1
        elif outcome == "failed":
            if reason not in self.failed and len(self.failed) >= _MOST_REASONS:
                reason = f"{stage or 'source'}: other errors"
            self.failed[reason] += 1
        else:
            self.cancelled += 1


class Ledger:
    """Every frame that a source gave, and where it ended. ``decoded`` counts undecodable ones too:

    they are a place in the stream, and end as failed.
    """

    def __init__(self, streams: tuple[str, ...], sinks: tuple[str, ...]) -> None:
        self.decoded: dict[str, int] = dict.fromkeys(streams, 0)
        self.accounts: dict[tuple[str, str], SinkAccount] = {
            (stream, sink): SinkAccount() for stream in streams for sink in sinks
        }
        self.items_in: Counter[str] = Counter()  # by stage: items that were to be worked on
        self.items_done: Counter[str] = Counter()  # by stage: items accounted for

    def check(self) -> None:
        """Raise LedgerError unless every frame and every item is accounted for exactly once."""
        wrong = [
            f"{stream} at {sink}: {self.decoded[stream]} decoded, {account.total} accounted for"
            for (stream, sink), account in self.accounts.items()
            if account.total != self.decoded[stream]
        ]
        wrong += [
            f"stage {stage}: {self.items_in[stage]} items in, {self.items_done[stage]} accounted for"
            for stage in self.items_in
            if self.items_in[stage] != self.items_done[stage]
        ]
        if wrong:
            raise LedgerError("the ledger does not balance: " + "; ".join(wrong))

    def to_dict(self) -> dict[str, object]:
        """Plain data, for comparing two runs."""
        return {
            "decoded": dict(self.decoded),
            "sinks": {
                f"{stream}/{sink}": {
                    "delivered": account.delivered,
                    "filtered": dict(sorted(account.filtered.items())),
                    "dropped": dict(sorted(account.dropped.items())),
                    "failed": dict(sorted(account.failed.items())),
                    "cancelled": account.cancelled,
                }
                for (stream, sink), account in self.accounts.items()
            },
            "items": {stage: self.items_done[stage] for stage in sorted(self.items_done)},
        }
