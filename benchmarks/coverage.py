"""How often intervals cover the truth, by simulated studies: 95 of 100 is what they claim.

    python benchmarks/coverage.py [STUDIES]

Of each kind of figure STUDIES studies are drawn, their sizes and true values at random from the range given, and the
interval made from what the study would have seen. Beside it the percentile bootstrap, which is what others print.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np

from awase.evaluation.intervals import Interval, bootstrap, clustered_proportion, mean_of_proportions, proportion
from awase.evaluation.ranking import average_precision, roc_area

Study = Iterator[tuple[float, Interval, Interval | None]]  # the truth, our interval, the bootstrap's


def sizes(rng: np.random.Generator, low: int, high: int) -> int:
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))


def proportions(rng: np.random.Generator) -> Study:
    """n from 20 to 2,000, accuracy from 0.5 to 0.98."""
    while True:
        n, truth = sizes(rng, 20, 2000), rng.uniform(0.5, 0.98)
        right = rng.random(n) < truth
        yield truth, proportion(int(right.sum()), n), bootstrap(right, draws=500)


def clustered(rng: np.random.Generator) -> Study:
    """Recall of 20 to 500 pictures of 4 to 6 captions, some pictures easier to find than others, from 0.3 to 0.95."""
    while True:
        count, truth = sizes(rng, 20, 500), rng.uniform(0.3, 0.95)
        ease = rng.beta(3 * truth, 3 * (1 - truth), count)
        owners = np.repeat(np.arange(count), rng.integers(4, 7, count))
        hits = rng.random(len(owners)) < ease[owners]
        yield truth, clustered_proportion(hits, owners), bootstrap(hits, clusters=owners, draws=500)


def class_means(rng: np.random.Generator) -> Study:
    """10 to 200 classes of 2 to 50 pictures, of unlike difficulty; mean accuracy 0.3 to 0.95."""
    while True:
        classes, mean = sizes(rng, 10, 200), rng.uniform(0.3, 0.95)
        ease = rng.beta(4 * mean, 4 * (1 - mean), classes)
        counts = rng.integers(2, 51, classes)
        yield float(ease.mean()), mean_of_proportions(rng.binomial(counts, ease), counts), None


def roc_areas(rng: np.random.Generator) -> Study:
    """Two classes, 40 to 1,000 pictures, area 0.6 to 0.97."""
    from statistics import NormalDist

    while True:
        n, shift = sizes(rng, 40, 1000), rng.uniform(0.36, 2.66)
        positive = rng.random(n) < 0.5
        scores = rng.normal(size=n) + shift * positive
        found = roc_area([(scores, positive), (-scores, ~positive)])
        if found and found.interval:
            yield NormalDist().cdf(shift / np.sqrt(2)), found.interval, None


def precisions(rng: np.random.Generator) -> Study:
    """mAP of 20 classes of which a picture has 10 to 40 per cent, 100 to 500 pictures; the truth is what sets of that
    size give on average."""
    while True:
        n, shift, share = sizes(rng, 100, 500), rng.uniform(0.5, 2.5), rng.uniform(0.1, 0.4)

        def columns(
            count: int, n: int = n, shift: float = shift, share: float = share
        ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for _ in range(count):
                positive = rng.random(n) < share
                yield rng.normal(size=n) + shift * positive, positive

        truth = np.mean([plain_precision(*column) for column in columns(4000)])
        for _ in range(10):
            interval = average_precision(columns(20))["map"].interval
            assert interval
            yield float(truth), interval, None


def plain_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    ordered = positive[np.argsort(-scores)]
    return float((np.cumsum(ordered) / np.arange(1, len(ordered) + 1))[ordered].mean())


def main() -> None:
    studies = int([*sys.argv[1:], "2000"][0])
    kinds: list[tuple[Callable[[np.random.Generator], Study], int]] = [
        (proportions, studies),
        (clustered, studies),
        (class_means, studies),
        (roc_areas, studies),
        (precisions, studies // 10),
    ]
    print(f"{'figure':14} studies  covered  bootstrap  of which")
    for kind, count in kinds:
        study = kind(np.random.default_rng(0))
        drawn = [next(study) for _ in range(count)]
        ours = np.mean([low <= truth <= high for truth, (low, high), _ in drawn])
        theirs = [other[0] <= truth <= other[1] for truth, _, other in drawn if other]
        said = f"{np.mean(theirs):9.3f}" if theirs else "        –"
        print(f"{kind.__name__:14} {count:7}  {ours:7.3f}  {said}  {' '.join(str(kind.__doc__).split())}")


if __name__ == "__main__":
    main()
