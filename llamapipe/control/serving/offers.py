"""What a variant offers, from its profile: seconds, cores and cost by batch, ready to be looked up."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from llamapipe.catalog import Profile

__all__ = ["Offer", "offer_of"]


@dataclass(slots=True, eq=False)
class Offer:
    """One variant. Lists are indexed by batch; their place 0 is not used."""

    name: str
    profile: Profile
    cores: int
    memory_bytes: int
    load_s: float
    price: float  # of a core-second
    median_s: list[float]
    p95_s: list[float]  # never less for a larger batch
    best: list[int]  # the batch of the highest throughput, up to this one
    noise: float  # relative standard deviation of one invocation, from its p95
    spread: float  # relative standard deviation of the median, between sweeps

    @property
    def max_batch(self) -> int:
        """The largest batch that was profiled."""
        return len(self.median_s) - 1

    @property
    def cost_per_s(self) -> float:
        """Of one replica, idle or not."""
        return self.cores * self.price

    def fitting_batch(self, slack_s: float, slowdown: float = 1.0) -> int:
        """The largest batch whose p95 fits; 0 where none does."""
        return bisect_right(self.p95_s, slack_s / slowdown, lo=1) - 1

    def throughput(self, slack_s: float) -> float:
        """Items a second of one replica that is never idle, with the best batch that fits; 0 where none does."""
        batch = self.fitting_batch(slack_s)
        if batch == 0:
            return 0.0
        batch = self.best[batch]
        return batch / self.median_s[batch]

    def items_p95_s(self, num_items: int) -> float:
        """Until a replica alone has served so many, in batches as large as they can be."""
        full, rest = divmod(num_items, self.max_batch)
        return full * self.p95_s[-1] + (self.p95_s[rest] if rest else 0.0)

    def items_median_s(self, num_items: int) -> float:
        """As `items_p95_s`, as often less as more."""
        full, rest = divmod(num_items, self.max_batch)
        return full * self.median_s[-1] + (self.median_s[rest] if rest else 0.0)

    def cost(self, batch: int) -> float:
        """Of one item in such a batch: the replica's cores are taken for as long as it lasts."""
        return self.cost_per_s * self.median_s[batch] / batch

    def items_cost(self, num_items: int) -> float:
        """Of one item of a query with so many, in batches as large as they can be."""
        return self.cost_per_s * self.items_median_s(num_items) / num_items


def offer_of(profile: Profile, price: float) -> Offer:
    """A profile with at least one point, as the selector looks it up."""
    points = [profile.point(batch) for batch in range(1, profile.max_batch + 1)]
    median_s = [0.0, *(max(point.median_s, 1e-9) for point in points)]
    p95_s = [0.0, *accumulate((max(point.p95_s, point.median_s) for point in points), max)]
    best = [0]
    for batch in range(1, len(median_s)):
        before = best[-1]
        better = before == 0 or batch / median_s[batch] > before / median_s[before]
        best.append(batch if better else before)
    noises = sorted(max(p95 / median - 1, 0.0) / 1.645 for median, p95 in zip(median_s[1:], p95_s[1:], strict=True))
    return Offer(
        name=profile.variant.name,
        profile=profile,
        cores=max(profile.variant.threads, 1),
        memory_bytes=profile.peak_memory_bytes,
        load_s=profile.load_s,
        price=price,
        median_s=median_s,
        p95_s=p95_s,
        best=best,
        noise=noises[len(noises) // 2],
        spread=max(point.spread for point in points),
    )
