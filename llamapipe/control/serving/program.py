"""Which replicas serve the load at the least reserved cost: a small integer program.

Notation: v variants, h hosts, i demands (queries that ask alike).

    n[v,h]  replicas, integer                s[v,h] >= n[v,h] - running[v,h]  those to be started, >= 0
    x[i,v]  items a second of demand i that variant v serves       u[i]  those that nobody serves

    min   sum n cost  +  sum s cost load / horizon  +  sum P[i] u[i]
    s.t.  sum_v x[i,v] + u[i] = demand[i]                    every i
          sum_i x[i,v] / throughput[i,v] <= sum_h n[v,h]     every v
          sum_v n[v,h] cores[v] <= cores[h], likewise memory  every h

P[i] is above what any replica costs an item, and so high that a demand however small is worth a replica: it stays
unserved only where there is no room. Among solutions of the same cost the one of more pace wins, by a hundredth of the
cost: it takes less work an item, and where items come in bursts, those better.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import msgspec

__all__ = ["Demand", "Option", "Problem", "Room", "Solution", "greedy", "is_least", "keeps", "solve"]

_TIE = 1e-2
_SOON_S = 2.0  # loading times below are all the same: no dearer variant is chosen for a tenth of a second

_LEAST_SHARE = 0.01  # of a replica that some demand takes: less is within HiGHS's tolerance of none


class Option(msgspec.Struct, frozen=True, array_like=True):
    """A variant that may run."""

    variant: str
    cores: int
    memory_bytes: int
    cost_per_s: float  # of one replica
    load_s: float
    running: dict[str, int] = {}  # replicas by host, those that load included
    device: str = "cpu"


class Demand(msgspec.Struct, frozen=True, array_like=True):
    """Items a second of queries that ask alike."""

    items_per_s: float
    throughput: dict[str, float]  # items a second that one replica serves within what they ask, by variant
    pace: dict[str, float] = {}  # items a second of one that is never idle, in such batches as come; where it is told


class Room(msgspec.Struct, frozen=True, array_like=True):
    """What a host has."""

    host: str
    cores: int
    memory_bytes: int
    devices: tuple[str, ...] = ("cpu",)


class Problem(msgspec.Struct, frozen=True):
    """All that the program looks at."""

    options: tuple[Option, ...]
    demands: tuple[Demand, ...]
    rooms: tuple[Room, ...]
    horizon_s: float = 10.0  # over which a replica that is started has to pay for its loading


class Solution(msgspec.Struct, frozen=True):
    """Replicas by (variant, host), none left out that should run."""

    replicas: dict[str, dict[str, int]]
    unserved: float = 0.0  # items a second
    cost_per_s: float = 0.0


def solve(problem: Problem, time_limit_s: float = 1.0) -> Solution | None:
    """The least reserved cost, by scipy's HiGHS. None where it found nothing in its time."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import lil_matrix

    pairs = [
        (v, h)
        for v, option in enumerate(problem.options)
        for h, room in enumerate(problem.rooms)
        if option.device in room.devices and option.cores <= room.cores and option.memory_bytes <= room.memory_bytes
    ]
    places = {option.variant: v for v, option in enumerate(problem.options)}
    flows = [
        (i, places[name])
        for i, demand in enumerate(problem.demands)
        for name, rate in demand.throughput.items()
        if rate > 0 and name in places
    ]
    num_n, num_i = len(pairs), len(problem.demands)
    if not num_n or not num_i:
        return Solution({}, sum(demand.items_per_s for demand in problem.demands))
    size = 2 * num_n + len(flows) + num_i
    cost = np.zeros(size)
    upper = np.full(size, np.inf)
    best = [max((_pace(demand, o.variant) for demand in problem.demands), default=0.0) for o in problem.options]
    most = max(best, default=0.0) or 1.0
    for k, (v, h) in enumerate(pairs):
        option, room = problem.options[v], problem.rooms[h]
        cost[k] = option.cost_per_s * (1 - _TIE * best[v] / most)
        cost[num_n + k] = option.cost_per_s * max(option.load_s, _SOON_S) / problem.horizon_s
        upper[k] = min(
            room.cores // max(option.cores, 1), room.memory_bytes // option.memory_bytes if option.memory_bytes else 1e6
        )
    dearest = max((option.cost_per_s * (1 + option.load_s) for option in problem.options), default=1.0)
    slowest = min((rate for demand in problem.demands for rate in demand.throughput.values() if rate > 0), default=1.0)
    # Flows are shares of their demand: HiGHS's tolerances do not take rates of a thousandth beside some of hundreds.
    rates = np.array([demand.items_per_s for demand in problem.demands])
    cost[size - num_i :] = 100.0 * max(dearest, 1e-9) * rates / np.minimum(slowest, np.maximum(rates, 1e-3))

    rows = num_i + len(problem.options) + 2 * len(problem.rooms) + num_n
    matrix: Any = lil_matrix((rows, size))
    low, high = np.full(rows, -np.inf), np.zeros(rows)
    for i in range(num_i):
        matrix[i, size - num_i + i] = 1.0
        low[i] = high[i] = 1.0
    for k, (i, v) in enumerate(flows):
        matrix[i, 2 * num_n + k] = 1.0
        matrix[num_i + v, 2 * num_n + k] = max(
            rates[i] / problem.demands[i].throughput[problem.options[v].variant], _LEAST_SHARE
        )
    base = num_i + len(problem.options)
    for k, (v, h) in enumerate(pairs):
        option = problem.options[v]
        matrix[num_i + v, k] = -1.0
        matrix[base + 2 * h, k] = option.cores
        matrix[base + 2 * h + 1, k] = option.memory_bytes / 2**20
        row = base + 2 * len(problem.rooms) + k
        matrix[row, k], matrix[row, num_n + k] = 1.0, -1.0
        high[row] = option.running.get(problem.rooms[h].host, 0)
    for h, room in enumerate(problem.rooms):
        high[base + 2 * h], high[base + 2 * h + 1] = room.cores, room.memory_bytes / 2**20
    integral = np.zeros(size)
    integral[:num_n] = 1
    found = milp(
        cost,
        constraints=LinearConstraint(matrix.tocsr(), low, high),
        bounds=Bounds(np.zeros(size), upper),
        integrality=integral,
        options={"time_limit": time_limit_s, "mip_rel_gap": 1e-4},
    )
    if found.x is None:
        return None
    replicas: dict[str, dict[str, int]] = {}
    for k, (v, h) in enumerate(pairs):
        count = round(float(found.x[k]))
        if count:
            replicas.setdefault(problem.options[v].variant, {})[problem.rooms[h].host] = count
    solution = Solution(replicas, float(found.x[size - num_i :] @ rates), _cost(problem, replicas))
    return solution if keeps(problem, solution) else None


def greedy(problem: Problem) -> Solution:
    """Demand by demand, keep what runs while it is needed, then start what serves most for its cost. Within limits."""
    room = {r.host: [r.cores, r.memory_bytes] for r in problem.rooms}
    devices = {r.host: r.devices for r in problem.rooms}
    running = {o.variant: dict(o.running) for o in problem.options}
    replicas: dict[str, dict[str, int]] = {}
    spare: dict[str, float] = {}  # share of its chosen replicas that is not used yet, by variant
    unserved = 0.0

    def worth(option: Option, demand: Demand, need: float, *, runs: bool) -> tuple[float, float]:
        count = max(ceil(need / demand.throughput[option.variant] - 1e-9), 1)
        switching = 0.0 if runs else max(option.load_s, _SOON_S) / problem.horizon_s
        return (option.cost_per_s * (count + switching), -_pace(demand, option.variant))

    for demand in sorted(problem.demands, key=lambda demand: len(demand.throughput)):
        need = demand.items_per_s
        for variant, share in list(spare.items()):
            rate = demand.throughput.get(variant, 0.0)
            taken = min(need, share * rate)
            if taken > 0:
                spare[variant] -= taken / rate
                need -= taken
        while need > 1e-9:
            chosen: tuple[tuple[float, float], str, Option, float] | None = None
            for option in problem.options:
                rate = demand.throughput.get(option.variant, 0.0)
                if rate <= 0:
                    continue
                for host, (cores, memory) in room.items():
                    if option.device not in devices[host] or option.cores > cores or option.memory_bytes > memory:
                        continue
                    runs = running[option.variant].get(host, 0) > 0
                    value = worth(option, demand, need, runs=runs)
                    if chosen is None or value < chosen[0]:
                        chosen = (value, host, option, rate)
            if chosen is None:
                unserved += need
                break
            _, host, option, rate = chosen
            room[host][0] -= option.cores
            room[host][1] -= option.memory_bytes
            running[option.variant][host] = running[option.variant].get(host, 0) - 1
            by_host = replicas.setdefault(option.variant, {})
            by_host[host] = by_host.get(host, 0) + 1
            taken = min(need, rate)
            need -= taken
            spare[option.variant] = spare.get(option.variant, 0.0) + 1 - taken / rate
    return Solution(replicas, unserved, _cost(problem, replicas))


def is_least(problem: Problem, solution: Solution) -> bool:
    """Whether nothing can cost less: it serves all with one replica, which runs already, of the cheapest kind."""
    if solution.unserved > 0 or not problem.options:
        return False
    chosen = [
        (name, host, count) for name, hosts in solution.replicas.items() for host, count in hosts.items() if count
    ]
    if len(chosen) != 1 or chosen[0][2] != 1:
        return False
    name, host, _ = chosen[0]
    option = next(option for option in problem.options if option.variant == name)
    return option.running.get(host, 0) > 0 and option.cost_per_s <= min(o.cost_per_s for o in problem.options)


def keeps(problem: Problem, solution: Solution) -> bool:
    """Whether a solution is within every host's cores and memory."""
    options = {option.variant: option for option in problem.options}
    for room in problem.rooms:
        here = [(options[name], hosts.get(room.host, 0)) for name, hosts in solution.replicas.items()]
        if sum(option.cores * count for option, count in here) > room.cores:
            return False
        if sum(option.memory_bytes * count for option, count in here) > room.memory_bytes:
            return False
    return True


def _pace(demand: Demand, variant: str) -> float:
    return demand.pace.get(variant, demand.throughput.get(variant, 0.0))


def _cost(problem: Problem, replicas: dict[str, dict[str, int]]) -> float:
    prices = {option.variant: option.cost_per_s for option in problem.options}
    return sum(prices[name] * sum(hosts.values()) for name, hosts in replicas.items())
