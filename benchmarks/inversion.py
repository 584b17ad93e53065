"""Textual inversion: things learned from five pictures each, looked for by word among others that nobody asked for.

    python benchmarks/inversion.py SET OTHERS [--coarse WORD] [--concepts 10] [--pictures 5]

SET is a labelled set (SET/{train,val}/CLASS): of each class that has so many training pictures a word is learned, and
its validation pictures are hidden among all pictures of OTHERS. Printed is how many pictures of all rank before the
first hidden one (median), and the share of hidden ones among the first ten, for the learned word alone, for sentences
that use it, for the coarse word that it began as, and for the mean of the pictures that it was learned from."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

import awase
from awase import Clip
from awase.datasets import open_labelled
from awase.evaluation.vectors import picture_vectors
from awase.learning.adaptation.inversion import TextualInversion, concept

SENTENCES = (
    "{}",
    "a photo of {}.",
    "a close-up of {} in bright light",
    "two people who look at {}",
    "{} on a rainy day",
)


def ranked(query: np.ndarray, hidden: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """(others before the first hidden picture, share of the hidden ones among the first ten)."""
    first = (others @ query)[None] > (hidden @ query)[:, None]
    before = first.sum(axis=1) + np.array([(hidden @ query > h @ query).sum() for h in hidden])
    return float(first.sum(axis=1).min()), float((before < 10).mean())


def queries(clip: Clip, word: str, templates: Sequence[str]) -> list[np.ndarray]:
    return list(clip.encode_texts([template.replace("{}", word) for template in templates]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set")
    parser.add_argument("others")
    parser.add_argument("--coarse", default="thing")
    parser.add_argument("--concepts", type=int, default=10)
    parser.add_argument("--pictures", type=int, default=5)
    parser.add_argument("--settings", default="", help="of TextualInversion, as pull=0.1,rivals=0")
    given = parser.parse_args()
    settings = {key: float(value) for key, value in (pair.split("=") for pair in given.settings.split(",") if pair)}
    settings = {key: int(value) if key in ("steps", "views") else value for key, value in settings.items()}
    clip, method = awase.load(), TextualInversion(coarse=given.coarse, **settings)
    train, val = open_labelled(given.set, "train"), open_labelled(given.set, "val")
    others, hidden = (picture_vectors(clip, data).rows for data in (open_labelled(given.others), val))
    found: dict[str, list[tuple[float, float]]] = {}
    spent = time.process_time()
    chosen = [
        c for c in range(len(train.keys)) if (train.targets == c).sum() >= given.pictures and (val.targets == c).any()
    ]
    for label in chosen[: given.concepts]:
        pictures = [train.pictures[i] for i in np.flatnonzero(train.targets == label)[: given.pictures]]
        learned = method.fit(clip, concept(pictures, "<it>")).on(clip)
        asked = {
            "the new word": queries(learned, "<it>", SENTENCES[:2]),
            "sentences with it": queries(learned, "<it>", SENTENCES[2:]),
            f"{given.coarse!r}": queries(clip, given.coarse, SENTENCES[:2]),
            "the class's own name": queries(clip, val.names["en"][label], SENTENCES[:2]),
            "the mean picture": [clip.encode_images(pictures).mean(axis=0)],
        }
        for name, vectors in asked.items():
            found.setdefault(name, []).extend(ranked(v, hidden[val.targets == label], others) for v in vectors)
        print(".", end="", flush=True, file=sys.stderr)
    count = len(chosen[: given.concepts])
    print(f"\n{count} concepts of {train.name} from {given.pictures} pictures each, among {len(others):,} others; "
          f"{(time.process_time() - spent) / max(count, 1):.1f} CPU seconds a concept")  # fmt: skip
    print(f"{'asked by':24} {'others before the first':>24} {'found in the first ten':>24}")
    for name, pairs in found.items():
        before, share = np.array(pairs).T
        print(f"{name:24} {np.median(before):24.0f} {share.mean():24.0%}")


if __name__ == "__main__":
    main()
