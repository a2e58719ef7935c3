"""AP, F1 and matching on boxes small enough to count by hand."""

import math

import numpy as np
import pytest

from llamapipe.accuracy import average_precision, best_f1, iou_matrix, match, precision_recall

A, B, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [90, 90, 99, 99]


def boxes(*rows):
    return np.array(rows, float).reshape(-1, 4)


def test_iou_is_common_over_united_area():
    assert iou_matrix(boxes(A), boxes(A, [5, 0, 15, 10], FAR)).round(4).tolist() == [[1, 0.3333, 0]]
    assert iou_matrix(boxes([3, 3, 3, 3]), boxes([3, 3, 3, 3])).tolist() == [[0]]


def test_a_truth_is_found_once_and_by_the_surest():
    assert match(boxes(A, A), np.array([0.5, 0.9]), boxes(A), 0.5).tolist() == [False, True]


def test_ap_is_the_area_under_the_envelope_at_every_point_of_recall():
    """Right, wrong, right of two truths: precision 1, 1/2, 2/3; area 0.5 * 1 + 0.5 * 2/3."""
    curve = precision_recall([(boxes(A, FAR, B), np.array([0.9, 0.8, 0.7]), boxes(A, B))], 0.5)
    assert average_precision(curve) == pytest.approx(5 / 6)


def test_scores_are_ordered_over_all_frames():
    frames = [(boxes(FAR), np.array([0.9]), boxes()), (boxes(A), np.array([0.5]), boxes(A))]
    assert average_precision(precision_recall(frames, 0.5)) == pytest.approx(0.5)


def test_nothing_found_is_zero_and_nothing_to_find_is_undefined():
    assert average_precision(precision_recall([(boxes(), np.empty(0), boxes(A))], 0.5)) == 0
    assert math.isnan(average_precision(precision_recall([(boxes(A), np.ones(1), boxes())], 0.5)))
    assert best_f1(precision_recall([], 0.5)) == (0, 0, 0, 0)


def test_f1_is_taken_at_its_best_threshold():
    curve = precision_recall([(boxes(A, FAR), np.array([0.9, 0.1]), boxes(A))], 0.5)
    assert best_f1(curve) == (1, 1, 1, 0.9)
