"""What leaving out false negatives, and pulling pairs outside the softmax, do on a set whose captions recur: two linear
maps on frozen features of the bundled model, trained on "COLOUR TYPE" captions of shop photographs and measured on the
validation split, whose captions need not have been seen. Chen et al., 2024 (arXiv:2310.00927), in small.

python benchmarks/false_negatives.py FASHION_ATTR              the folder or archive of the set; three seeds of each row
python benchmarks/false_negatives.py FASHION_ATTR margins.svg  and the margins drawn: median, and from 5 to 95 %

right: the photograph's own caption comes first among all different ones, with the spread over seeds. margins: cosine to
the own caption less that to the best other, over the validation pictures of all seeds: median, and the 5 % that are
worst; "untrained" are the maps before their first step. To make equal captions right for one another
(`contrastive_among_groups`) is no row of its own: where equal captions have equal vectors, as here, its gradients are
those of taking them for rivals."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import awase
from awase.clip import Clip
from awase.datasets import open_labelled
from awase.evaluation.plots import Mark, Row, axis_for, rows_chart, standalone
from awase.evaluation.vectors import picture_vectors, sentence_vectors
from awase.learning.loop import Schedule, train
from awase.learning.losses import contrastive, margins, pull

WIDTH, BATCH, STEPS, SEEDS, DRAWS = 64, 256, 300, 3, 5000
RULES = {"rivals": "s0", "left out": "s1"}  # how they look in the plot
WEIGHTS = (0.0, 0.01, 0.1, 1.0)
SCALES = (20.0, 100.0)


class Part:
    """A split: features of pictures (N, F), their captions' numbers (N,), vectors of the different captions (C, D)."""

    def __init__(self, clip: Clip, path: str, split: str, captions: Sequence[str]) -> None:
        told = [open_labelled(path, split, column=column) for column in ("colour", "type")]
        words = [[data.names["en"][i] for i in data.targets] for data in told]
        mine = [" ".join(pair) for pair in zip(*words, strict=True)]
        self.captions = sorted({*captions, *mine})
        found = picture_vectors(clip, told[1], "features")
        self.pictures = torch.from_numpy(found.rows).float()
        self.groups = torch.tensor([self.captions.index(mine[i]) for i in found.kept])
        self.sentences = torch.from_numpy(sentence_vectors(clip, self.captions)[0]).float()


def main(path: str, plot: Path | None) -> None:
    clip = awase.load()
    seen = Part(clip, path, "train", ())
    held_out = Part(clip, path, "val", seen.captions)
    said = f"{len(seen.groups):,} training pictures with {len(seen.captions)} captions; {len(held_out.groups)} held out"
    print(f"{said}, {len(held_out.captions)} captions to choose from\n")
    print(f"{'scale':>6}{'equal captions':>16}{'pull':>7}{'right, %':>14}{'median margin':>16}{'worst 5 %':>12}")
    drawn = [
        Row(
            "untrained",
            [mark(row("", "untrained", 0, [measured(seen, held_out, seed) for seed in range(SEEDS)]), "tie")],
        )
    ]
    for scale in SCALES:
        for weight in WEIGHTS:
            every = []
            for rule in RULES:
                found = [measured(seen, held_out, seed, rule, weight, scale) for seed in range(SEEDS)]
                every.append(row(f"{scale:g}", rule, weight, found))
            print(f"{'left out less rivals':>29}{gain(*every):>24}", flush=True)
            marks = [mark(one, look) for one, look in zip(every, RULES.values(), strict=True)]
            drawn.append(Row(f"scale {scale:g}, pull {weight:g}", marks))
    if plot:
        legend = [(look, rule) for rule, look in RULES.items()]
        plot.write_bytes(standalone(rows_chart(drawn, axis_for(drawn, share=False, around=True), legend)))


def row(scale: str, rule: str, weight: float, found: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Prints a line of the table; gives the margins of all seeds."""
    every = torch.cat([margin for _, margin in found])
    rights = [right for right, _ in found]
    said = f"{scale:>6}{rule:>16}{weight:7g}{np.mean(rights):8.1f} ± {np.std(rights, ddof=1):3.1f}"
    print(f"{said}{every.median():16.3f}{every.quantile(0.05):12.3f}", flush=True)
    return every


def gain(rivals: Tensor, left_out: Tensor) -> str:
    """Points right, means over seeds, with a 95 % interval by drawing the held-out photographs again."""
    right = [(every > 0).float().view(SEEDS, -1).mean(0) for every in (rivals, left_out)]
    each = 100 * (right[1] - right[0])
    drawn = torch.randint(len(each), (DRAWS, len(each)), generator=torch.Generator().manual_seed(0))
    low, high = each[drawn].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return f"{each.mean():+.1f} ({low:+.1f} to {high:+.1f})"


def mark(every: Tensor, look: str) -> Mark:
    low, middle, high = every.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    return Mark(middle, (low, high), look)


def measured(
    seen: Part, held_out: Part, seed: int, rule: str = "", weight: float = 0.0, scale: float = 1.0
) -> tuple[float, Tensor]:
    """Trains two maps, or with no rule leaves them as they begin; per cent right, and the margin of each picture."""
    torch.manual_seed(seed)
    maps = nn.ModuleDict({
        "image": nn.Linear(seen.pictures.shape[1], WIDTH),
        "text": nn.Linear(seen.sentences.shape[1], WIDTH),
    })  # fmt: skip

    def losses(step: int) -> dict[str, Tensor]:
        rows = torch.randperm(len(seen.pictures))[:BATCH]
        groups = seen.groups[rows]
        pictures = F.normalize(maps["image"](F.dropout(seen.pictures[rows], 0.5)), dim=-1)
        sentences = F.normalize(maps["text"](seen.sentences[groups]), dim=-1)
        k = torch.tensor(scale)
        pairs = contrastive(pictures, sentences, k, groups if rule == "left out" else None)
        return {"pairs": pairs, "pull": weight * pull(pictures, sentences)}

    if rule:
        train(dict(maps.named_parameters()), losses, Schedule(STEPS, 1e-3), seed=seed)
    with torch.no_grad():
        pictures = F.normalize(maps["image"](held_out.pictures), dim=-1)
        every = F.normalize(maps["text"](held_out.sentences), dim=-1)
        right = (pictures @ every.T).argmax(1) == held_out.groups
        own = every[held_out.groups]
        others = torch.cat([own, every])
        groups = torch.cat([held_out.groups, torch.arange(len(every))])
        return 100 * right.float().mean().item(), margins(pictures, others, groups)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) == 3 else None)
