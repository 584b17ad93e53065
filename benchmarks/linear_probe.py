"""The CLIP paper's linear probe, full sweep and refit, awase against scikit-learn's LogisticRegression (as in OpenAI's
example: float32 features, max_iter=1000), in one process, in turn, on the same features, splits and strengths.

    python benchmarks/linear_probe.py [PICTURES] [FEATURES] [CLASSES] [TIMES]

Features are made up, but shaped as a ReLU backbone's are: positive, far from centred, their variances falling by a
power law. scikit-learn searches the same strengths by the same rule. OpenBLAS's threads wait for each other: set
OPENBLAS_NUM_THREADS=1 where other work shares the cores."""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
from peer import machine
from sklearn.linear_model import LogisticRegression

from awase.evaluation.logistic import Linear, cross_entropy, regression
from awase.evaluation.probes import A_DECADE, Features, Probe, fit_probe, sweep

Splits = tuple[Features, Features, Features]


def made(pictures: int, features: int, classes: int) -> Splits:
    """(train, validation, test); validation a tenth of train, test a half."""
    rng = np.random.default_rng(0)
    spread = np.arange(1, features + 1) ** -0.5
    turn, _ = np.linalg.qr(rng.normal(size=(features, features)))
    means = rng.normal(size=(classes, features)) * spread**2 * 1.7

    def split(count: int) -> Features:
        targets = rng.integers(classes, size=count)
        rows = (means[targets] + rng.normal(size=(count, features)) * spread) @ turn
        return Features(np.maximum(rows + 0.1, 0).astype(np.float32), targets)

    return split(pictures - pictures // 10), split(pictures // 10), split(pictures // 2)


def scikit_learns_probe(train: Features, classes: int, validation: Features) -> Probe:
    def fitted(data: Features, exponent: int) -> Linear:
        model = LogisticRegression(C=10.0 ** (-exponent / A_DECADE), max_iter=1000).fit(data.rows, data.targets)
        return Linear(model.coef_.T, model.intercept_)

    tried = {}

    def score(exponent: int) -> tuple[float, float]:
        logits = fitted(train, exponent).logits(validation.rows)
        loss, _ = cross_entropy(logits, validation.targets)
        tried[10.0 ** (exponent / A_DECADE)] = float((logits.argmax(axis=1) == validation.targets).mean())
        return tried[10.0 ** (exponent / A_DECADE)], -loss

    best = sweep(score)
    return Probe(fitted(train + validation, best), 10.0 ** (best / A_DECADE), tried)


def accuracy(linear: Linear, data: Features) -> float:
    return float((linear.logits(data.rows).argmax(axis=1) == data.targets).mean())


def same_strength(splits: Splits, classes: int, strength: float) -> None:
    """Top-1 and objective of both at one strength; scikit-learn also carried on to its end, from centred features."""
    train, validation, test = splits
    whole = train + validation
    problem = regression(whole.rows, whole.targets, classes)
    found = {"awase": problem.linear(problem.fit(strength))}
    for name, settings, centre in (
        ("scikit-learn", {"max_iter": 1000}, np.zeros(whole.rows.shape[1], np.float32)),
        ("  to its end", {"max_iter": 5000, "tol": 1e-6}, whole.rows.mean(axis=0)),
    ):
        model = LogisticRegression(C=1 / strength, **settings).fit(whole.rows - centre, whole.targets)
        found[name] = Linear(model.coef_.T, model.intercept_ - centre @ model.coef_.T)
    for name, linear in found.items():
        loss = cross_entropy(linear.logits(whole.rows.astype(np.float64)), whole.targets)[0] * len(whole)
        value = loss + strength / 2 * float((linear.weights.astype(np.float64) ** 2).sum())
        print(f"  at strength {strength:8.3g}: {name:13} top-1 {accuracy(linear, test):.4f}  objective {value:.2f}")


def main() -> None:
    given = [int(value) for value in sys.argv[1:]]
    pictures, features, classes, times = given + [10_000, 1_280, 100, 3][len(given) :]
    warnings.filterwarnings("ignore", module="sklearn")
    splits = made(pictures, features, classes)
    train, validation, test = splits
    work: dict[str, Callable[[], Probe]] = {
        "awase": lambda: fit_probe(train, classes, validation),
        "scikit-learn": lambda: scikit_learns_probe(train, classes, validation),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    print(machine(), f"{pictures} pictures x {features} features, {classes} classes, 15 strengths and a refit")
    probes = {}
    for _ in range(times):
        for name, job in work.items():
            wall, cpu = time.perf_counter(), time.process_time()
            probes[name] = job()
            took[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            print(f"  {name:13} {took[name][-1][0]:8.1f} s", flush=True)
    medians = {name: [statistics.median(run[i] for run in runs) for i in (0, 1)] for name, runs in took.items()}
    for name, (wall, cpu) in medians.items():
        probe, (theirs, their_cpu) = probes[name], medians["scikit-learn"]
        print(f"{name:13} wall {wall:7.1f} s ({theirs / wall:5.1f} x)  CPU {cpu:7.1f} s ({their_cpu / cpu:5.1f} x)  "
              f"strength {probe.strength:.4g}  test top-1 {accuracy(probe.linear, test):.4f}")  # fmt: skip
    for strength in (10, 1, 0.1):
        same_strength(splits, classes, strength)


if __name__ == "__main__":
    main()
