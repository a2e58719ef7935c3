"""How busy replicas may be kept without making anybody wait too long.

Notation: c replicas, each taking s seconds an invocation; rho their utilisation; t how long a query may wait. For
Poisson arrivals and constant service, the tail of the wait is about (Tijms, "A First Course in Stochastic Models",
2003, section 9.6, with Sakasegawa's approximation of the probability of waiting at all, 1977)

    P(W > t) = rho^(sqrt(2 (c + 1)) - 1) exp(-2 c (1 - rho) t / s)
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, sqrt

__all__ = ["MISS", "utilisation"]

MISS = 0.005  # share of queries that may wait longer
_LEAST, _MOST = 0.05, 0.95


def utilisation(replicas: int, service_s: float, slack_s: float) -> float:
    """The most that so many replicas may be busy."""
    return _utilisation(min(max(replicas, 1), 1000), round(min(max(slack_s / service_s, 0.0), 100.0), 2))


@lru_cache(maxsize=4096)
def _utilisation(replicas: int, services: float) -> float:
    low, high = _LEAST, _MOST
    for _ in range(20):
        rho = (low + high) / 2
        late = rho ** (sqrt(2 * (replicas + 1)) - 1) * exp(-2 * replicas * (1 - rho) * services)
        low, high = (rho, high) if late <= MISS else (low, rho)
    return low
