"""Replicas, and the cores and memory that they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from llamapipe.control.lifecycle import Machine
from llamapipe.control.serving.actions import Part
from llamapipe.control.serving.health import Health, Normal
from llamapipe.control.serving.lifecycle import VARIANT, VariantState
from llamapipe.control.serving.offers import Offer
from llamapipe.control.serving.plan import Host
from llamapipe.errors import LlamapipeError

__all__ = ["Batch", "Fleet", "Replica"]

_SERVES = frozenset({VariantState.ACTIVE, VariantState.OVERLOADED, VariantState.INTERFERED})


@dataclass(slots=True)
class Batch:
    """What a replica works on."""

    batch_id: int
    parts: tuple[Part, ...]  # none: a probe
    size: int
    sent_at_s: float
    expected_s: float  # p95 of how long it takes
    offline: bool = False


@dataclass(slots=True, eq=False)
class Replica:
    """A variant on its cores, from being told to load until it is known to be gone."""

    name: str
    offer: Offer
    host: str
    cores: tuple[int, ...]
    started_at_s: float
    health: Health
    machine: Machine[VariantState]
    batch: Batch | None = None
    ready_at_s: float = 0.0  # while loading: when it is expected to be
    used_at_s: float = 0.0  # when it last served a query
    stopping: bool = False  # takes nothing more, and is stopped when it holds nothing
    told: bool = False  # to stop, or is being killed
    num_served: int = 0

    @property
    def state(self) -> VariantState:
        """As the table has it."""
        return self.machine.state

    @property
    def serves(self) -> bool:
        """Whether it may be given work."""
        return self.machine.state in _SERVES and not self.stopping and not self.told

    @property
    def loading(self) -> bool:
        """Whether it will serve as soon as it is loaded."""
        return self.machine.state is VariantState.LOADING and not self.stopping

    def free_at_s(self) -> float:
        """When it is expected to take work."""
        if self.machine.state is VariantState.LOADING:
            return self.ready_at_s
        return 0.0 if self.batch is None else self.batch.sent_at_s + self.batch.expected_s


@dataclass(slots=True)
class _Space:
    host: Host
    free_cores: list[int]
    free_memory_bytes: int


@dataclass(slots=True)
class Fleet:
    """All replicas that hold something. A core is given to one replica at a time; memory is never promised twice."""

    replicas: dict[str, Replica] = field(default_factory=dict)
    num_started: int = 0
    _spaces: dict[str, _Space] = field(default_factory=dict)
    num_changes: int = 0  # of the hosts: what was worked out for them before the last is out of date
    _normal: dict[tuple[str, str], Normal] = field(default_factory=dict)  # (host, variant)
    _troubled: dict[tuple[str, int], float] = field(default_factory=dict)  # core -> when it was last seen interfered

    def add_host(self, host: Host) -> None:
        """Replicas may be put there from now on."""
        if host.name in self._spaces:
            raise LlamapipeError(f"host {host.name} is there already")
        self.num_changes += 1
        self._spaces[host.name] = _Space(host, list(host.cores), host.memory_bytes)

    def remove_host(self, name: str) -> list[Replica]:
        """It is gone: the replicas that were there."""
        self.num_changes += 1
        self._spaces.pop(name, None)
        return [replica for replica in self.replicas.values() if replica.host == name]

    def hosts(self) -> list[Host]:
        """All that are there."""
        return [space.host for space in self._spaces.values()]

    def free_cores(self, host: str) -> int:
        """That no replica has."""
        return len(self._spaces[host].free_cores)

    def free_memory_bytes(self, host: str) -> int:
        """That is promised to no replica."""
        return self._spaces[host].free_memory_bytes

    def room(self, offer: Offer, host: str | None = None) -> str | None:
        """A host where the variant can be loaded now: that with the most free cores."""
        fitting = [
            space for name, space in self._spaces.items() if (host is None or name == host) and _fits(offer, space)
        ]
        return max(fitting, key=lambda space: len(space.free_cores)).host.name if fitting else None

    def ever_fits(self, offer: Offer) -> bool:
        """Whether it could be loaded if nothing else were."""
        return any(
            offer.profile.variant.device.split(":")[0] in {device.split(":")[0] for device in space.host.devices}
            and offer.cores <= len(space.host.cores)
            and offer.memory_bytes <= space.host.memory_bytes
            for space in self._spaces.values()
        )

    def start(self, offer: Offer, host: str, now_s: float) -> Replica:
        """Take cores and memory for a new replica; `room` has said that they are there."""
        space = self._spaces[host]
        if not _fits(offer, space):
            raise LlamapipeError(f"no room for {offer.name} on {host}")
        space.free_cores.sort(key=lambda core: (self._troubled.get((host, core), -1.0), core))
        cores = tuple(sorted(space.free_cores[: offer.cores]))
        space.free_cores = space.free_cores[offer.cores :]
        space.free_memory_bytes -= offer.memory_bytes
        self.num_started += 1
        replica = Replica(
            name=f"r{self.num_started}",
            offer=offer,
            host=host,
            cores=cores,
            started_at_s=now_s,
            health=Health(
                offer.noise,
                offer.spread,
                normal=self._normal.setdefault((host, offer.name), Normal()),
                last_s=now_s,
            ),
            machine=Machine(f"r{self.num_started} ({offer.name})", VARIANT, VariantState.INACTIVE),
            ready_at_s=now_s + offer.load_s,
            used_at_s=now_s,
        )
        replica.machine.to(VariantState.LOADING)
        self.replicas[replica.name] = replica
        return replica

    def end(self, replica: Replica) -> None:
        """It holds nothing any more."""
        replica.machine.to(VariantState.INACTIVE)
        del self.replicas[replica.name]
        space = self._spaces.get(replica.host)
        if space is not None:
            space.free_cores.extend(replica.cores)
            space.free_memory_bytes += replica.offer.memory_bytes

    def trouble(self, replica: Replica, now_s: float) -> None:
        """Something is in the way on its cores: new replicas go elsewhere while they can."""
        for core in replica.cores:
            self._troubled[replica.host, core] = now_s

    def serving(self) -> Iterator[Replica]:
        """Those that may be given work, in the order in which they were started."""
        return (replica for replica in self.replicas.values() if replica.serves)

    def of(self, names: Iterable[str], *, loading: bool = True) -> list[Replica]:
        """Those of the named variants that serve, or soon will."""
        wanted = frozenset(names)
        return [
            replica
            for replica in self.replicas.values()
            if replica.offer.name in wanted and (replica.serves or (loading and replica.loading))
        ]

    def validate(self) -> None:
        """Raises LlamapipeError where a limit is broken; tests call it after every step."""
        for name, space in self._spaces.items():
            here = [replica for replica in self.replicas.values() if replica.host == name]
            held = [core for replica in here for core in replica.cores]
            if sorted([*held, *space.free_cores]) != sorted(space.host.cores):
                raise LlamapipeError(f"{name}: cores {held} and {space.free_cores} are not {space.host.cores}")
            memory = sum(replica.offer.memory_bytes for replica in here)
            if memory + space.free_memory_bytes != space.host.memory_bytes or space.free_memory_bytes < 0:
                raise LlamapipeError(f"{name}: {memory} of {space.host.memory_bytes} bytes are promised")


def _fits(offer: Offer, space: _Space) -> bool:
    devices = {device.split(":")[0] for device in space.host.devices}
    return (
        offer.profile.variant.device.split(":")[0] in devices
        and offer.cores <= len(space.free_cores)
        and offer.memory_bytes <= space.free_memory_bytes
    )
