"""A small share of the grid is measured, and the rest is known well enough."""

import math

import numpy as np
import pytest

from llamapipe.catalog import Variant
from llamapipe.errors import UsageError
from llamapipe.tune import BATCHES, Figures, ProfileSearch

ENGINES = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
PACE = {("onnxruntime", "fp32"): 1.0, ("openvino", "fp32"): 1.3, ("openvino", "bf16"): 0.9}


def variants(model, sides=(256, 320, 416, 512, 640), engines=ENGINES):
    return [
        Variant(model, backend, "cpu", precision, (side, side), threads)
        for backend, precision in engines
        for side in sides
        for threads in (1, 2)
    ]


def latency_s(variant, batch, work=1.0):
    """Fixed calls, pixels, threads that do not help all of it, and caches that large batches overflow."""
    pixels = variant.input_size[0] * variant.input_size[1]
    pace = PACE[(variant.backend, variant.precision)]
    one = 6e-8 * work * pixels * pace * (0.08 + 0.92 / variant.threads**0.85)
    overflow = 1 + 0.12 / (1 + math.exp(-(math.log2(batch * pixels / 320**2) - 3)))
    return 0.0006 + batch * (one * overflow + 0.0002)


def figures(variant, batch, noise=0.0, work=1.0):
    median_s = latency_s(variant, batch, work) * (1 + noise)
    return Figures(median_s, 1.1 * median_s, variant.threads * median_s, 0.3, 50_000_000 + 3_000_000 * batch, count=9)


def drive(search, seed=0):
    random = np.random.default_rng(seed)
    while (asked := search.ask()) is not None:
        search.tell(*asked, figures(*asked, noise=random.normal(0, 0.02)))
    return search


def test_fifteen_percent_measured_tell_the_rest_within_ten_percent():
    """Errors of what was not measured: at most 10 % at the median, 25 % at the 95th percentile."""
    grid = [(variant, batch) for variant in variants("net") for batch in BATCHES]
    search = drive(ProfileSearch(grid))
    assert search.num_measured <= 0.15 * len(grid)
    predicted = search.predict()
    errors = [abs(predicted[p].median_s / latency_s(*p) - 1) for p in grid if p not in search.measured]
    assert np.median(errors) <= 0.05
    assert np.percentile(errors, 95) <= 0.15
    others = [predicted[p] for p in grid if not predicted[p].count]
    assert all(f.p95_s / f.median_s == pytest.approx(1.1, rel=0.05) for f in others)
    assert all(f.load_s == pytest.approx(0.3, rel=0.2) for f in others)


def test_the_same_seed_asks_the_same():
    grid = [(variant, batch) for variant in variants("net", sides=(320, 416)) for batch in BATCHES]
    assert drive(ProfileSearch(grid)).measured.keys() == drive(ProfileSearch(grid)).measured.keys()


def test_other_models_tell_of_the_libraries_paces():
    """With three points of a model of one size, what is known of another model makes the difference."""
    grid = [(variant, batch) for variant in variants("small", sides=(320,)) for batch in (1, 4, 16)]
    known = {(variant, batch): latency_s(variant, batch, 3.0) for variant in variants("large") for batch in (1, 8, 32)}

    def error(search):
        predicted = drive(search).predict()
        return float(np.mean([abs(predicted[p].median_s / latency_s(*p) - 1) for p in grid]))

    assert error(ProfileSearch(grid, known=known)) < 0.5 * error(ProfileSearch(grid))


def test_what_cannot_be_had_is_neither_asked_nor_predicted_nor_counted():
    grid = [(variant, batch) for variant in variants("net") for batch in BATCHES]
    search = ProfileSearch(grid)
    search.fail(lambda variant, batch: batch > 1)
    assert search.num_points == 30
    assert search.budget == 4
    drive(search)
    assert {batch for _, batch in search.measured} == {1}
    assert {batch for _, batch in search.predict()} == {1}


def test_two_shapes_of_one_area_are_measured_once():
    tall, wide = (Variant("net", "openvino", "cpu", "fp32", size, 1) for size in ((320, 640), (640, 320)))
    search = ProfileSearch([(tall, 1), (wide, 1)])
    assert search.ask() == (tall, 1)
    search.tell(tall, 1, figures(tall, 1))
    assert search.ask() is None
    predicted = search.predict()
    assert predicted[(wide, 1)].median_s == predicted[(tall, 1)].median_s
    assert (predicted[(tall, 1)].count, predicted[(wide, 1)].count) == (9, 0)


def test_a_grid_of_nothing_and_a_prediction_from_nothing_are_refused():
    with pytest.raises(UsageError, match="no variant"):
        ProfileSearch([])
    with pytest.raises(UsageError, match="nothing was measured"):
        ProfileSearch([(variants("net")[0], 1)]).predict()
