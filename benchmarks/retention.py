"""What three ways of adapting the bundled model gain and lose: full fine-tuning, LoRA, prompts; and what going back
part of the way wins back.

    python benchmarks/retention.py TARGET PROBE [PROBE ...] [--shots 16] [--seed 1] [--full-rate RATE]

TARGET: a labelled set with train and val; each PROBE: a set, or SET:COLUMN, of which the validation split is looked at.
Elsewhere the adapted model is asked in words. Where weights changed, steps between the base's and the learned ones
follow (WiSE-FT)."""

from __future__ import annotations

import argparse
import time

import awase
from awase.datasets import Captioned, Labelled, find_sets, open_captioned, open_labelled
from awase.learning.adaptation.finetuning import FullTuning
from awase.learning.adaptation.lora import Lora
from awase.learning.adaptation.prompts import PromptTuning
from awase.learning.adaptation.retention import curve, retention
from awase.learning.adaptation.task import classes


def probe(location: str) -> Labelled | Captioned:
    path, _, column = location.partition(":")
    if column:
        return open_labelled(path, "val", column=column)
    kinds = {found.kind for found in find_sets(path)}
    if "labelled" in kinds:
        splits = next(found.splits for found in find_sets(path) if found.kind == "labelled")
        return open_labelled(path, "val" if "val" in splits else None)
    return open_captioned(path, "dev")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target")
    parser.add_argument("probes", nargs="+")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--full-rate", type=float, help="of full fine-tuning")
    given = parser.parse_args()
    clip, train, val = awase.load(), open_labelled(given.target, "train"), open_labelled(given.target, "val")
    task, probes = classes(train, shots=given.shots, seed=given.seed), [probe(location) for location in given.probes]
    print(f"{train.name}, {given.shots} shots of {len(train.keys)} classes, n = {len(val)}; elsewhere "
          f"{', '.join(f'{its.name} ({len(its)})' for its in probes)}")  # fmt: skip
    for method in (PromptTuning(), Lora(), FullTuning(rate=given.full_rate)):
        started = time.process_time()
        adapter = method.fit(clip, task)
        seconds = time.process_time() - started
        panel = retention(clip, adapter.on(clip), val, probes)
        print(f"\n{method.name}: {seconds:.0f} CPU seconds, {panel.light}: {panel.reason}")
        for row in panel.rows:
            low, high = row.interval
            print(f"  {row.where:10} {row.data:20} {row.measure:20} {row.before:6.3f} -> {row.after:6.3f}   "
                  f"{row.difference:+.3f} [{low:+.3f}, {high:+.3f}]  n = {row.n}")  # fmt: skip
        if adapter.changes.words:
            continue  # a word is there or not
        for step in curve(clip, adapter, val, probes):
            print(f"  alpha {step.alpha:.1f}   target {step.target:.3f}   kept elsewhere {step.kept:.1%}")


if __name__ == "__main__":
    main()
