"""What choices are made on: validation pictures, and where these are few or none also parts of the training pictures
that are held out in turn. Never a test split.

    for train, held in rounds(support, validation, seed): fit on `train`, look at `held`

Where each class has one picture and there is no validation nothing can be held out: there are no rounds, and methods
take their published defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from awase.encoding.heads import Head
from awase.evaluation.calibration import surprise, temperature
from awase.evaluation.probes import Features

FOLDS = 4
ENOUGH = 400  # validation pictures that need no help: a share of them is known to five points

Round = tuple[np.ndarray, Features]
"""(N,) bool: which training pictures are learned from; and what is looked at afterwards."""
Answers = tuple[np.ndarray, np.ndarray]
"""(n, C) logits of pictures that were not learned from, and their (n,) true classes."""


def rounds(support: Features, validation: Features | None, seed: int) -> list[Round]:
    """A round with the validation pictures, if there are any; unless they are ENOUGH, FOLDS more, in which each picture
    of a class of two and more is held out once."""
    found = [(np.ones(len(support), bool), validation)] if validation is not None else []
    if validation is not None and len(validation) >= ENOUGH:
        return found
    fold = _folds(support.targets, seed)
    return found + [(fold != number, support[fold == number]) for number in np.unique(fold[fold >= 0])]


def judged(answers: Sequence[Answers]) -> tuple[float, float]:
    """What was answered in each round -> (accuracy, minus the mean loss): the larger the better."""
    right = np.concatenate([logits.argmax(axis=1) == targets for logits, targets in answers])
    loss = np.concatenate([surprise(logits, targets) for logits, targets in answers])
    return float(right.mean()), -float(loss.mean())


def fitted_temperature(answers: Sequence[Answers]) -> float:
    """The temperature that makes the probabilities of pictures that were not learned from true; 1 without any. As much
    doubt as one picture more, of any class, keeps few pictures from making it too cold."""
    if not answers:
        return 1.0
    logits, targets = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    return temperature(logits, targets, doubt=1 / (1 + len(targets)))


def answers_of(learn: Callable[[np.ndarray], Head], held_out: Sequence[Round]) -> list[Answers]:
    """What heads that were learned from the pictures of each round answer to those held out."""
    return [(learn(kept).logits(held.rows), held.targets) for kept, held in held_out]


def best_step(paths: Sequence[Sequence[Head]], held_out: Sequence[Round], otherwise: int) -> int:
    """Where to stop: paths are the heads that training passed through in each round, equally many. `otherwise`, where
    nothing was held out."""

    steps = range(len(paths[0])) if held_out else ()
    return max(steps, key=lambda step: judged(answers_at(step, paths, held_out)), default=otherwise)


def answers_at(step: int, paths: Sequence[Sequence[Head]], held_out: Sequence[Round]) -> list[Answers]:
    """What the heads at one step of each path answer to the pictures held out from it."""
    return [(path[step].logits(held.rows), held.targets) for path, (_, held) in zip(paths, held_out, strict=True)]


def _folds(targets: np.ndarray, seed: int) -> np.ndarray:
    """(N,) which fold each picture is held out in; -1 for the only picture of a class."""
    chance, fold = np.random.default_rng(seed), np.full(len(targets), -1)
    for label in np.unique(targets):
        its = chance.permutation(np.flatnonzero(targets == label))
        if len(its) > 1:
            fold[its] = np.arange(len(its)) % FOLDS
    return fold
