"""Where the constants of tasks/search/scoring.py come from: fitted on one half of the pictures, compared on the other.

python benchmarks/search_choose.py FOLDER                 # FOLDER as in search_data.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from search_data import (
    CHOOSE,
    REPORT,
    Asker,
    Library,
    Queries,
    a,
    asker,
    hubs,
    library,
    nouns,
    part_of,
    precision_at_10,
    queries_of,
    sizes,
    without_pairs,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

import awase
from awase.clip import Clip
from awase.tasks.search.searching import tokens_of

# ---- where the constants come from ----------------------------------------------------------------------------------

RULES = (
    ("cosine",),
    ("z",),
    ("cosine", "length"),
    ("z", "length"),
    ("cosine", "best", "length"),
    ("z", "best", "length"),
)
RAW_CUT = 0.3  # probability, as fitted, that is called one half: see `choose`


def features(its: Asker, texts: list[str]) -> dict[str, np.ndarray]:
    """(Q, N) each. cosine: standardised, as the rule has it. length: log of the tokens. Beside them what it might look
    at: z, the cosine against the query's own mean and deviation; best, the mean of the query's best hundredth."""
    s = (its.cosines(texts) - its.seen.mean) / its.seen.deviation
    best = np.sort(s, axis=1)[:, -max(3, s.shape[1] // 100) :].mean(axis=1, keepdims=True)
    length = np.log(tokens_of(its.clip, texts))[:, None]
    z = (s - s.mean(axis=1, keepdims=True)) / s.std(axis=1, keepdims=True)
    return {"cosine": s, "z": z} | {n: np.broadcast_to(v, s.shape) for n, v in (("best", best), ("length", length))}


Cases = dict[str, list[tuple[Queries, dict[str, np.ndarray]]]]


def cases_of(clip: Clip, its: Library, others: Library, things: set[str]) -> Cases:
    """For each size of library, all queries with what is known of them."""
    found: Cases = {}
    for size, libraries in sizes(its).items():
        found[size] = []
        for some in libraries:
            asks = asker(clip, some.vectors)
            found[size] += [(q, features(asks, q.texts)) for q in queries_of(some, others, things)]
    return found


def table_of(queries: Queries, values: dict[str, np.ndarray], rule: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([values[name][queries.judged] for name in rule], axis=1), queries.right[queries.judged]


def choose(clip: Clip, sides: dict[str, Library], things: set[str]) -> None:
    """Fits each rule on the choosing side, every kind of query and size of library counting alike, and shows its loss
    on the other; then what the chosen one gives at several cut-offs, on the choosing side."""
    cases = {
        side: cases_of(clip, sides[side], sides[other], things) for side, other in ((CHOOSE, REPORT), (REPORT, CHOOSE))
    }
    fitted = {}
    print("rule, fitted on the choosing side: mean loss on the other side, for each size of library")
    for rule in RULES:
        tables = [(*table_of(q, v, rule), len(some)) for some in cases[CHOOSE].values() for q, v in some]
        weights = np.concatenate([np.full(len(y), 1e5 / (len(y) * count)) for _, y, count in tables])
        inputs, right = np.concatenate([x for x, _, _ in tables]), np.concatenate([y for _, y, _ in tables])
        fitted[rule] = LogisticRegression(C=1e4, max_iter=1000).fit(inputs, right, weights)
        losses = []
        for size, some in cases[REPORT].items():
            each = [(y, fitted[rule].predict_proba(x)[:, 1]) for x, y in (table_of(q, v, rule) for q, v in some)]
            losses.append(f"{size} {np.mean([log_loss(y, p, labels=[False, True]) for y, p in each]):.4f}")
        numbers = ", ".join(f"{n} {c:.3f}" for n, c in zip(rule, fitted[rule].coef_[0], strict=True))
        print(f"  {numbers}, constant {fitted[rule].intercept_[0]:.3f}: {'; '.join(losses)}")
    rule = ("cosine", "length")
    cosine, length = fitted[rule].coef_[0]
    constant = fitted[rule].intercept_[0] - np.log(RAW_CUT / (1 - RAW_CUT))
    print(f"SENTENCE = Rule(cosine={cosine:.2f}, length={-length:.2f}, constant={constant:.2f}) at the cut {RAW_CUT}")
    for cut in (0.15, 0.2, 0.25, 0.3, 0.4):
        for size, some in cases[CHOOSE].items():
            shown = [
                told_of_cut(q, fitted[rule].predict_proba(np.stack([v[n].ravel() for n in rule], 1))[:, 1], cut)
                for q, v in some[: 6 if len(some) < 9 else None]
            ]
            print(f"  cut {cut}, {size}: " + "; ".join(dict(shown).values()))
    choose_negation(clip, sides[CHOOSE], things)
    choose_share(clip, sides[CHOOSE])


def told_of_cut(queries: Queries, probabilities: np.ndarray, cut: float) -> tuple[str, str]:
    over = (probabilities.reshape(queries.right.shape) > cut) & queries.judged
    if not queries.right.any():
        return queries.what, f"{queries.what}: any {over.any(axis=1).mean():.2f}"
    precision = (over & queries.right).sum() / max(1, over.sum())
    return queries.what, f"{queries.what}: P {precision:.2f} R {(over & queries.right).sum() / queries.right.sum():.2f}"


def choose_negation(clip: Clip, its: Library, things: set[str]) -> None:
    some = part_of(its, its.known(its.words))
    asks, pairs = asker(clip, some.vectors), without_pairs(some, things)
    right = [queries_right for _, _, queries_right in pairs]
    wanted, unwanted = asks.odds([a(x) for x, _, _ in pairs]), asks.odds([a(y) for _, y, _ in pairs])
    tamed = [asks.cosines([a(pair[i]) for pair in pairs]) for i in (0, 1)]
    z, other = ((s - s.mean(axis=1, keepdims=True)) / s.std(axis=1, keepdims=True) for s in tamed)
    ways = {"the plain sentence": asks.cosines([f"{a(x)} without {a(y)}" for x, y, _ in pairs], 0.0), "X alone": wanted}
    ways |= {f"z(X) - {k} max(0, z(Y))": z - k * np.maximum(other, 0) for k in (0.5, 1.0)}
    ways |= {f"z(X) - {k} z(Y)": z - k * other for k in (0.5, 1.0)}
    for wary in (0.0, 1.0, 2.0):
        ways[f"p(X) (1 - p(Y)), the odds of Y times e^{wary:g}"] = -np.logaddexp(0, -wanted) - np.logaddexp(
            0, unwanted + wary
        )
    print(f"X without Y on the choosing side, {len(pairs)} pairs, P@10:")
    for way, values in ways.items():
        print(f"  {way}: {np.mean([precision_at_10(v, r) for v, r in zip(values, right, strict=True)]):.3f}")


def choose_share(clip: Clip, its: Library) -> None:
    print("HUB_SHARE on the choosing side:")
    for share in (0.0, 0.25, 0.5, 1.0):
        print(f"  {share}: {'; '.join(hubs(clip, its, share))}")


if __name__ == "__main__":
    folder, clip = Path(sys.argv[1]), awase.load()
    choose(clip, {side: library(clip, folder, side) for side in (CHOOSE, REPORT)}, nouns(folder))
