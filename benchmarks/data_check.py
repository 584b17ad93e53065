"""What `awase data check` finds of faults that were planted, and what else it suspects.

    python benchmarks/data_check.py FOLDER [--sets N]

FOLDER holds clothing10, fashion_attr, flickr8k, coco_mini and domains as folders or archives. Planted is one in twenty:
wrong labels, captions of other pictures, turned pictures; and copies of a tenth, saved anew, halved, mirrored and cut.
"Also suspected" is not all wrong: the sets have faults of their own, and nobody has marked them. The bundled model was
trained on the training pictures of domains and fashion_attr and on none of clothing10, flickr8k dev and coco_mini."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from peer import machine
from PIL import Image

import awase
from awase.clip import Clip
from awase.datasets import Captioned, Labelled, find_sets, open_captioned
from awase.datasets.checks import Finding, check_copies, find_copies, look_at_all, whole_of
from awase.encoding.pictures import Picture, open_picture
from awase.evaluation.checkup.alignment import check_alignment
from awase.evaluation.checkup.near import check_near, nearness
from awase.evaluation.checkup.suspects import check_suspects
from awase.evaluation.checkup.turned import check_turned
from awase.evaluation.ridge import fit_ridge
from awase.evaluation.tasks import open_classes
from awase.evaluation.vectors import picture_vectors, sentence_vectors

PLANTED = 20  # one in so many
MOST = 400  # pictures of a set that are turned, copied and encoded anew


def places_of(findings: Sequence[Finding], check: str) -> set[int]:
    """The first picture of each example."""
    return {e.pictures[0] for finding in findings if finding.check == check for e in finding.examples}


def tell(what: str, name: str, planted: set[int], found: set[int]) -> None:
    hit = len(planted & found)
    print(f"  {what:24} {name:16} found {hit:4} of {len(planted):4} ({100 * hit / max(1, len(planted)):3.0f} %), "
          f"also suspected {len(found - planted):4}", flush=True)  # fmt: skip


def wrong_labels(clip: Clip, data: Labelled, chance: np.random.Generator) -> tuple[set[int], set[int]]:
    seen = picture_vectors(clip, data)
    count = len(data.keys)
    wrong = chance.permutation(len(seen.kept))[: max(1, len(seen.kept) // PLANTED)]
    targets = data.targets.copy()
    targets[seen.kept[wrong]] = (targets[seen.kept[wrong]] + chance.integers(1, count, len(wrong))) % count
    left_out = fit_ridge(seen.rows, targets[seen.kept], count).left_out
    found = check_suspects(whole_of([replace(data, targets=targets)]), seen.kept, seen.rows, left_out)
    return set(seen.kept[wrong].tolist()), places_of(found, "labels to look at")


def wrong_captions(clip: Clip, data: Captioned, chance: np.random.Generator) -> tuple[set[int], set[int]]:
    """Whole pictures' captions are handed round, so that a picture is found where any of them is suspected."""
    seen = picture_vectors(clip, data)
    described = np.unique(data.owners)
    moved = chance.permutation(described)[: max(2, len(described) // PLANTED)]
    handed = dict(zip(moved.tolist(), np.roll(moved, 1).tolist(), strict=True))
    owners = np.array([handed.get(owner, owner) for owner in data.owners.tolist()])
    sentences, _ = sentence_vectors(clip, data.captions)
    found = check_alignment(whole_of([replace(data, owners=owners)]), seen.kept, seen.rows, sentences)
    return set(moved.tolist()), places_of(found, "alignment outliers")


def turned(clip: Clip, data: Labelled | Captioned, chance: np.random.Generator) -> tuple[set[int], set[int], str]:
    pictures = list(data.pictures)[:MOST]
    planted = set(chance.permutation(len(pictures))[: len(pictures) // PLANTED].tolist())
    for place in planted:
        pixels = np.asarray(open_picture(pictures[place]).convert("RGB"))
        pictures[place] = np.ascontiguousarray(np.rot90(pixels, int(chance.integers(1, 4))))
    made = Captioned(data.name, data.split, pictures, ("",) * len(pictures), np.arange(len(pictures)))
    seen = picture_vectors(clip, made)
    found, why = check_turned(clip, whole_of([made]), seen.kept, seen.rows)
    return planted, places_of(found, "pictures that look turned"), why


def _saved(picture: Image.Image, quality: int = 75) -> bytes:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality)
    return content.getvalue()


def _cut(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((round(0.08 * width), round(0.08 * height), round(0.92 * width), round(0.92 * height)))


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "saved anew": lambda picture: _saved(picture, 50),
    "half the size": lambda picture: _saved(picture.resize((picture.width // 2, picture.height // 2))),
    "mirrored": lambda picture: _saved(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "cut to seven tenths": lambda picture: _saved(_cut(picture)),
}


def copies(clip: Clip, data: Labelled | Captioned) -> None:
    """A tenth of the pictures once more as a second split, in each of four ways; by looks, and then by vectors too."""
    pictures = list(data.pictures)[:MOST]
    chosen = list(range(0, len(pictures), 10))
    for what, change in COPIES.items():
        again: list[Picture] = [change(open_picture(pictures[place]).convert("RGB")) for place in chosen]
        parts = [
            Captioned(data.name, split, mine, ("",) * len(mine), np.arange(len(mine)))
            for split, mine in (("train", pictures), ("test", again))
        ]
        whole = whole_of(parts)
        planted = {frozenset((place, len(pictures) + i)) for i, place in enumerate(chosen)}
        known = find_copies(whole, look_at_all(whole.pictures))
        by_looks = {frozenset(e.pictures) for f in check_copies(whole, known) for e in f.examples}
        rows = np.concatenate([picture_vectors(clip, part).rows for part in parts])
        kept = np.arange(len(whole))
        near = check_near(whole, kept, rows, nearness(clip, whole, kept, rows), known)
        by_vectors = {frozenset(e.pictures) for f in near for e in f.examples}
        print(f"  {'copies, ' + what:30} {data.name:16} of {len(planted):3}: by looks {len(planted & by_looks):3}, "
              f"by vectors too {len(planted & (by_looks | by_vectors)):3}; other pairs by looks "
              f"{len(by_looks - planted):3}, by vectors {len(by_vectors - planted):3}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", type=int, default=1000, help="of domains, at most")
    given = parser.parse_args()
    clip = awase.load()
    print(machine(), clip.runs_on)

    def at(name: str) -> str:
        return str(given.folder / name if (given.folder / name).exists() else given.folder / f"{name}.tar")

    clothing, fashion = open_classes(at("clothing10"), "train"), open_classes(at("fashion_attr"), "train", None, "type")
    flickr, coco = open_captioned(at("flickr8k"), "dev"), open_captioned(at("coco_mini"))
    domains = [open_classes(found.location, "train") for found in find_sets(at("domains"))][: given.sets]
    chance = np.random.default_rng(0)
    for data in (clothing, fashion):
        tell("wrong labels", data.name, *wrong_labels(clip, data, chance))
    several = [wrong_labels(clip, data, chance) for data in domains]
    planted = {(i, place) for i, (those, _) in enumerate(several) for place in those}
    found = {(i, place) for i, (_, those) in enumerate(several) for place in those}
    tell("wrong labels", f"domains, {len(domains)}", planted, found)  # type: ignore[arg-type]
    for data in (flickr, coco):
        tell("wrong captions", data.name, *wrong_captions(clip, data, chance))
    for data in (flickr, clothing, domains[1], domains[-1]):
        planted, found, why = turned(clip, data, chance)  # type: ignore[assignment]
        tell("turned", data.name, planted, found)  # type: ignore[arg-type]
        if why:
            print(f"    {why}")
    for data in (clothing, coco, fashion):
        copies(clip, data)


if __name__ == "__main__":
    main()
