"""What a worker works on next, and what becomes of work whose worker is slow, silent or gone.

First in first out, deeper stages first. An item that fails is tried again on another replica, up to
``FaultPlan.max_attempts``, by itself, so that a batch does not suffer for one of its items; then it is put into
quarantine. A stateless invocation that takes too long is given to a second worker too, and the first answer counts.
Stages that remember have a home for each stream; when it is lost, their memory is restored in another.

The stages of a chain are run in one invocation of the first. What the others answer is kept until the frame has come to
them, which it does in the same step, and is then taken as if they had been asked. Whatever has failed is tried again
stage by stage, so that it is known whose fault it is.
"""

from __future__ import annotations

from collections import Counter
from math import inf

from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control.chains import following_stages, may_follow
from llamapipe.control.checkpoints import Checkpointer
from llamapipe.control.chooser import Verdict
from llamapipe.control.dataflow import Dataflow, FrameRecord, Topology
from llamapipe.control.durations import Durations
from llamapipe.control.invocations import Ahead, Home, Invocation
from llamapipe.control.lifecycle import ItemState, LinkState
from llamapipe.control.plan import RunPlan, replica_name
from llamapipe.control.policies import chooser_for
from llamapipe.control.queues import Item, StageQueue
from llamapipe.control.suspects import Suspects
from llamapipe.control.timers import Timers
from llamapipe.control.watching import Watch
from llamapipe.control.workforce import Seat, Workforce

__all__ = ["Dispatcher"]


class Dispatcher:
    """Queues, invocations and homes. Actions go to ``out``; `schedule` is called after every event."""

    def __init__(
        self,
        plan: RunPlan,
        topology: Topology,
        flow: Dataflow,
        workforce: Workforce,
        timers: Timers,
        checkpoints: Checkpointer,
        out: list[act.Action],
    ) -> None:
        self._plan = plan
        self._checkpoints = checkpoints
        self._faults = plan.faults
        self._topology = topology
        self._flow = flow
        self._workforce = workforce
        self._timers = timers
        self._watch = Watch(timers)
        self.out = out
        self.queues = [StageQueue(stage.stateful) for stage in plan.stages]
        order = -1 if plan.policy.deep_first else 1
        self._deep_first = sorted(range(len(plan.stages)), key=lambda i: (order * plan.stages[i].depth, i))
        self._stream_index = {stream.stream: i for i, stream in enumerate(plan.streams)}
        takes_pictures = [any(edge.kind == "frames" for edge in stage.inputs) for stage in plan.stages]
        faults, slo_s = plan.faults, plan.latency_slo_s
        self._slow_floor_s = faults.straggler_floor_s
        if slo_s is not None:
            self._slow_floor_s = min(self._slow_floor_s, faults.straggler_share * slo_s)
        self._snapshot_every = [faults.snapshot_frames if p else faults.snapshot_items for p in takes_pictures]
        self.chooser = chooser_for(plan, topology, workforce, timers, self.queues)
        self.invocations: dict[int, Invocation] = {}
        # By stage: how often each candidate (-1: none) was decided for, and why. For reports only.
        self.decided: list[Counter[tuple[int, str]]] = [Counter() for _ in plan.stages]
        self._next = 0
        self._durations = [[Durations() for _ in stage.ways] for stage in plan.stages]
        self._suspects = Suspects()
        self._following = following_stages(plan, topology)
        self.ahead: dict[tuple[int, str, int], Ahead] = {}  # (stage, stream, seq) -> answer to what was not asked yet
        self._late: list[Invocation] = []  # that want a second worker
        self._homes: dict[tuple[int, str], Home] = {}
        for resumed in plan.streams:
            for name in resumed.resume.states if resumed.resume is not None else ():
                self._homes[topology.index[name], resumed.stream] = Home(None, has_state=True, touched=True)
        self._may_settle: dict[int, tuple[int, list[Seat]]] = {}  # stage -> (version of the workforce, seats)
        self._homeless: dict[tuple[int, str], None] = {}  # (stage, stream) whose items nobody can take now
        self._hopeless: str | None = None  # why nothing is tried again any more

    # -- giving out ---------------------------------------------------------------------------------------------

    def schedule(self, now_s: float) -> None:
        """Give ready work to free workers: what is nearly done frees what it holds."""
        if self._late:
            self._duplicate(now_s)
        for stage in self._deep_first:
            queue = self.queues[stage]
            if not len(queue):
                continue
            if self.chooser.decides_for(stage):
                self._serve_by_choice(stage, queue, now_s)
                continue
            choice = self.chooser.first[stage]
            batch = max(1, self._plan.stages[stage].choice(choice).batch)
            if queue.stateful:
                for stream in queue.take_fresh():
                    self._serve_stream(stage, stream, batch, now_s)
            else:
                while len(queue):
                    seat = self._workforce.freest(stage, choice, self._suspects.last_seat(stage, queue.first()))
                    if seat is None or self._is_company(seat, stage, queue.first()):
                        break
                    self._dispatch(seat, stage, self._take(stage, batch), now_s, choice=choice)

    def _serve_by_choice(self, stage: int, queue: StageQueue, now_s: float) -> None:
        while (first := queue.first()) is not None and not self.chooser.asleep(stage, len(queue), now_s):
            decision = self.chooser.decide(stage, first[0], len(queue), now_s, self._suspects.last_seat(stage, first))
            if decision.seat is not None and self._is_company(decision.seat, stage, first):
                self.decided[stage][-1, "wait-worker"] += 1
                return
            going = decision.verdict is Verdict.GO
            self.decided[stage][decision.choice if going else -1, decision.why] += 1
            if decision.verdict is Verdict.WAIT:
                return
            if decision.verdict is Verdict.DROP:
                if self._drop_first(stage, queue):
                    continue
                decision = self.chooser.rush(stage, len(queue), now_s, self._suspects.last_seat(stage, first))
                self.decided[stage][decision.choice, decision.why] += 1
            if decision.seat is None or self._is_company(decision.seat, stage, first):
                return
            items = self._take(stage, decision.num_items)
            self._dispatch(decision.seat, stage, items, now_s, choice=decision.choice)

    def _drop_first(self, stage: int, queue: StageQueue) -> bool:
        """Give the first item's frame up; not where some of its items are out or have been answered for."""
        first = queue.first()
        assert first is not None
        frame = first[0]
        items = queue.take_frame(frame)
        if len(items) == frame.remaining[stage] == self._flow.num_items(frame, stage):
            self._flow.drop(frame, stage, "late")
            return True
        queue.put_back(items)
        return False

    def _serve_stream(self, stage: int, stream: str, batch: int, now_s: float) -> None:
        queue = self.queues[stage]
        home = self._homes.setdefault((stage, stream), Home(None))
        if home.seat is None:
            self._settle_in(home, stage, stream, now_s)
        seat = home.seat
        if seat is None:
            self._homeless[stage, stream] = None
            return
        while not home.restoring and self._free(seat, stage) and queue.has(stream):
            if self._is_company(seat, stage, queue.first(stream)):
                break
            items = self._take(stage, batch, stream)
            if self._checkpoints.wants_state(stage, stream, items[0][0].seq):
                self._capture(home, stage, stream)
            home.touched = True
            self._dispatch(seat, stage, items, now_s, home)
        if queue.has(stream):
            seat.blocked[stage, stream] = None

    def _unblock(self, seat: Seat) -> None:
        """The seat may have room for what waits for it alone."""
        for stage, stream in seat.blocked:
            self.queues[stage].freshen(stream)
        seat.blocked.clear()

    def worker_changed(self, seat: Seat) -> None:
        """It came, went, or has loaded something: whoever waits for it, or for any home, is looked at again."""
        self._unblock(seat)
        for stage, stream in self._homeless:
            self.queues[stage].freshen(stream)
        self._homeless.clear()

    def allot(self, workers: int) -> None:
        """Give work to so many of each kind, 0: to all."""
        for seat in self._workforce.allot(workers):
            self.worker_changed(seat)

    def need_all(self) -> None:
        """Give work to all from now on, whatever is allotted."""
        for seat in self._workforce.need_all():
            self.worker_changed(seat)

    def _capture(self, home: Home, stage: int, stream: str) -> None:
        """Ask for what the home remembers now. One that was never sent anything remembers nothing."""
        seq = self._checkpoints.asked(stage, stream, empty=not home.touched)
        if home.touched:
            assert home.seat is not None
            name = self._plan.stages[stage].name
            self.out.append(act.Capture(f"{home.seat.name}/{name}", home.seat.name, name, stream, seq))

    def capture_idle(self, stream: str, released: int) -> None:
        """Every stage has passed ``released``: what remembers and got no frame since is asked for it now."""
        for stage in self._checkpoints.stages_left(stream, released):
            home = self._homes.setdefault((stage, stream), Home(None))
            if not home.touched or (home.seat is not None and home.seat.able and not home.restoring):
                self._capture(home, stage, stream)
            else:
                self._checkpoints.abandon(stream)
                return

    def _settle_in(self, home: Home, stage: int, stream: str, now_s: float) -> None:
        """Find the stream a home; with a memory to bring along, only where that can be done at once."""
        if not home.has_state:
            seats = self._settlers(stage)
            if not seats:
                return
            home.settle(seats[self._stream_index[stream] % len(seats)])
            return
        ready = [seat for seat in self._workforce if seat.usable and seat.serves(stage)]
        if not ready:
            return
        home.settle(min(ready, key=lambda seat: seat.homes))
        assert home.seat is not None
        home.restoring = True
        home.seat.restoring += 1
        home.restored += 1
        name = self._plan.stages[stage].name
        self._timers.add(now_s + self._faults.first_hang_s, "restore", f"{name}/{stream}", home.restored)
        self.out.append(act.Restore(f"{home.seat.name}/{name}", home.seat.name, name, stream))

    def _settlers(self, stage: int) -> list[Seat]:
        """Who may be a new home, those that are gone only if there is nobody else."""
        version, seats = self._may_settle.get(stage, (-1, []))
        if version != self._workforce.version:
            seats = [seat for seat in self._workforce if seat.may_yet_serve(stage)]
            seats = [seat for seat in seats if seat.link.state is not LinkState.DEAD] or seats
            seats = [seat for seat in seats if not seat.spare] or seats
            self._may_settle[stage] = self._workforce.version, seats
        return seats

    def _take(self, stage: int, batch: int, stream: str | None = None) -> list[Item]:
        """The next batch; an item that failed before goes alone."""
        queue = self.queues[stage]
        if not self._suspects:
            segment_frames = 0 if stream is None else self._checkpoints.segment_frames(stream)
            return queue.take(batch, stream, segment_frames)
        items: list[Item] = []
        while len(items) < batch and (first := queue.first(stream)) is not None:
            alone = self._suspects.has(stage, first)
            if items and (alone or self._checkpoints.is_apart(stream, items[-1][0].seq, first[0].seq)):
                break
            items += queue.take(1, stream)
            if alone:
                break
        return items

    def _is_company(self, seat: Seat, stage: int, item: Item | None) -> bool:
        """Whether the seat has work, and the item is one that is to have its worker to itself."""
        return bool(seat.held) and self._suspects.has(stage, item)

    def _free(self, seat: Seat, stage: int, choice: int = 0) -> bool:
        room = len(seat.held) < self._plan.max_queued and not seat.guarded
        return room and seat.able and seat.serves(stage, choice)

    def _dispatch(
        self, seat: Seat, stage: int, items: list[Item], now_s: float, home: Home | None = None, choice: int = 0
    ) -> None:
        for frame, _ in items:
            frame.state[stage] = ItemState.DISPATCHED
        snapshot = False
        if home is not None:
            home.since_snapshot += len(items)
            if home.since_snapshot >= self._snapshot_every[stage]:
                snapshot, home.since_snapshot = True, 0
        self._send(Invocation(self._next, stage, seat, items, choice), now_s, snapshot)

    def _send(self, invocation: Invocation, now_s: float, snapshot: bool = False) -> None:
        self._next += 1
        seat, plan = invocation.seat, self._plan.stages[invocation.stage]
        invocation.chain = self._chain(invocation)
        self.invocations[invocation.number] = invocation
        seat.held.append(invocation.number)
        seat.guarded = any(self._suspects.has(invocation.stage, item) for item in invocation.items)
        if self.chooser.active:
            seat.free_at_s = max(seat.free_at_s, now_s) + self._usual_s(invocation)
        self._workforce.changed(seat)
        if len(seat.held) == 1:
            self._begins(invocation, now_s)
        slo = self._plan.latency_slo_s
        self.out.append(
            act.Dispatch(
                invocation.number,
                replica_name(seat.name, plan.name, invocation.choice),
                seat.name,
                plan.name,
                [(frame.stream, frame.seq, index) for frame, index in invocation.items],
                None if slo is None else min(frame.captured_at_s for frame, _ in invocation.items) + slo,
                snapshot,
                invocation.choice,
                tuple(self._plan.stages[following].name for following in invocation.chain),
            )
        )

    def _chain(self, invocation: Invocation) -> tuple[int, ...]:
        """What to run after it. An item that has failed goes stage by stage; so does all where one failure is final."""
        stages, items = [invocation.stage], invocation.items
        while (following := self._following[stages[-1]]) >= 0:
            if not all(may_follow(self._topology, frame, stages[-1], following) for frame, _ in items):
                break
            if not invocation.seat.serves(following):
                break
            stages.append(following)
        if len(stages) == 1 or self._faults.max_attempts < 2:
            return ()
        if self._suspects and any(self._suspects.has(stage, item) for stage in stages for item in items):
            return ()
        return tuple(stages[1:])

    def _usual_s(self, invocation: Invocation) -> float:
        """How long it usually takes."""
        n = len(invocation.items)
        first_s = self.chooser.median_s(invocation.stage, invocation.choice, n)
        return first_s + sum(self.chooser.median_s(stage, 0, n) for stage in invocation.chain)

    # -- taking back --------------------------------------------------------------------------------------------

    def done(self, event: ev.InvocationDone, now_s: float) -> None:
        """An answer. One that is not wanted any more only frees its worker."""
        invocation = self.invocations.pop(event.invocation, None)
        if invocation is None:  # its worker was given up and the items went elsewhere
            return
        stage, seat = invocation.stage, invocation.seat
        seat.losses = 0
        seat.answered.add(stage)
        self._leave(seat, invocation.number, now_s)
        self._saw(stage, invocation.choice, len(invocation.items), event.busy_s, now_s)
        for following, part in zip(invocation.chain, event.chain, strict=True):
            if num_run := len(part.counts) - part.counts.count(ev.NOT_RUN):
                seat.answered.add(following)
                self._saw(following, 0, num_run, part.busy_s, now_s)
        if self.chooser.active:
            held = (self.invocations[number] for number in seat.held)
            seat.free_at_s = now_s + sum(self._usual_s(other) for other in held)
        self._workforce.changed(seat, freed=True)
        self._unblock(seat)
        if invocation.void:
            return
        if invocation.twin is not None:
            self._void(invocation.twin)
        stateful = self._plan.stages[stage].stateful
        if stateful:
            home = self._homes[stage, invocation.items[0][0].stream]
            home.has_state = True
        again: list[Item] = []
        for i, item in enumerate(invocation.items):
            measures = event.measures[i] if event.measures else ()
            if event.counts[i] == ev.FAILED_ITEM:
                reason = event.errors.get(i, "failed")
                if not self._blame(stage, item, seat, reason, final=stateful):
                    again.append(item)
                continue
            self._suspects.acquit(stage, item)
            if invocation.chain:
                self._keep_ahead(invocation, i, event.chain)
            self._flow.item_done(item[0], stage, event.counts[i], measures, "")
        self._requeue(stage, again)

    def _saw(self, stage: int, choice: int, num_items: int, busy_s: float, now_s: float) -> None:
        """So many of a stage's items were run in one invocation."""
        self._durations[stage][choice].add(busy_s)
        if self.chooser.active:
            self.chooser.saw(stage, choice, num_items, busy_s, now_s)

    def _keep_ahead(self, invocation: Invocation, place: int, chain: list[ev.Chained]) -> None:
        """Keep what the chain has made of an item, for a frame that goes on to it: some are given up meanwhile."""
        frame, _ = invocation.items[place]
        for stage, part in zip(invocation.chain, chain, strict=True):
            count = part.counts[place]
            if count == ev.NOT_RUN or frame.state[stage] is not ItemState.WAITING:
                return
            measures = part.measures[place] if part.measures else ()
            error = part.errors.get(place, "failed") if count == ev.FAILED_ITEM else ""
            self.ahead[stage, frame.stream, frame.seq] = Ahead(invocation.seat, count, measures, error)

    def answered_ahead(self, frame: FrameRecord, stage: int) -> bool:
        """Whether the stage's one item of the frame was run in a chain before its turn: then that is its answer."""
        answer = self.ahead.pop((stage, frame.stream, frame.seq), None) if self.ahead else None
        if answer is None:
            return False
        frame.state[stage] = ItemState.DISPATCHED
        if self.chooser.decides_for(stage):
            self.decided[stage][0, "chained"] += 1
        if answer.count != ev.FAILED_ITEM:
            self._flow.item_done(frame, stage, answer.count, answer.measures, "")
        elif not self._blame(stage, (frame, 0), answer.seat, answer.error):
            self._requeue(stage, [(frame, 0)])
        return True

    def restored(self, event: ev.StateRestored, now_s: float) -> None:
        """A stream's memory is where its home is."""
        home = self._homes[self._topology.index[event.stage], event.stream]
        seat = home.seat
        if seat is not None and seat.name == event.worker:
            home.restoring = False
            seat.restoring -= 1
            self._unblock(seat)
            if seat.held and not seat.restoring:
                self._begins(self.invocations[seat.held[0]], now_s)

    def unable(self, seat: Seat, stage: int) -> None:
        """A worker cannot load the stage: it is nobody's home there."""
        for (at, _), home in self._homes.items():
            if at == stage and home.seat is seat:
                home.leave()

    def lost(self, seat: Seat, reason: str, now_s: float) -> None:
        """A worker is gone: what it had goes to others. Only the invocation that it was running is to blame."""
        self.need_all()
        for (stage, stream), home in self._homes.items():
            if home.seat is seat:
                home.leave()
                self._checkpoints.state_lost(stage, stream)
        held = list(seat.held)
        seat.held.clear()
        seat.guarded = False
        seat.free_at_s = now_s
        self._watch.end(seat)
        for number in reversed(held):
            invocation = self.invocations.pop(number)
            if invocation.void:
                continue
            if invocation.twin is not None:
                invocation.twin.twin = None
                continue
            stage = invocation.stage
            if number == held[0]:
                self._suspect(invocation)
                blamed = [item for item in invocation.items if not self._blame(stage, item, seat, reason)]
                self._requeue(stage, blamed)
            else:
                self._requeue(stage, invocation.items)

    def _suspect(self, invocation: Invocation) -> None:
        """Which stage of a chain has cost the worker, nobody knows: it counts as an attempt of each."""
        for stage in invocation.chain:
            for item in invocation.items:
                self._suspects.failed(stage, item, invocation.seat.name)

    def give_up(self, reason: str, *, cancelled: bool) -> None:
        """Nothing is tried again: what is queued fails or is cancelled now, what is out fails if it comes back so."""
        self._hopeless = reason
        for stage, queue in enumerate(self.queues):
            for frame, _ in queue.clear():
                if cancelled:
                    self._flow.item_cancelled(frame, stage, reason)
                else:
                    self._flow.item_done(frame, stage, ev.FAILED_ITEM, (), reason)

    def _requeue(self, stage: int, items: list[Item]) -> None:
        if self._hopeless is not None:
            for frame, _ in items:
                self._flow.item_done(frame, stage, ev.FAILED_ITEM, (), self._hopeless)
            return
        for frame, _ in items:
            frame.state[stage] = ItemState.QUEUED
        self.queues[stage].put_back(items)

    def _blame(self, stage: int, item: Item, seat: Seat, reason: str, *, final: bool = False) -> bool:
        """Count a failure of the item; True where it was the last one and the item has failed for good.

        ``final``: an operator that remembers and raised has seen the item; once more would be twice.
        """
        attempts = self._suspects.failed(stage, item, seat.name)
        if attempts < self._faults.max_attempts and not final and self._hopeless is None:
            return False
        over = stage
        while over >= 0:  # it will never come to what follows in the stage's chain, either
            self._suspects.acquit(over, item)
            over = self._following[over]
        frame, index = item
        self._flow.item_done(frame, stage, ev.FAILED_ITEM, (), reason)
        name = self._plan.stages[stage].name
        self.out.append(act.Quarantine(name, frame.stream, frame.seq, index, reason))
        return True

    # -- watching -----------------------------------------------------------------------------------------------

    def _leave(self, seat: Seat, number: int, now_s: float) -> None:
        """Take an invocation off its seat; the next one in line is being run from now on."""
        first = seat.held[0] == number
        seat.held.remove(number)
        seat.guarded = False
        if first:
            self._watch.end(seat)
            if seat.held:
                self._begins(self.invocations[seat.held[0]], now_s)

    def _begins(self, invocation: Invocation, now_s: float) -> None:
        """Its worker comes to it."""
        seat = invocation.seat
        if seat.restoring:  # it has to wait for that first
            return
        faults = self._faults
        durations = [self._durations[invocation.stage][invocation.choice]]
        durations += [self._durations[stage][0] for stage in invocation.chain]
        known_s = [of_stage.p95_s for of_stage in durations if of_stage.p95_s is not None]
        p95_s = sum(known_s) if len(known_s) == len(durations) else None
        hang_s = faults.first_hang_s if p95_s is None else max(faults.hang_factor * p95_s, faults.hang_floor_s)
        if not seat.answered.issuperset(invocation.stages):  # it may import, compile and warm up
            hang_s = max(hang_s, faults.warm_hang_s)
        slow_s = inf
        twins = self._plan.policy.stragglers and not self._plan.stages[invocation.stage].stateful
        if p95_s is not None and all(of_stage.settled for of_stage in durations) and twins:
            slow_s = max(faults.straggler_factor * p95_s, self._slow_floor_s)
        self._watch.begin(seat, now_s + slow_s, now_s + hang_s)

    def shift(self, by_s: float) -> None:
        """So much time has passed in which nobody could have noticed an answer."""
        for seat in self._workforce:
            self._watch.shift(seat, by_s)

    def look_at(self, seat: Seat, now_s: float) -> None:
        """What the seat runs may have taken too long by now."""
        late, hung = self._watch.rang(seat, now_s)
        if late:
            self._straggles(seat.held[0])
        if hung:
            self._hangs(seat.held[0])

    def _straggles(self, number: int) -> None:
        """The invocation takes longer than it should."""
        invocation = self.invocations.get(number)
        if invocation is not None and not invocation.void and invocation.twin is None and self._may_twin(invocation):
            self._late.append(invocation)

    def _hangs(self, number: int) -> None:
        """The invocation will never return."""
        invocation = self.invocations.get(number)
        if invocation is not None:
            names = " or ".join(self._plan.stages[stage].name for stage in invocation.stages)
            self._workforce.condemn(invocation.seat, f"stage {names} did not return")

    def restore_hangs(self, memory: str, number: int) -> None:
        """A stage's memory of a stream (``stage/stream``) will never be up again where it was sent."""
        stage, _, stream = memory.partition("/")
        home = self._homes[self._topology.index[stage], stream]
        if home.restoring and home.restored == number and home.seat is not None:
            self._workforce.condemn(home.seat, f"stage {stage} did not come up again")

    def silent(self, seat: Seat) -> None:
        """What a silent worker holds is worth a second one, and others do what it was to."""
        self.need_all()
        for number in seat.held:
            self._straggles(number)

    def _may_twin(self, invocation: Invocation) -> bool:
        return not self._plan.stages[invocation.stage].stateful

    def _duplicate(self, now_s: float) -> None:
        waiting: list[Invocation] = []
        for late in self._late:
            if late.void or late.twin is not None or self.invocations.get(late.number) is not late:
                continue
            other = self._workforce.freest(late.stage, late.choice, late.seat.name)
            if other is None or other is late.seat:
                waiting.append(late)
                continue
            twin = Invocation(self._next, late.stage, other, late.items, late.choice, late)
            late.twin = twin
            self._send(twin, now_s)
        self._late = waiting

    def _void(self, invocation: Invocation) -> None:
        invocation.void, invocation.twin = True, None
        self.out.append(act.Forget(invocation.number))
