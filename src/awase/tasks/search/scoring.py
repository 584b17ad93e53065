"""Cosines of a query's clauses -> one score a picture that means the same for every query.

A cosine says little by itself: a picture of many things is near to every sentence, and a long sentence that fits
reaches far higher than a word that fits. So

1. each picture's cosines are moved and stretched a quarter of the way to where an average picture's would be, by what
   it has with a bank of everyday sentences (`Background.tame`), which takes pictures that answer everything down;
2. each clause becomes log-odds that a picture shows it: how far its cosine stands out from what the library's pictures
   have with the bank, less what a sentence of its length reaches anyhow (`Rule`, fitted on captions). 0 is the cut-off;
3. the clauses' probabilities are put together (`combine`): what is wanted by the geometric mean, what is not by what it
   leaves, 1 - p. A score of one half and more is called relevant.

After the z-scores and calibrated products of negation, QB-Norm and CSLS (Bogolin et al., 2022, arXiv:2112.12777;
Conneau et al., 2018, arXiv:1710.04087); `benchmarks/search_choose.py` measures what each would give. Vectors come in
and numbers go out; queries, stores and models are unknown here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from awase.tasks.search.store import Vectors

RELEVANT = 0.5  # of a score, by definition of the rules' constants
SAMPLE = 2000  # pictures of a library that stand for all
PAIRED = 500  # pictures of the sample that are compared with each other
LEAST = 1e-6  # of a deviation, so that nothing is divided by zero
HUB_SHARE = 0.25  # of the way from a picture's own mean and deviation to the average picture's


@dataclass(frozen=True)
class Rule:
    """log-odds = cosine * s - length * log(tokens) + constant, for a cosine that is s deviations above the mean."""

    cosine: float
    length: float
    constant: float


# `python benchmarks/search_choose.py FOLDER` prints the first; the second calls a picture like another where
# two are 3.5 deviations nearer than any two of the library are.
SENTENCE = Rule(cosine=0.88, length=1.06, constant=-1.53)
PICTURE = Rule(cosine=1.4, length=0.0, constant=-4.9)


@dataclass(frozen=True)
class Yardstick:
    """What a library makes of one clause: its numbers are all that scoring needs of it, so a next page can bring them.

    slope: log-odds for a deviation. mean, deviation: what a cosine is standardised by. offset: the rest of the rule."""

    slope: float
    mean: float
    deviation: float
    offset: float

    def odds(self, cosines: np.ndarray) -> np.ndarray:
        """(N,) tamed cosines -> log-odds that the picture shows the clause."""
        return np.asarray(self.slope * (cosines - self.mean) / self.deviation + self.offset)


@dataclass(frozen=True)
class Background:
    """What an average picture of a library has with the bank, (B, D): mean and deviation of its cosines. pairs: the
    same of the cosines between two pictures of the library, as a picture in a query is measured by."""

    bank: Vectors
    mean: float
    deviation: float
    pairs: tuple[float, float] = (0.0, 1.0)

    def tame(self, cosines: np.ndarray, vectors: Vectors, share: float = HUB_SHARE) -> np.ndarray:
        """(C, N) cosines with N pictures, their (N, D) vectors -> the same, hubs taken down. As they were where the
        bank is empty or share 0."""
        if not len(self.bank) or not share:
            return cosines
        with_bank = vectors @ self.bank.T  # (N, B)
        means, deviations = with_bank.mean(axis=1), np.maximum(with_bank.std(axis=1), LEAST)
        moved = cosines - self.mean - share * (means - self.mean)
        return np.asarray(self.mean + moved * (self.deviation / deviations) ** share)


def background_of(sample: Vectors, bank: Vectors) -> Background:
    """The bank seen from a sample of the library, (n, D), n > 0."""
    some = sample[:PAIRED]
    between = (some @ some.T)[np.triu_indices(len(some), 1)]
    pairs = (float(between.mean()), _above_zero(between.std())) if len(between) else (0.0, 1.0)
    if not len(bank):
        return Background(bank, 0.0, 1.0, pairs)
    with_bank = sample @ bank.T
    return Background(bank, float(with_bank.mean()), _above_zero(with_bank.std(axis=1).mean()), pairs)


def _above_zero(deviation: float) -> float:
    return max(float(deviation), LEAST)


def of_sentence(tokens: int, seen: Background) -> Yardstick:
    """For a sentence of so many tokens."""
    offset = SENTENCE.constant - SENTENCE.length * float(np.log(tokens))
    return Yardstick(SENTENCE.cosine, seen.mean, seen.deviation, offset)


def of_picture(seen: Background) -> Yardstick:
    """For a picture: pictures are nearer to each other than to any sentence, so their own distances are the measure."""
    return Yardstick(PICTURE.cosine, *seen.pairs, PICTURE.constant)


def combine(odds: np.ndarray, weights: Sequence[float], negative: Sequence[bool]) -> np.ndarray:
    """(C, N) log-odds -> (N,) scores in [0, 1]; at least one clause is not negative.

    score = (product of p ^ w over what is wanted) ^ (1 / sum of w) * product of (1 - p) ^ w over what is not."""
    unwanted = np.asarray(negative, bool)
    weight = np.asarray(weights, np.float64)
    weight = np.where(unwanted, weight, weight / weight[~unwanted].sum())
    logs = -np.logaddexp(0, np.where(unwanted[:, None], odds, -odds))  # log(1 - p) and log p
    return np.asarray(np.exp(weight @ logs))


def probability(odds: np.ndarray) -> np.ndarray:
    """Log-odds -> probability."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * odds)))
