"""Refusing to answer where an answer is likely wrong, at an error rate that the user chooses.

error rate = wrong answers among the answers given. On pictures with known classes (and, if there are, pictures of no
class, any answer to which is wrong) a threshold on the score is chosen so that, with 95 % confidence over the drawing
of those pictures, the error rate on new pictures like them is at most the one chosen. Twenty thresholds, those that
answer 5, 10, ... 100 % of the pictures, are tested from the most careful on: "its error rate is above the chosen one".
Given a threshold, the wrong answers above it are binomial, so the test is exact. The first that fails ends the
sequence, and the last that passed is taken: a threshold that is too lax must first be met, and passes once in twenty
(selective risk: Geifman & El-Yaniv, 2017, arXiv:1705.08500; fixed sequences: Angelopoulos et al., 2021,
arXiv:2110.01052). It begins where one wrong answer is forgiven, which depends on n alone. Where nothing passes, it says
so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from awase.clip import Clip
from awase.datasets.labelled import Labelled, refuse_one_split_twice
from awase.encoding.scoring import softmax
from awase.errors import DataError, UsageError
from awase.evaluation.intervals import proportion
from awase.evaluation.provenance import provenance
from awase.evaluation.results import Figure, Result
from awase.evaluation.zero_shot import zero_shot_logits

LEVELS = 20
CONFIDENCE = 0.95
FORGIVEN = 1  # wrong answers with which the first test passes: with none, one unlucky picture would end it all
FEWEST = 20  # answers of the first test, for the same reason where many errors are allowed
MOST = 10**6  # pictures beyond which asking for more is no advice


@dataclass(frozen=True)
class Threshold:
    """Answer where the score is above `score`. answered, wrong: of the n pictures it was chosen on."""

    score: float
    error: float
    answered: int
    wrong: int
    n: int

    def answers(self, scores: np.ndarray) -> np.ndarray:
        """(N,) scores -> (N,) bool."""
        return np.asarray(scores > self.score)


def choose_threshold(
    scores: np.ndarray, correct: np.ndarray, error: float = 0.05, confidence: float = CONFIDENCE
) -> Threshold:
    """(N,) scores of the best answer and (N,) whether it is right -> the threshold that answers most.

    Raises DataError where no threshold can be shown to keep the error rate: with how many pictures it could be, or that
    the best answers are wrong too often for any number of them."""
    _check(scores, correct, error)
    chance = 1 - confidence
    levels = list(_levels(scores, correct, error))
    could = [c for c in levels if c.answered >= FEWEST and at_most(FORGIVEN, c.answered, error) <= chance]
    passed = list(takewhile(lambda c: at_most(c.wrong, c.answered, error) <= chance, could or levels[-1:]))
    if not passed:
        raise DataError(_why_not(could[0] if could else None, levels[-1], chance))
    return passed[-1]


def abstention(
    clip: Clip,
    data: Labelled,
    validation: Labelled,
    error: float = 0.05,
    language: str | None = None,
    templates: str | Sequence[str] | None = None,
) -> Result:
    """A threshold on the probability of the best class, chosen on `validation`, and what it does on `data`: the error
    rate among the answers, and the share of pictures that are answered. A picture of no class (a row of False in (N, C)
    targets) is wrong if it is answered at all.

    items: "answered", "correct", "probability", "picture". Where too few pictures are there to choose on, or the model
    is not good enough, the figures are left out and a note says so. Raises DataError where `validation` is `data`'s own
    split or of other classes."""
    refuse_one_split_twice(data, validation, "chosen on and measured on")
    known, found = (zero_shot_logits(clip, split, language, templates) for split in (validation, data))
    if known.names != found.names:
        raise DataError(f"{validation.name} has other classes than {data.name}; a threshold needs the same")
    probability, correct = best_answers(found.logits, found.targets)
    items = {"correct": correct, "probability": probability, "picture": found.pictures}
    figures, settings, notes = {}, {**found.settings, "error": error}, list(found.notes)
    try:
        chosen = choose_threshold(*best_answers(known.logits, known.targets), error)
    except DataError as problem:
        notes.append(f"no answer can be trusted to that rate; {problem}")
    else:
        settings["threshold"] = chosen.score
        items["answered"] = chosen.answers(probability)
        figures = _figures(items["answered"], correct)
        notes.append(
            f"on the {chosen.n:,} pictures of {validation.split} that chose the threshold, {chosen.wrong:,} of "
            f"{chosen.answered:,} answers are wrong"
        )
    return Result(
        task="abstention",
        data=data.name,
        split=data.split,
        model=clip.name,
        n=len(correct),
        figures=figures,
        settings=settings,
        items=items,
        notes=notes,
        provenance=provenance(clip, data),
    )


def best_answers(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, C) logits, (N,) or (N, C) targets -> the softmax probability of the best class, and whether it is right."""
    best = logits.argmax(axis=1)
    right = targets[np.arange(len(best)), best] if targets.ndim == 2 else best == targets
    return softmax(logits).max(axis=1), np.asarray(right)


def at_most(successes: int, n: int, p: float) -> float:
    """P(X <= successes) for X binomial of n trials of chance p; 1 where n is 0."""
    if successes >= n:
        return 1.0
    k = np.arange(1, successes + 1)
    log_choices = np.concatenate([[0.0], np.cumsum(np.log((n - k + 1) / k))])  # of n over 0 ... successes
    drawn = np.arange(successes + 1)
    return min(1.0, float(np.exp(log_choices + drawn * np.log(p) + (n - drawn) * np.log1p(-p)).sum()))


def _figures(answered: np.ndarray, correct: np.ndarray) -> dict[str, Figure]:
    n, given = len(answered), int(answered.sum())
    wrong = int((answered & ~correct).sum())
    rate = {"error_rate": Figure(wrong / given, proportion(wrong, given), given)} if given else {}
    return {**rate, "answered": Figure(given / n, proportion(given, n), n)}


def _levels(scores: np.ndarray, correct: np.ndarray, error: float) -> Iterator[Threshold]:
    """Candidates, the most careful first. A threshold is a picture's score, and that picture is not above it."""
    n, descending = len(scores), np.sort(scores)[::-1]
    for level in range(1, LEVELS + 1):
        threshold = -np.inf if level == LEVELS else float(descending[n * level // LEVELS])
        above = scores > threshold
        yield Threshold(threshold, error, int(above.sum()), int((above & ~correct).sum()), n)


def _why_not(first: Threshold | None, whole: Threshold, chance: float) -> str:
    """Why no threshold passed. first: that with which the sequence began; `whole` answers every picture."""
    needed = _needed(first, chance) if first else _fewest(whole.error, chance)
    if first and needed == MOST:
        return (
            f"no threshold keeps the error rate at {whole.error:.1%}: of the {first.answered} surest answers "
            f"{first.wrong} are wrong. Allow more errors, or use a better model or better labels"
        )
    return (
        f"too few pictures: {whole.n} cannot show an error rate of at most {whole.error:.1%}; "
        f"{'about' if first else 'at least'} {needed} could, if they are answered as well or better. "
        "Give more pictures or allow more errors"
    )


def _fewest(error: float, chance: float) -> int:
    """Answers among which one wrong one is forgiven."""
    n = FEWEST
    while n < MOST and at_most(FORGIVEN, n, error) > chance:
        n += 1
    return n


def _needed(first: Threshold, chance: float) -> int:
    """Pictures with which this threshold would pass, were its share of wrong answers to stay; MOST where none would."""
    rate, answered = first.wrong / first.answered, first.answered
    while answered < MOST and at_most(round(rate * answered), answered, first.error) > chance:
        answered = MOST if rate >= first.error else answered + max(1, answered // 100)
    return min(MOST, math.ceil(answered * first.n / first.answered))


def _check(scores: np.ndarray, correct: np.ndarray, error: float) -> None:
    if not 0 < error < 1:
        raise UsageError(f"an error rate of {error} was chosen; it lies between 0 and 1, say 0.05")
    if scores.shape != correct.shape or scores.ndim != 1:
        raise UsageError(f"each answer has a score and is right or wrong; given were {scores.shape}, {correct.shape}")
    if not len(scores):
        raise DataError("there are no pictures to choose a threshold on")
    if not np.isfinite(scores).all():
        raise DataError("a score is not a number; a threshold cannot be chosen")
