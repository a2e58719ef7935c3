"""Streams whose source is not there when the run begins."""

from msgspec.structs import replace

from llamapipe.control import Controller, encode_entry, encode_plan
from llamapipe.control import actions as act
from llamapipe.control import events as ev
from llamapipe.control import replay as played_again
from tests.control.plans import detect_only

LOADED = ev.ReplicaLoaded("w0/detect")
OPENED = ev.StreamOpened("cam1", "drop-newest", 2, True)
OTHER_ENDS = (ev.StreamEnded("cam0", 0, None), ev.StreamClosed("cam0"))


class Run:
    """Control with cam0, which is there, and cam1, which is awaited."""

    def __init__(self, awaited="others"):
        made = detect_only(workers=1, streams=2, max_in_flight=8)
        first, second = made.streams
        late = replace(second, drop_policy="drop-oldest", paced=True, awaited=awaited)
        self.control = Controller(replace(made, streams=(replace(first, paced=True), late)))
        self.log = [encode_plan(self.control.plan)]

    def tell(self, *events):
        """Actions of the last event."""
        for event in events:
            actions = self.control.step(event, 1.0)
            self.log.append(encode_entry(1.0, event, actions))
            self.control.check_invariants()
        return actions


def test_the_others_begin_without_it():
    assert Run().tell(ev.Start(), LOADED) == [act.Grant("cam0", 4)]


def test_once_it_is_there_it_is_granted_its_window_and_its_frames_flow():
    run = Run()
    assert run.tell(ev.Start(), LOADED, OPENED) == [act.Grant("cam1", 4)]
    assert run.tell(ev.FramesArrived("cam1", 0, [1.0], [0.0])) == [
        act.Dispatch(0, "w0/detect", "w0", "detect", [("cam1", 0, 0)])
    ]


def test_one_that_comes_while_replicas_load_begins_with_the_others():
    assert Run().tell(ev.Start(), OPENED, LOADED) == [act.Grant("cam0", 4), act.Grant("cam1", 4)]


def test_one_that_need_not_be_paced_begins_at_once():
    assert Run().tell(ev.Start(), replace(OPENED, paced=False)) == [act.Grant("cam1", 4)]


def test_it_is_run_as_it_was_found_to_be():
    """Of eight frames four are in flight and two may wait, the oldest."""
    run = Run()
    run.tell(ev.Start(), LOADED, OPENED, ev.FramesArrived("cam1", 0, [1.0] * 8, [i / 10 for i in range(8)]))
    assert [frame.seq for frame in run.control._streams["cam1"].pending] == [4, 5]


def test_one_that_never_comes_is_let_go_when_the_others_have_ended():
    run = Run()
    assert run.tell(ev.Start(), LOADED, *OTHER_ENDS) == [act.StopSource("cam1")]
    assert run.tell(ev.StreamEnded("cam1", 0, "refused")) == [act.CloseStream("cam1")]
    assert run.tell(ev.StreamClosed("cam1")) == [act.StopWorker("w0"), act.Finish("done", "")]


def test_one_with_a_limit_of_its_own_is_waited_for_until_then():
    run = Run("limit")
    assert run.tell(ev.Start(), LOADED, *OTHER_ENDS) == []
    assert run.tell(OPENED) == [act.Grant("cam1", 4)]


def test_one_that_comes_when_it_was_told_to_stop_is_granted_nothing():
    run = Run()
    assert run.tell(ev.Start(), LOADED, ev.Cancel(), OPENED) == []
    assert run.tell(ev.StreamEnded("cam1", 0, None)) == [act.CloseStream("cam1")]


def test_a_log_with_one_that_came_replays_alike():
    run = Run()
    run.tell(ev.Start(), LOADED, OPENED, ev.FramesArrived("cam1", 0, [1.0] * 8, [i / 10 for i in range(8)]))
    assert played_again(run.log).ledger.to_dict() == run.control.ledger.to_dict()
