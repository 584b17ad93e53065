"""How sure a figure is: intervals for proportions, for means of dependent items and for differences, and paired tests.

Everything is a function of arrays and a seed. A proportion gets Wilson's interval, which stays true for few pictures
and near 0 and 1, where mean +- 2 standard errors and the percentile bootstrap do not; other figures between 0 and 1 get
the same interval with as many yes-or-no trials as their standard error is worth. The rest is bootstrap by clusters.
`benchmarks/coverage.py` prints how often they cover the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from awase.errors import UsageError

CONFIDENCE = 0.95
NUMBERS_AT_ONCE = 2**22  # of one block of resampled clusters: 32 MB
FEW_KINDS = 64  # outcomes up to which drawing how often each occurs is faster than drawing every item

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """How much better `a` is than `b` on the same items. p: two-sided, of no difference."""

    value: float
    interval: Interval
    p: float


def proportion(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's interval for a proportion; (0, 1) where n is 0. Wilson, JASA 22, 1927; Brown, Cai & DasGupta, 2001."""
    if not 0 <= successes <= n:
        raise UsageError(f"{successes} successes of {n}: a proportion needs 0 <= successes <= n")
    return _wilson(successes / n, n, confidence) if n else (0.0, 1.0)


def proportion_with_error(value: float, error: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's interval for a figure in [0, 1] whose standard error is known (an area under a curve, a mean of
    classes): that of as many yes-or-no trials as have this error (Korn & Graubard, 1998). n: trials where it is 0."""
    trials = value * (1 - value) / error**2 if error > 0 and 0 < value < 1 else n
    return _wilson(value, max(trials, 1.0), confidence)


def clustered_proportion(successes: np.ndarray, clusters: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's interval for the mean of (N,) booleans that are alike within a cluster, as captions of one picture are.

    Its standard error is that of a ratio of sums over independent clusters (Cochran, 1977); being estimated from K of
    them, it counts for as much more as Student's quantile of K - 1 degrees is wider than the normal one (first order of
    its expansion)."""
    sums, sizes = _by_cluster(np.asarray(successes, np.float64), clusters)
    value, count = float(sums.sum() / sizes.sum()), len(sums)
    freedom = max(count - 1, 1)
    error = np.sqrt(((sums - value * sizes) ** 2).sum() * count / freedom) / sizes.sum()
    wider = 1 + (NormalDist().inv_cdf((1 + confidence) / 2) ** 2 + 1) / (4 * freedom)
    return proportion_with_error(value, float(error * wider), count, confidence)


def crossed_proportion(successes: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's interval for the mean of (S, N) booleans: N items under each of S draws of something else, as test
    pictures under S draws of training pictures. Both count as samples: its variance is that of the items' means over N
    and that of the draws' means over S (what the two have in common is in both, so it errs to the wide side; Owen,
    2007, "pigeonhole"), with Welch and Satterthwaite's degrees of freedom. One draw says nothing of its own spread."""
    draws, count = successes.shape
    value = float(successes.mean())
    of_items = float(successes.mean(axis=0).var(ddof=1)) / count if count > 1 else 0.0
    of_draws = float(successes.mean(axis=1).var(ddof=1)) / draws if draws > 1 else 0.0
    variance = of_items + of_draws
    freedom = variance**2 / (of_items**2 / max(count - 1, 1) + of_draws**2 / max(draws - 1, 1)) if variance else 1.0
    wider = _student(freedom, confidence) / _student(np.inf, confidence)
    return proportion_with_error(value, float(np.sqrt(variance)) * wider, count, confidence)


def mean_of_proportions(successes: np.ndarray, sizes: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's interval for the mean of C proportions, each of its own (C,) `sizes` > 0: accuracy, mean over classes.

    A class of one picture says nothing about its own spread; each class is therefore taken together with four imaginary
    pictures of average accuracy."""
    value, classes = float((successes / sizes).mean()), len(sizes)
    smoothed = (successes + 4 * value) / (sizes + 4)
    error = np.sqrt((smoothed * (1 - smoothed) / sizes).sum()) / classes
    return proportion_with_error(value, float(error), float(classes**2 / (1 / sizes).sum()), confidence)


def bootstrap(
    items: np.ndarray,
    statistic: Callable[[np.ndarray], float] | None = None,
    clusters: np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Percentile interval of a statistic of N items (rows), resampled with replacement. Efron & Tibshirani, 1993.

    statistic: rows -> number; None is the mean of (N,) values, which is resampled in one go. clusters: (N,) label of
    the cluster of each item, by which all of a cluster's items come and go together."""
    items = np.asarray(items)
    if statistic is None:
        sums, sizes = _by_cluster(items.astype(np.float64), clusters)
        values = _resampled_means(sums, sizes, draws, seed)
    else:
        values = np.array([statistic(items[rows]) for rows in _resampled_rows(len(items), clusters, draws, seed)])
    return _percentiles(values, confidence)


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, clusters: np.ndarray | None = None, draws: int = 10000, seed: int = 0
) -> Difference:
    """mean(a) - mean(b) over the same N items, resampled together (by cluster where given).

    p = 2 min(P(D* <= 0), P(D* >= 0)) over the resampled differences D*, at most 1, and at least 1 / draws, for more
    than that many draws cannot show."""
    if np.shape(a) != np.shape(b):
        raise UsageError(f"two systems are compared on the same items; given were {np.shape(a)} and {np.shape(b)}")
    sums, sizes = _by_cluster(np.asarray(a, np.float64) - np.asarray(b, np.float64), clusters)
    values = _resampled_means(sums, sizes, draws, seed)
    p = 2 * min((values <= 0).mean(), (values >= 0).mean())
    return Difference(
        float(sums.sum() / sizes.sum()), _percentiles(values, CONFIDENCE), float(np.clip(p, 1 / draws, 1))
    )


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p of McNemar's test: are items that only `a` gets right as many as those that only `b` does?

    a, b: (N,) booleans on the same items. Under no difference the smaller count is binomial with one half."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.shape != b.shape:
        raise UsageError(f"two systems are compared on the same items; given were {a.shape} and {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return min(1.0, 2 * _at_most(min(only_a, only_b), only_a + only_b, 0.5))


def exact_difference(a: np.ndarray, b: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Interval of mean(a) - mean(b) for (N,) booleans on the same items which leaves out 0 exactly where McNemar's
    exact p is below 1 - confidence: of the items that only one of the two gets right, Clopper and Pearson's interval
    (1934) for the share that is a's. How many such items there are is taken as it came."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    apart, miss = only_a + only_b, (1 - confidence) / 2
    low, high = 1 - _largest_share(only_b, apart, miss), _largest_share(only_a, apart, miss)
    return (2 * low - 1) * apart / len(a), (2 * high - 1) * apart / len(a)


# ---- parts ----------------------------------------------------------------------------------------------------------


def _largest_share(successes: int, n: int, miss: float) -> float:
    """The share under which so few successes of n, or fewer, still have a chance of `miss`."""
    low, high = successes / n if n else 0.0, 1.0
    for _ in range(60 if successes < n else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(successes, n, middle) > miss else (low, middle)
    return high


def _at_most(most: int, n: int, share: float) -> float:
    """The chance of 0 to `most` successes of n, each with the chance `share` inside (0, 1)."""
    k = np.arange(1, most + 1)
    log_choices = np.concatenate([[0.0], np.cumsum(np.log((n - k + 1) / k))])
    k = np.arange(most + 1)
    return float(np.exp(log_choices + k * np.log(share) + (n - k) * np.log1p(-share)).sum())


def _student(freedom: float, confidence: float) -> float:
    """Student's quantile, from the normal one by four terms of its expansion (Abramowitz & Stegun, 26.7.5): within 3 %
    from 2 degrees on."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _wilson(value: float, n: float, confidence: float) -> Interval:
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = (value + z2 / (2 * n)) / (1 + z2 / n)
    reach = np.sqrt(value * (1 - value) * z2 / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    # At 0 and 1 one end is the value itself, up to rounding.
    return min(value, max(0.0, float(middle - reach))), max(value, min(1.0, float(middle + reach)))


def _by_cluster(values: np.ndarray, clusters: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(K,) sums and (K,) sizes of the clusters; every item is its own where there are none."""
    if not len(values):
        raise UsageError("there are no items, and so nothing to be sure of")
    if clusters is None:
        return values, np.ones(len(values))
    if len(clusters) != len(values):
        raise UsageError(f"{len(values)} items have {len(clusters)} clusters; one for each is needed")
    _, places = np.unique(clusters, return_inverse=True)
    return np.bincount(places, values), np.bincount(places).astype(np.float64)


def _resampled_means(sums: np.ndarray, sizes: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """(draws,) means of K clusters drawn with replacement: the sum of their sums over the sum of their sizes.

    Right-or-wrong items are of few kinds: how often each kind is drawn is multinomial, and enough."""
    rng, count = np.random.default_rng(seed), len(sums)
    kinds, repeats = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    if len(kinds) <= FEW_KINDS:
        drawn = rng.multinomial(count, repeats / count, size=draws) @ kinds
        return np.asarray(drawn[:, 0] / drawn[:, 1])
    values = np.empty(draws)
    at_once = max(1, NUMBERS_AT_ONCE // count)
    for start in range(0, draws, at_once):
        block = values[start : start + at_once]
        chosen = rng.integers(count, size=(len(block), count))
        block[:] = sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    return values


def _resampled_rows(n: int, clusters: np.ndarray | None, draws: int, seed: int) -> Iterator[np.ndarray]:
    """The rows of each draw: n of n, or all rows of K of K clusters."""
    rng = np.random.default_rng(seed)
    if clusters is None:
        for _ in range(draws):
            yield rng.integers(n, size=n)
        return
    _, places, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    order, starts = np.argsort(places, kind="stable"), np.cumsum(sizes) - sizes
    for _ in range(draws):
        chosen = rng.integers(len(sizes), size=len(sizes))
        lengths = sizes[chosen]
        ends = np.cumsum(lengths)
        yield order[np.arange(ends[-1]) + np.repeat(starts[chosen] - (ends - lengths), lengths)]


def _percentiles(values: np.ndarray, confidence: float) -> Interval:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
