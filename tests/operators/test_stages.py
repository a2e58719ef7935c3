"""Operators as functions: their arguments are the operators' own, and what they make validates."""

from __future__ import annotations

import inspect

import pytest

import llamapipe_operators
from llamapipe.errors import UsageError
from llamapipe.operator import Operator
from llamapipe.spec import BoxesPort, FramesPort, PipelineBuilder, TracksPort
from llamapipe.spec.knobs import knob_names
from llamapipe_operators import OPERATORS, blur, crop, detect, hold, motion_gate, track

HANDLED = {"name", "when"}


def function_of(cls: type[Operator]) -> inspect.Signature:
    return inspect.signature(getattr(llamapipe_operators, cls.manifest.short_name.replace("-", "_")))


@pytest.mark.parametrize("cls", OPERATORS, ids=lambda cls: cls.manifest.short_name)
def test_a_function_takes_what_its_operator_takes(cls: type[Operator]) -> None:
    manifest, arguments = cls.manifest, set(function_of(cls).parameters)
    expected = {*manifest.inputs, *manifest.params, *knob_names(manifest), *HANDLED}
    if manifest.hides:
        expected.discard("when")  # hiding takes no condition
    assert arguments == expected


def test_outputs_are_typed_ports_and_a_stage_stands_for_its_only_one() -> None:
    pipeline = PipelineBuilder("typed")
    people = detect(pipeline.frames, task="person-detection")
    tracks = track(people)
    heads = crop(pipeline.frames, tracks)
    hidden = blur(pipeline.frames, [detect(heads, task="face-detection"), tracks])
    assert isinstance(people.boxes, BoxesPort)
    assert isinstance(tracks.tracks, TracksPort)
    assert isinstance(hidden.frames, FramesPort)
    ops = {op.name: op for op in pipeline.spec().ops}
    assert ops["crop"].inputs == {"frames": ("$source.frames",), "boxes": ("$ops.track.tracks",)}
    assert ops["blur"].inputs["boxes"] == ("$ops.detect-2.boxes", "$ops.track.tracks")


def test_a_stage_with_two_outputs_stands_for_the_one_that_fits() -> None:
    pipeline = PipelineBuilder("gated")
    gate = motion_gate(pipeline.frames)
    detect(gate, task="person-detection")
    assert pipeline.spec().ops[1].inputs == {"frames": ("$ops.motion-gate.frames",)}


def test_what_is_left_out_is_not_written_down() -> None:
    pipeline = PipelineBuilder("bare")
    detect(pipeline.frames, task="person-detection")
    assert pipeline.spec().ops[0].params == {"task": "person-detection"}


def test_no_ports_at_all_are_refused() -> None:
    with pytest.raises(UsageError, match="hold: expected a port"):
        hold([])
