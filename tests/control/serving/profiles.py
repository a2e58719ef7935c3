"""Profiles as literal figures."""

from __future__ import annotations

from llamapipe.catalog import AccuracyFigure, BatchPoint, Profile, Variant


def profile(
    model="a",
    seconds=0.03,
    *,
    threads=1,
    agreement=0.9,
    load_s=0.3,
    memory=100,
    task="people",
    batches=(1, 2, 4, 8),
    tail=1.1,
    saves=0.9,  # of an item's time that each further item of a batch takes
    **more,
) -> Profile:
    points = tuple(
        BatchPoint(n, seconds * (1 + saves * (n - 1)), seconds * (1 + saves * (n - 1)) * tail, 0.0, 10, 0.02)
        for n in batches
    )
    accuracy = () if agreement is None else (AccuracyFigure("f1", agreement, "clip", "agreement"),)
    more.setdefault("accuracy", accuracy)
    return Profile(
        Variant(model, "onnxruntime", threads=threads, input_size=(8, 8)),
        "here",
        load_s=load_s,
        peak_memory_bytes=memory,
        points=points,
        tasks=(task,),
        **more,
    )


def name(model, threads=1) -> str:
    return f"{model}/onnxruntime/cpu/fp32/8x8/t{threads}"
