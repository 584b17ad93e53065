"""Calibration against scikit-learn and hand-made cases; temperature, thresholds and conformal sets by simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

import awase
from awase import Clip, DataError, UsageError
from awase.encoding.scoring import softmax
from awase.evaluation import calibration as measures
from awase.evaluation.abstention import abstention, at_most, best_answers, choose_threshold
from awase.evaluation.calibration import calibration, reliability, surprise, temperature
from awase.evaluation.conformal import conformal, sets, strangeness, threshold
from colours import coloured


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


def drawn(n: int, classes: int = 8, seed: int = 0, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and targets drawn from their softmax, the logits then multiplied: calibrated where `sharpness` is 1."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, classes))
    targets = (softmax(logits).cumsum(1) > rng.random((n, 1))).argmax(1)
    return sharpness * logits, targets


# ---- calibration -----------------------------------------------------------------------------------------------------


def test_proper_scores_are_scikit_learns() -> None:
    logits, targets = drawn(500)
    p = softmax(logits)
    assert surprise(logits, targets).mean() == pytest.approx(log_loss(targets, p, labels=range(8)))
    one_vs_rest = sum(brier_score_loss(targets == c, p[:, c]) for c in range(8))
    assert measures.brier(p, targets).mean() == pytest.approx(one_vs_rest)


def test_reliability_rows_are_scikit_learns_curve_and_add_up_to_the_ece() -> None:
    logits, targets = drawn(2000, sharpness=2)
    p = softmax(logits)
    confidence, correct = p.max(1), p.argmax(1) == targets
    rows = reliability(confidence, correct)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=15)
    np.testing.assert_allclose([row["accuracy"] for row in rows], accuracy)
    np.testing.assert_allclose([row["confidence"] for row in rows], mean)
    assert sum(row["n"] for row in rows) == 2000
    gap = sum(row["n"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / 2000
    assert measures.expected_error(confidence, correct) == pytest.approx(gap)


def test_errors_of_hand_made_cases() -> None:
    confidence, correct = np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, True, True, False])
    assert measures.expected_error(confidence, correct) == pytest.approx(0.05)
    assert measures.adaptive_error(confidence, correct, bins=2) == pytest.approx(0.05)
    certain = np.eye(3)[[0, 1, 2]]
    assert measures.classwise_error(certain, np.array([0, 1, 2])) == 0
    assert measures.classwise_error(certain, np.array([1, 2, 0])) == pytest.approx(2 / 3)
    assert measures.expected_error(np.array([0.0, 1.0]), np.array([False, True])) == 0


def test_calibrated_answers_have_hardly_an_error_and_sharpened_ones_have() -> None:
    for sharpness, low, high in ((1.0, 0.0, 0.015), (3.0, 0.1, 0.4)):
        logits, targets = drawn(20_000, sharpness=sharpness)
        p = softmax(logits)
        assert low <= measures.expected_error(p.max(1), p.argmax(1) == targets) <= high


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 5.0])
def test_temperature_finds_the_sharpness_and_changes_no_answer(sharpness: float) -> None:
    logits, targets = drawn(20_000, sharpness=sharpness)
    t = temperature(logits, targets)
    assert t == pytest.approx(sharpness, rel=0.05)
    np.testing.assert_array_equal((logits / t).argmax(1), logits.argmax(1))
    losses = [surprise(logits / around, targets).mean() for around in (0.97 * t, t, 1.03 * t)]
    assert losses[1] == min(losses)
    assert temperature(logits / t, targets) == pytest.approx(1, abs=1e-4)


def test_the_temperatures_interval_holds_the_truth() -> None:
    inside = 0
    for seed in range(200):
        logits, targets = drawn(300, seed=seed, sharpness=2)
        low, high = measures._temperature_interval(logits, targets)
        inside += low <= 2 <= high
    assert 0.90 <= inside / 200 <= 0.99


def test_calibration_of_a_clip(clip: Clip) -> None:
    test, validation = coloured("test", 8), coloured("val", 8)
    result = calibration(clip, test, validation=validation)
    assert result.figures["top1_scaled"].value == result.figures["top1"].value
    assert result.figures["temperature"].n == 32
    assert set(result.tables) == {"reliability", "reliability_scaled"}
    for name, figure in result.figures.items():
        assert figure.interval or name.startswith("classwise"), name
    alone = calibration(clip, test, "ja")
    assert alone.settings["language"] == "ja"
    assert "temperature" not in alone.figures
    assert {"coverage", "set_size"} <= set(result.figures)
    assert any("too few pictures" in note for note in result.notes)  # 32 cannot show that 5 % are wrong
    assert "error_rate" in calibration(clip, test, validation=validation, error=0.8).figures
    known = calibration(clip, replace(validation, split="again"), validation=validation).figures
    assert known["nll_scaled"].value <= known["nll"].value
    with pytest.raises(DataError, match="one class each"):
        calibration(clip, replace(test, targets=np.eye(4, dtype=bool)[test.targets]))
    fewer = replace(validation, names={"en": ("red", "green", "blue", "pink")})
    with pytest.raises(DataError, match="other classes"):
        calibration(clip, test, "en", validation=fewer)


def test_an_interval_holds_its_own_value() -> None:
    assert measures._reflected(0.1, (0.12, 0.2)) == (0.0, 0.1)
    assert measures._reflected(0.1, (0.05, 0.08)) == pytest.approx((0.1, 0.15))
    for seed in range(20):
        logits, targets = drawn(60, seed=seed)
        for figure in measures._figures(logits, targets).values():
            assert figure.interval is None or figure.interval[0] <= figure.value <= figure.interval[1]


def test_nothing_is_chosen_on_the_pictures_that_are_measured_on(clip: Clip) -> None:
    test = coloured("test", 8)
    for measure in (calibration, abstention, conformal):
        with pytest.raises(DataError, match="test cannot be chosen on and measured on"):
            measure(clip, test, validation=coloured("test", 8))  # type: ignore[operator]


# ---- refusing to answer ----------------------------------------------------------------------------------------------


def test_binomial_tails_are_scipys() -> None:
    for n, k, p in ((10, 0, 0.05), (93, 1, 0.05), (500, 17, 0.02), (40, 39, 0.9), (5, 5, 0.1), (0, 0, 0.1)):
        assert at_most(k, n, p) == pytest.approx(binom.cdf(k, n, p))


@pytest.mark.parametrize("error", [0.05, 0.1])
def test_the_chosen_error_is_kept_in_at_least_95_of_100_collections(error: float) -> None:
    rng, broken, answering = np.random.default_rng(7), 0, 0

    def collection(n: int, steep: float, level: float) -> tuple[np.ndarray, np.ndarray]:
        scores = rng.random(n)
        return scores, rng.random(n) < 1 / (1 + np.exp(-steep * (scores - 0.5) - level))

    for _ in range(500):
        steep, level = rng.uniform(2, 12), rng.uniform(0.3, 3)
        try:
            chosen = choose_threshold(*collection(int(rng.integers(50, 1500)), steep, level), error)
        except DataError:
            continue
        scores, correct = collection(20_000, steep, level)
        answered = chosen.answers(scores)
        answering += 1
        broken += bool((~correct[answered]).mean() > error) if answered.any() else 0
    assert broken / 500 <= 0.05
    assert answering > 150  # it is no feat to keep an error rate by never answering


def test_what_is_chosen_answers_as_much_as_can_be_shown() -> None:
    scores, right = np.arange(1000) / 1000, np.ones(1000, bool)
    assert choose_threshold(scores, right).score == -np.inf
    right[:400] = False
    chosen = choose_threshold(scores, right, 0.05)
    assert 0.3 < chosen.score <= 0.4
    assert chosen.wrong / chosen.answered < 0.05
    assert choose_threshold(scores, right, 0.2).answered > chosen.answered


def test_too_few_pictures_are_said_to_be_too_few() -> None:
    for n in (1, 58):
        with pytest.raises(DataError, match=f"too few pictures: {n} cannot show .* at least 93 could"):
            choose_threshold(np.arange(n) / n, np.ones(n, bool), 0.05)
    assert choose_threshold(np.arange(59) / 59, np.ones(59, bool), 0.05).answered == 59
    right = np.arange(120) % 24 > 0  # one in 24 is wrong, at every score
    with pytest.raises(DataError, match=r"too few pictures: 120 .* about \d{3,}"):
        choose_threshold(np.arange(120) / 120, right, 0.05)
    with pytest.raises(DataError, match="no threshold keeps"):
        choose_threshold(np.arange(1000) / 1000, np.arange(1000) % 2 > 0, 0.05)


def test_senseless_questions_are_refused() -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        choose_threshold(np.ones(10), np.ones(10, bool), 5)
    with pytest.raises(DataError, match="no pictures"):
        choose_threshold(np.empty(0), np.empty(0, bool))
    with pytest.raises(DataError, match="not a number"):
        choose_threshold(np.array([0.1, np.nan]), np.ones(2, bool))


def test_pictures_of_no_class_are_wrong_when_answered() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    _, correct = best_answers(logits, np.array([[True, False], [True, False], [False, False]]))
    assert correct.tolist() == [True, False, False]
    assert best_answers(logits, np.array([0, 1, 1]))[1].tolist() == [True, True, False]


def test_abstention_of_a_clip(clip: Clip) -> None:
    result = abstention(clip, coloured("test", 8), coloured("val", 30), 0.7)
    assert set(result.figures) == {"error_rate", "answered"}
    answered = result.items["answered"]
    assert result.figures["answered"].value == answered.mean()
    assert result.figures["error_rate"].value == (~result.items["correct"][answered]).mean()
    few = abstention(clip, coloured("test", 2), coloured("val", 2), 0.01)
    assert not few.figures
    assert any("too few pictures" in note for note in few.notes)


# ---- conformal sets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lac", "aps", "raps"])
@pytest.mark.parametrize("n", [30, 200])
def test_coverage_is_as_promised_over_many_draws(kind: str, n: int) -> None:
    covered = []
    for seed in range(300):
        logits, targets = drawn(n + 200, seed=seed, sharpness=2.5)  # over-confident on purpose
        p = softmax(logits)
        members = sets(p[n:], threshold(p[:n], targets[:n], 0.9, kind), kind)  # type: ignore[arg-type]
        covered.append(members[np.arange(200), targets[n:]].mean())
    error = np.std(covered) / np.sqrt(300)
    assert 0.9 - 3 * error <= np.mean(covered) <= 0.9 + 1 / (n + 1) + 3 * error


def test_strangeness_of_a_hand_made_picture() -> None:
    p = np.array([[0.5, 0.2, 0.3]])
    np.testing.assert_allclose(strangeness(p, "lac"), [[0.5, 0.8, 0.7]])
    np.testing.assert_allclose(strangeness(p, "aps"), [[0.5, 1.0, 0.8]])
    many = np.full((1, 10), 0.1)
    np.testing.assert_allclose(strangeness(many, "raps")[0, [0, 4, 5, 9]], [0.1, 0.5, 0.61, 1.05])


def test_a_threshold_needs_enough_pictures() -> None:
    logits, targets = drawn(100)
    p = softmax(logits)
    with pytest.raises(DataError, match="at least 9, here are 8"):
        threshold(p[:8], targets[:8], 0.9)
    own = 1 - p[np.arange(9), targets[:9]]
    assert threshold(p[:9], targets[:9], 0.9) == pytest.approx(own.max())
    with pytest.raises(UsageError, match="between 0 and 1"):
        threshold(p, targets, 90)


def test_conformal_sets_of_a_clip(clip: Clip) -> None:
    result = conformal(clip, coloured("test", 8), coloured("val", 8), 0.8)
    assert result.figures["coverage"].value == result.items["covered"].mean()
    assert 0 <= result.figures["set_size"].value <= 4
    assert result.figures["coverage"].interval
