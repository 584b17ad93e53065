"""What the bundled model can do on the development sets: the figures of its model card.

    python benchmarks/bundled_figures.py FOLDER [--model DIRECTORY] [--engine NAME] [--precision NAME]

FOLDER holds the sets unpacked (flickr8k/, cifar10_2k/, ...) with captions_ja_machine.jsonl. Zero-shot: one template,
"a photo of a {}." and "{}の写真" ("a photo of {}." where names carry their article). Retrieval: each caption is a query
for its picture, each picture a query for any of its captions; ties count against. n is the number of queries."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import awase
from awase.clip import Clip

LANGUAGES = ("en", "ja")
SIMPLE = {"en": "a photo of a {}.", "ja": "{}の写真"}
HALVED = ("cifar10_2k", "imagenet_sample1k")
"""Sets whose every second picture, in the order of their names, helped to choose settings of the recipe."""
WITH_ARTICLE = {"en": "a photo of {}.", "ja": "{}の写真"}


def interval(share: float, n: int) -> str:
    """95 % interval of a share of n (Wilson, 1927), in percent."""
    z = 1.96
    middle, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def line(what: str, n: int, value: str) -> None:
    print(f"| {what} | {n} | {value} |", flush=True)


# ---- zero-shot -----------------------------------------------------------------------------------------------------


def answered(clip: Clip, folder: Path, classes: Path, templates: dict[str, str]) -> np.ndarray:
    """(L, N) bool: which pictures of an ImageFolder, in the order of their names, are answered rightly per language."""
    names = json.loads(classes.read_text("utf-8"))
    paths = sorted(folder.glob("*/*"))
    vectors = clip.encode_images(paths)
    order = list(names)
    labels = np.array([order.index(path.parent.name) for path in paths])
    right = []
    for language in LANGUAGES:
        words = clip.encode_texts([templates[language].format(names[name][language]) for name in order])
        right.append((vectors @ words.T).argmax(1) == labels)
    return np.stack(right)


def accuracy(what: str, right: np.ndarray) -> None:
    n = right.shape[1]
    line(what, n, " / ".join(f"{100 * share:.1f} ({interval(share, n)})" for share in right.mean(1)))


def zero_shot(clip: Clip, data: Path) -> None:
    print("| zero-shot, top-1 English / Japanese | n | % (95 %) |\n|---|---|---|")
    for name in ("cifar10_2k", "clothing10", "imagenet_sample1k"):
        right = answered(clip, data / name / "test", data / name / "classes.json", SIMPLE)
        accuracy(f"{name} test", right)
        if name in HALVED:
            accuracy(f"{name} test, the half that choices were made on", right[:, ::2])
            accuracy(f"{name} test, the other half", right[:, 1::2])
    clothes = data / "clothing10"  # none of whose splits was learned from
    splits = [answered(clip, clothes / split, clothes / "classes.json", SIMPLE) for split in ("train", "val", "test")]
    accuracy("clothing10, all splits", np.concatenate(splits, axis=1))
    folders = sorted(path.parent for path in (data / "domains").glob("*/classes.json"))
    found = [answered(clip, folder / "val", folder / "classes.json", WITH_ARTICLE) for folder in folders]
    mean = 100 * np.mean([right.mean(1) for right in found], axis=0)
    line(f"domains val, mean of {len(found)} sets", sum(r.shape[1] for r in found), f"{mean[0]:.1f} / {mean[1]:.1f}")


# ---- retrieval -----------------------------------------------------------------------------------------------------


def recalls(cosines: np.ndarray, right: np.ndarray) -> list[float]:
    """(Q, C) cosines and which candidates are right -> R@1, R@5, R@10. A query's rank is that of its best right one."""
    best = np.where(right, cosines, -np.inf).max(1, keepdims=True)
    rank = ((cosines >= best) & ~right).sum(1)
    return [float((rank < k).mean()) for k in (1, 5, 10)]


def retrieval(clip: Clip, what: str, paths: Sequence[Path], captions: Sequence[Sequence[str]]) -> None:
    """Both directions; pictures without captions are candidates only."""
    pictures = clip.encode_images(paths)
    owners = np.array([i for i, several in enumerate(captions) for _ in several])
    words = clip.encode_texts([caption for several in captions for caption in several])
    right = owners[:, None] == np.arange(len(paths))  # (M, N)
    asked = right.any(0)
    cosines = words @ pictures.T
    directions = {
        "text to picture": recalls(cosines, right),
        "picture to text": recalls(cosines.T[asked], right.T[asked]),
    }
    for direction, found in directions.items():
        n = len(words) if direction == "text to picture" else int(asked.sum())
        shares = " / ".join(f"{100 * share:.1f}" for share in found)
        line(f"{what}, {direction} among {len(paths)}", n, f"{shares} ({interval(found[2], n)})")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(text) for text in (folder / "metadata.jsonl").read_text("utf-8").splitlines()]
    return [{**row, "path": folder / row["file_name"]} for row in rows]


def every_retrieval(clip: Clip, data: Path) -> None:
    print("\n| retrieval, R@1 / 5 / 10 | n | % (95 % of R@10) |\n|---|---|---|")

    def measure(what: str, rows: list[dict[str, Any]], captions: Callable[[dict[str, Any]], list[str]]) -> None:
        retrieval(clip, what, [row["path"] for row in rows], [captions(row)[:5] for row in rows])

    machine: dict[str, list[str]] = {}
    for text in (data / "captions_ja_machine.jsonl").read_text("utf-8").splitlines():
        row = json.loads(text)
        if (row["set"], row["split"]) == ("flickr8k", "dev"):
            machine.setdefault(row["file_name"], []).append(row["caption_ja"])
    flickr = rows_of(data / "flickr8k" / "dev")
    measure("flickr8k dev, English", flickr, lambda row: row["captions"])
    measure("flickr8k dev, Japanese by people", flickr, lambda row: row.get("captions_ja") or [])
    measure("flickr8k dev, Japanese by machine", flickr, lambda row: machine.get(row["file_name"], []))
    measure("coco_mini, English", rows_of(data / "coco_mini" / "dev"), lambda row: row.get("captions") or [])
    measure("rsicd dev, English", rows_of(data / "captioned" / "rsicd" / "dev"), lambda row: row["captions"])
    shapes = rows_of(data / "captioned" / "shapes_captioned" / "dev")
    measure("shapes_captioned dev, English", shapes, lambda row: row["captions"])
    measure("shapes_captioned dev, Japanese", shapes, lambda row: row["captions_ja"])
    emoji = rows_of(data / "emoji" / "train")
    unseen = [row for row in emoji if row["style"] == "google" and held_out(row["hexcode"])]
    measure("emoji not trained on, English", unseen, lambda row: [row["name_en"]])
    measure("emoji not trained on, Japanese", unseen, lambda row: [row["name_ja"]] if row["name_ja"] else [])


def held_out(hexcode: str) -> bool:
    """The emoji that recipes/prepare_bundled.py keeps out of training: one in six."""
    return int(hashlib.sha256(hexcode.encode()).hexdigest(), 16) % 6 == 0


def two_cats(clip: Clip, data: Path) -> None:
    picture = next((data / "test_photos" / "test").glob("two_cats*"))
    print(f"\n{picture.name}")
    for labels in (["cat", "dog", "car", "tree"], ["猫", "犬", "車", "木"]):
        print("  ", ", ".join(f"{score.label} {score.probability:.3f}" for score in clip.classify(picture, labels)))
    sentences = ["two cats on a pink couch", "a dog on a lawn"]
    cosines = clip.similarity([picture], sentences)[0]
    print("  ", ", ".join(f"{sentence} {cosine:.2f}" for sentence, cosine in zip(sentences, cosines, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", help="a model directory; the bundled model if not told")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    clip = awase.load(given.model, engine=given.engine, precision=given.precision)
    print(f"{clip.runs_on}, weights {clip.checkpoint.fingerprint[:12]}\n")
    zero_shot(clip, given.data)
    every_retrieval(clip, given.data)
    two_cats(clip, given.data)


if __name__ == "__main__":
    main()
