"""Intervals cover the truth as often as they claim, and paired tests agree with the textbook."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from awase.errors import UsageError
from awase.evaluation.intervals import (
    bootstrap,
    clustered_proportion,
    crossed_proportion,
    exact_difference,
    mcnemar,
    mean_of_proportions,
    paired_bootstrap,
    proportion,
    proportion_with_error,
)


def test_proportions_cover_the_truth_in_93_to_97_of_100_studies() -> None:
    rng, covered = np.random.default_rng(0), {"small": [], "large": []}
    for _ in range(2000):
        n, truth = round(math.exp(rng.uniform(math.log(20), math.log(2000)))), rng.uniform(0.5, 0.98)
        low, high = proportion(int(rng.binomial(n, truth)), n)
        covered["small" if n < 200 else "large"].append(low <= truth <= high)
    assert 0.93 <= np.mean(covered["small"]) <= 0.97
    assert 0.93 <= np.mean(covered["large"]) <= 0.97
    assert 0.93 <= np.mean(covered["small"] + covered["large"]) <= 0.97


def test_the_exact_interval_is_that_of_the_exact_test() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(10, 200))
        a, b = rng.random(n) < 0.8, rng.random(n) < rng.choice([0.5, 0.8, 0.95])
        low, high = exact_difference(a, b)
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        apart = only_a + only_b
        share = stats.binomtest(only_a, max(apart, 1)).proportion_ci(0.95, method="exact") if apart else (0, 1)
        assert low - 1e-9 <= a.mean() - b.mean() <= high + 1e-9
        if apart:
            np.testing.assert_allclose([low, high], (2 * np.array(share) - 1) * apart / n, atol=1e-9)
        assert (low <= 0 <= high) == (mcnemar(a, b) >= 0.05)


@pytest.mark.parametrize("draws", [2, 3, 5, 10])
def test_draws_and_items_both_count(draws: int) -> None:
    """Draws of training pictures and test pictures, each easier or harder than the mean by so much."""
    rng, covered, of_items = np.random.default_rng(draws), [], []
    for _ in range(1000):
        n, truth, spread = int(rng.integers(50, 400)), rng.uniform(0.35, 0.65), rng.uniform(0, 0.1)
        ease = truth + rng.uniform(-spread, spread, (draws, 1)) + rng.uniform(-0.25, 0.25, n)
        hits = rng.random((draws, n)) < ease
        low, high = crossed_proportion(hits)
        covered.append(low <= truth <= high)
        low, high = bootstrap(hits.mean(axis=0), draws=200)
        of_items.append(low <= truth <= high)
    assert 0.93 <= np.mean(covered) <= 0.985
    assert np.mean(of_items) < 0.92


def test_one_draw_has_the_interval_of_its_items() -> None:
    hits = np.random.default_rng(0).random((1, 400)) < 0.7
    np.testing.assert_allclose(crossed_proportion(hits), proportion(int(hits.sum()), 400), atol=2e-3)
    assert crossed_proportion(np.ones((3, 20), bool)) == proportion(20, 20)


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (1, 20), (10, 20), (20, 20), (490, 500)])
def test_proportion_is_wilsons(successes: int, n: int) -> None:
    wilson = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(proportion(successes, n), (wilson.low, wilson.high), atol=1e-12)
    wider = stats.binomtest(successes, n).proportion_ci(0.99, method="wilson")
    np.testing.assert_allclose(proportion(successes, n, 0.99), (wider.low, wider.high), atol=1e-12)


def test_proportion_of_nothing_and_of_too_much() -> None:
    assert proportion(0, 0) == (0.0, 1.0)
    with pytest.raises(UsageError, match="5 successes of 4"):
        proportion(5, 4)


def test_a_figure_with_the_error_of_a_proportion_gets_its_interval() -> None:
    value, n = 0.8, 50
    error = math.sqrt(value * (1 - value) / n)
    np.testing.assert_allclose(proportion_with_error(value, error, 7), proportion(40, 50))
    assert proportion_with_error(1.0, 0.0, 20) == proportion(20, 20)


def test_clusters_of_one_item_are_no_clusters_and_copies_add_nothing() -> None:
    hits = np.random.default_rng(1).random(2000) < 0.7
    alone = clustered_proportion(hits, np.arange(2000))
    np.testing.assert_allclose(alone, proportion(int(hits.sum()), 2000), atol=2e-4)
    five_times = clustered_proportion(np.repeat(hits, 5), np.repeat(np.arange(2000), 5))
    np.testing.assert_allclose(five_times, alone, atol=1e-12)
    low, high = clustered_proportion(np.ones(100), np.repeat(np.arange(20), 5))
    assert (low, high) == proportion(20, 20)


def test_clustered_proportions_cover_the_truth_where_single_ones_do_not() -> None:
    rng, clustered, single = np.random.default_rng(2), [], []
    for _ in range(1000):
        ease = rng.beta(2.1, 0.9, 80)
        owners = np.repeat(np.arange(80), rng.integers(4, 7, 80))
        hits = rng.random(len(owners)) < ease[owners]
        for found, interval in (
            (clustered, clustered_proportion(hits, owners)),
            (single, proportion(int(hits.sum()), len(hits))),
        ):
            found.append(interval[0] <= 0.7 <= interval[1])
    assert 0.93 <= np.mean(clustered) <= 0.97
    assert np.mean(single) < 0.9


@pytest.mark.parametrize("size", [1, 3, 40])
def test_means_over_classes_cover_the_truth(size: int) -> None:
    rng, covered = np.random.default_rng(3), []
    for _ in range(1000):
        ease = rng.beta(40, 10, 50)
        low, high = mean_of_proportions(rng.binomial(size, ease), np.full(50, size))
        covered.append(low <= ease.mean() <= high)
    assert 0.93 <= np.mean(covered) <= 0.98


def test_the_bootstrap_of_a_mean_is_the_usual_one() -> None:
    values = np.random.default_rng(4).exponential(size=400)
    low, high = bootstrap(values)
    error = values.std() / 20
    np.testing.assert_allclose((low, high), (values.mean() - 1.96 * error, values.mean() + 1.96 * error), atol=0.02)
    assert bootstrap(values) == (low, high), "the same seed gives the same interval"
    assert bootstrap(values, seed=1) != (low, high)
    few_kinds = values > 1  # drawn by kind rather than one by one
    np.testing.assert_allclose(bootstrap(few_kinds), proportion(int(few_kinds.sum()), 400), atol=0.01)


def test_the_bootstrap_takes_clusters_whole() -> None:
    rng = np.random.default_rng(5)
    owners = rng.permutation(np.repeat(np.arange(50), rng.integers(1, 6, 50)))
    values = rng.normal(size=50)[owners] + 0.01 * rng.normal(size=len(owners))
    by_mean = bootstrap(values, clusters=owners, draws=4000)
    by_statistic = bootstrap(values, lambda rows: float(rows.mean()), clusters=owners, draws=4000)
    np.testing.assert_allclose(by_mean, by_statistic, atol=0.04)
    assert np.diff(by_mean) > 1.5 * np.diff(bootstrap(values)), "dependent items say less than as many independent ones"


def test_any_statistic_of_rows() -> None:
    rows = np.random.default_rng(6).normal([0, 3], size=(300, 2))
    low, high = bootstrap(rows, lambda drawn: float(np.median(drawn[:, 1] - drawn[:, 0])), draws=500)
    assert low < 3 < high
    assert high - low < 0.6


def test_paired_bootstrap_against_students_test() -> None:
    rng = np.random.default_rng(7)
    a = rng.normal(size=300)
    b = a + rng.normal(0.12, 1, size=300)
    found, reference = paired_bootstrap(a, b), stats.ttest_rel(a, b)
    assert found.value == pytest.approx(float((a - b).mean()))
    assert found.p == pytest.approx(float(reference.pvalue), abs=0.01)
    np.testing.assert_allclose(found.interval, reference.confidence_interval(), atol=0.01)


def test_paired_bootstrap_at_its_ends() -> None:
    right = np.random.default_rng(8).random(100) < 0.5
    same = paired_bootstrap(right, right)
    assert (same.value, same.interval, same.p) == (0.0, (0.0, 0.0), 1.0)
    assert paired_bootstrap(np.ones(100), np.zeros(100), draws=1000).p == 1 / 1000
    with pytest.raises(UsageError, match="same items"):
        paired_bootstrap(np.ones(3), np.ones(4))


def test_pairs_of_clusters_say_less() -> None:
    rng = np.random.default_rng(9)
    owners = np.repeat(np.arange(60), 5)
    a, b = (rng.random(60) < 0.6)[owners], (rng.random(60) < 0.4)[owners]
    assert paired_bootstrap(a, b, owners).p > paired_bootstrap(a, b).p


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (3, 9), (9, 3), (40, 40), (510, 600)])
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int) -> None:
    a = np.array([True] * only_a + [False] * only_b + [True] * 5)
    b = np.array([False] * only_a + [True] * only_b + [True] * 5)
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_very_many() -> None:
    wrong = np.arange(200_000) < 199_000
    assert mcnemar(wrong, ~wrong) == 0.0


@pytest.mark.parametrize("call", [lambda e: bootstrap(e), lambda e: clustered_proportion(e, e)])
def test_nothing_has_no_interval(call: object) -> None:
    with pytest.raises(UsageError, match="no items"):
        call(np.empty(0))  # type: ignore[operator]
