"""What a stage did, such that no frame's work counts twice once a run was gone on with."""

from llamapipe.session.checkpoints import StageTally
from llamapipe.session.stage_work import StageWork


def test_only_work_before_the_checkpoint_is_kept():
    work = StageWork(None, {"cam": 0})
    for seq in range(4):
        work.did([("cam", seq, 0)], {0} if seq == 1 else (), 0.5)
    work.passed("cam", 2)
    assert work.tally() == StageTally(items=2, invocations=2, failed=1, busy_s=1.0)
    work.passed("cam", 4)
    assert work.tally() == StageTally(items=4, invocations=4, failed=1, busy_s=2.0)


def test_an_invocation_across_the_checkpoint_is_divided_by_its_items():
    work = StageWork(None, {"cam": 0})
    work.did([("cam", 1, 0), ("cam", 2, 0)], (), 1.0)
    work.passed("cam", 2)
    assert work.tally() == StageTally(items=1, invocations=1, failed=0, busy_s=0.5)


def test_an_answer_that_comes_after_the_checkpoint_of_its_frame_counts():
    work = StageWork(None, {"cam": 0})
    work.passed("cam", 2)
    work.did([("cam", 1, 0)], (), 1.0)
    assert work.tally() == StageTally(items=1, invocations=1, failed=0, busy_s=1.0)


def test_a_process_that_goes_on_adds_to_what_was_done_before():
    before = StageTally(items=10, invocations=5, failed=1, busy_s=2.0)
    work = StageWork(before, {"cam": 10, "other": 0})
    work.did([("cam", 10, 0)], (), 1.0)
    assert work.tally() == before
    work.passed("cam", 20)
    assert work.tally() == StageTally(items=11, invocations=6, failed=1, busy_s=3.0)


def test_a_stream_that_begins_anew_is_not_counted():
    work = StageWork(None, {"file": 0})
    work.did([("camera", 0, 0)], (), 1.0)
    work.passed("file", 5)
    assert work.tally() == StageTally(items=0, invocations=0, failed=0, busy_s=0.0)
