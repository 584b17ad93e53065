"""Two results on the same data: paired differences that are right, and refusals where they cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import awase
from awase import Clip, DataError
from awase.datasets.captioned import Captioned
from awase.evaluation.comparison import compare, comparisons, gaps, tally
from awase.evaluation.intervals import mcnemar, paired_bootstrap
from awase.evaluation.linear_probe import linear_probe
from awase.evaluation.results import Figure, Result
from awase.evaluation.retrieval import retrieval
from awase.evaluation.zero_shot import zero_shot
from colours import coloured


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


def made(correct: np.ndarray, picture: np.ndarray | None = None, **changed: Any) -> Result:
    picture = np.arange(len(correct)) if picture is None else picture
    items = {"correct": correct, "picture": picture}
    figures = {"top1": Figure(float(correct.mean()), None, len(correct))}
    rest = {"data": "set", "provenance": {"data": {"sha256": "one"}}, **changed}
    return Result(task="zero-shot", split="test", model="model", n=len(correct), figures=figures, items=items, **rest)


def right(share: float, n: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < share


def test_a_result_ties_with_itself() -> None:
    found = compare(made(right(0.7)), made(right(0.7)))
    assert (found.difference, found.interval, found.p, found.mcnemar, found.verdict) == (0, (0, 0), 1, 1, "tie")


def test_a_difference_has_its_sign_interval_and_p() -> None:
    a, b = right(0.8), right(0.5, seed=1)
    found, turned = compare(made(a), made(b)), compare(made(b), made(a))
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.interval[0] > 0
    assert found.p < 0.01
    assert found.mcnemar == mcnemar(a, b)
    assert (found.verdict, turned.verdict) == ("win", "loss")
    assert turned.difference == pytest.approx(-found.difference)
    assert tally([found, turned, found, compare(made(a), made(a))]) == {"win": 2, "tie": 1, "loss": 1}


def test_few_items_are_no_win_where_the_exact_test_finds_none() -> None:
    """Five right that the other gets wrong, and none the other way round: a chance of 1 in 16."""
    a, b = np.ones(40, bool), np.ones(40, bool)
    b[:5] = False
    found = compare(made(a), made(b))
    assert paired_bootstrap(a, b).interval[0] > 0
    assert found.mcnemar == pytest.approx(1 / 16)
    assert found.interval[0] < 0 < found.interval[1]
    assert found.verdict == "tie"
    b[:6] = False
    assert compare(made(a), made(b)).verdict == "win"


def test_equal_models_rarely_win_and_the_interval_agrees_with_the_test() -> None:
    rng, wins = np.random.default_rng(0), 0
    for _ in range(400):
        n = int(rng.integers(20, 120))
        ease = rng.beta(6, 2, n)
        a, b = rng.random(n) < ease, rng.random(n) < ease
        found = compare(made(a), made(b))
        wins += found.verdict != "tie"
        assert found.mcnemar is not None
        assert found.verdict == "tie" or found.mcnemar < 0.05
    assert wins / 400 < 0.06


def test_items_are_matched_by_the_picture_and_not_by_the_row() -> None:
    a = right(0.7)
    order = np.random.default_rng(1).permutation(400)
    shuffled = made(a[order], order)
    assert compare(made(a), shuffled).mcnemar == 1
    some = order[:300]  # a hundred pictures could not be read by the other
    found = compare(made(a), made(a[some], some))
    assert (found.n, found.difference) == (300, 0)
    with pytest.raises(DataError, match="no picture in common"):
        compare(made(a), made(a, np.arange(400) + 1000))


def test_other_data_are_refused() -> None:
    a = right(0.7)
    with pytest.raises(DataError, match="different data"):
        compare(made(a), made(a, provenance={"data": {"sha256": "two"}}))
    with pytest.raises(DataError, match="different data"):
        compare(made(a), made(a, data="another"))
    with pytest.raises(DataError, match="no items in common"):
        compare(made(a), replace(made(a), items={"covered": a}))


def test_outcomes_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="correct of an item is not a number"):
        compare(made(right(0.7)), made(np.full(400, np.nan)))


def test_zero_shot_against_a_probe_on_the_same_pictures(clip: Clip) -> None:
    train, test = coloured("train"), coloured("test", 8)
    shot, probe = zero_shot(clip, test), linear_probe(clip, train, test)
    (row,) = gaps([shot, replace(shot, data="elsewhere")], [probe])
    assert row["difference"] == pytest.approx(shot.figures["top1"].value - probe.figures["top1"].value)
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["n"] == 32


def test_a_set_that_has_changed_has_no_gap() -> None:
    """A run folder may hold a probe of yesterday's pictures: its page is written all the same."""
    old = made(right(0.6, seed=1), provenance={"data": {"sha256": "two"}})
    assert gaps([made(right(0.7))], [old]) == []


def test_gaps_are_sorted_with_the_best_first() -> None:
    results = [made(right(share), data=str(share)) for share in (0.5, 0.9, 0.7)]
    probes = [made(right(0.6, seed=1), data=str(share)) for share in (0.9, 0.7, 0.5)]
    assert [row["data"] for row in gaps(results, probes)] == ["0.9", "0.7", "0.5"]


def test_retrieval_is_compared_by_reciprocal_ranks_with_pictures_as_clusters(clip: Clip) -> None:
    data = coloured("test", 2)
    names = [f"the colour {data.names['en'][target]}" for target in data.targets]
    good = Captioned("colours", "test", data.pictures, names, np.arange(8))
    found = retrieval(clip, good)
    there, back = comparisons(found, found)
    assert (there.measure, there.difference, there.mcnemar) == ("text_to_picture", 0, None)
    assert (back.measure, back.difference, back.n) == ("picture_to_text", 0, 8)
    worse = dict(found.items)
    worse["rank_picture_to_text"] = worse["rank_picture_to_text"] + 3
    there, back = comparisons(found, replace(found, items=worse))
    assert (there.verdict, back.verdict) == ("tie", "win")
