"""Rates per group and how rankings favour groups, on cases that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from awase.evaluation.fairness import group_figures, ndkl, shares, skew, skew_rows
from awase.evaluation.intervals import proportion

HALF = {"a": 0.5, "b": 0.5}


def test_rates_and_gap() -> None:
    items = {"correct": np.array([1, 1, 1, 0, 0, 1, 0], bool), "picture": np.array([0, 1, 2, 3, 5, 6, 7])}
    figures = group_figures(items, {"sex": ("w", "w", "w", "w", "m", "m", "m", "m")})
    assert figures["top1, sex = w"].value == 3 / 4
    assert figures["top1, sex = m"].value == 1 / 3
    assert figures["top1, sex = m"].interval == proportion(1, 3)
    gap = figures["top1, sex: gap"]
    assert gap.value == pytest.approx(3 / 4 - 1 / 3)
    assert gap.n == 7
    assert gap.interval
    assert gap.interval[0] < 0 < gap.interval[1]


def test_the_gaps_interval_is_newcombes() -> None:
    """Newcombe, 1998, table II (a): 56/70 and 48/80."""
    right = np.repeat([True, False, True, False], [56, 14, 48, 32])
    groups = {"g": ("x",) * 70 + ("y",) * 80}
    gap = group_figures({"correct": right, "picture": np.arange(150)}, groups)["top1, g: gap"]
    np.testing.assert_allclose(gap.interval, (0.0524, 0.3339), atol=1e-4)


def test_a_gap_is_between_groups_that_are_large_enough() -> None:
    """One picture of a kind that was answered wrongly is no evidence of a gap; no value is no group."""
    values = ["x"] * 20 + ["y"] * 20 + ["z"] + [""] * 5
    correct = np.array([True] * 15 + [False] * 5 + [True] * 10 + [False] * 10 + [False] * 6)
    figures = group_figures({"correct": correct, "picture": np.arange(46)}, {"g": values})
    assert list(figures) == ["top1, g = x", "top1, g = y", "top1, g = z", "top1, g: gap"]
    assert figures["top1, g: gap"].value == pytest.approx(0.25)
    assert figures["top1, g: gap"].n == 40


def test_one_group_has_no_gap() -> None:
    figures = group_figures({"correct": np.ones(3, bool), "picture": np.arange(3)}, {"sex": ("w",) * 3})
    assert list(figures) == ["top1, sex = w"]


def test_skew_of_hand() -> None:
    ranked = np.array(list("aaabbaabbb"))
    assert skew(ranked, HALF) == {"a": 0.0, "b": 0.0}
    assert skew(ranked, HALF, 4) == pytest.approx({"a": math.log(0.75 / 0.5), "b": math.log(0.25 / 0.5)})
    assert skew(ranked, HALF, 3)["b"] < -10, "an absent group has a very small, finite skew"


def test_ndkl_of_hand() -> None:
    assert ndkl(np.array(["a", "b"]), HALF) == pytest.approx(math.log(2) / (1 + 1 / math.log2(3)), abs=1e-4)
    alternating, sorted_ = np.array(["a", "b"] * 50), np.array(["a"] * 50 + ["b"] * 50)
    assert 0 < ndkl(alternating, HALF) < 0.2 < ndkl(sorted_, HALF)
    assert ndkl(np.array(["a"] * 7), {"a": 1.0}) == 0


def test_shares() -> None:
    assert shares(np.array(["x", "y", "x", "x"])) == {"x": 0.75, "y": 0.25}


def test_rows_compare_the_groups_among_each_answer() -> None:
    items = {
        "predicted": np.repeat([0, 1, 2], [20, 20, 3]),
        "probability": np.linspace(1, 0, 43),
        "picture": np.arange(43),
    }
    groups = {"side": ("l",) * 15 + ("r",) * 5 + ("l",) * 5 + ("r",) * 15 + ("l",) * 3}
    rows = skew_rows(items, groups, ["cat", "dog", "owl"])
    assert [row["predicted"] for row in rows] == ["cat", "dog"], "three pictures are too few"
    assert (rows[0]["most"], rows[0]["least"]) == ("l", "r")
    assert rows[0]["max_skew"] == pytest.approx(math.log(0.75 / (23 / 43)))
    assert rows[1]["min_skew"] == pytest.approx(math.log(0.25 / (23 / 43)))


def test_pictures_without_a_value_are_in_no_row() -> None:
    items = {"predicted": np.repeat([0, 1], [40, 15]), "probability": np.linspace(1, 0, 55), "picture": np.arange(55)}
    values = ("l",) * 10 + ("r",) * 10 + ("",) * 20 + ("l",) * 4 + ("",) * 11
    (row,) = skew_rows(items, {"side": values}, ["cat", "dog"])
    assert (row["predicted"], row["n"], row["most"], row["least"]) == ("cat", 20, "r", "l")
    assert row["max_skew"] == pytest.approx(math.log(0.5 / (10 / 24)))
    assert skew_rows(items, {"side": ("",) * 55}, ["cat", "dog"]) == []
