"""What a method that was taught nonsense still knows: labels of the training pictures shuffled, accuracy on validation.

    python benchmarks/shuffled_labels.py DATA [--method prompt] [--shots 16] [--seeds 3]

DATA: a labelled set with train and val. With its own names a method that begins at them keeps a part of what zero-shot
knows; with names that say nothing, chance is all that may be left."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

import awase
from awase.datasets import Labelled, open_labelled
from awase.evaluation.zero_shot import zero_shot
from awase.learning.adaptation.methods import method
from awase.learning.adaptation.task import classes


def nameless(data: Labelled) -> Labelled:
    return replace(data, names={"en": tuple(f"kind number {i + 1}" for i in range(len(data.keys)))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--method", default="prompt")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    clip, train, val = awase.load(), open_labelled(given.data, "train"), open_labelled(given.data, "val")
    for called, change in (("its own names", lambda data: data), ("names that say nothing", nameless)):
        print(f"{called}: zero-shot {zero_shot(clip, change(val)).figures['top1'].value:.3f}, n = {len(val)}")
        for seed in range(given.seeds):
            targets = np.random.default_rng(seed).permutation(train.targets)
            task = classes(change(replace(train, targets=targets)), None, given.shots, seed)
            found = zero_shot(method(given.method).fit(clip, task).on(clip), change(val)).figures["top1"]
            low, high = found.interval or (0.0, 1.0)
            print(f"  seed {seed}: {given.method} {found.value:.3f} [{low:.3f}, {high:.3f}]", flush=True)


if __name__ == "__main__":
    main()
