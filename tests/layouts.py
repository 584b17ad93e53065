"""Ten small pictures of two classes in every layout that data sets come in, on disk and in archives."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from awase.datasets import Captioned, Labelled

Tree = dict[str, bytes]  # path -> bytes of a file


def jpeg(number: int) -> bytes:
    """A picture of its own, with a size of its own, for each number."""
    values = np.random.default_rng(number).integers(0, 255, (12 + number, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG")
    return file.getvalue()


# Ten pictures of two classes, six of them to train on: split, class, picture, its sentences.
PICTURES = [
    (split, label, f"{label}{number}.jpg", [f"a {label} numbered {number}", f"{number}, it is a {label}"])
    for number, (split, label) in enumerate(
        [
            (split, label)
            for split, count in (("train", 3), ("test", 2))
            for label in ("cat", "tree_frog")
            for _ in range(count)
        ]
    )
]
CONTENTS = {name: jpeg(number) for number, (_, _, name, _) in enumerate(PICTURES)}
CLASSES = {"cat": {"en": "cat", "ja": "猫"}, "tree_frog": {"en": "tree frog", "ja": "アマガエル"}}


def as_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def as_lines(rows: list[dict]) -> bytes:
    return b"".join(as_json(row) + b"\n" for row in rows)


def as_csv(rows: list[dict], delimiter: str = ",") -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def of(split: str) -> list[tuple[str, str, list[str]]]:
    return [(label, name, sentences) for s, label, name, sentences in PICTURES if s == split]


def imagefolder() -> Tree:
    return {f"{s}/{label}/{name}": CONTENTS[name] for s, label, name, _ in PICTURES} | {
        "classes.json": as_json(CLASSES)
    }


def hugging_face() -> Tree:
    tree = {f"{s}/{name}": CONTENTS[name] for s, _, name, _ in PICTURES}
    for split in ("train", "test"):
        rows = [
            {"file_name": name, "label": label, "label_en": CLASSES[label]["en"], "label_ja": CLASSES[label]["ja"]}
            | {"captions": sentences}
            for label, name, sentences in of(split)
        ]
        tree[f"{split}/metadata.jsonl"] = as_lines(rows)
    return tree


def metadata_csv() -> Tree:
    """One metadata.csv for all splits, told apart by their folders."""
    rows = [
        {"file_name": f"{s}/{name}", "label": label, "captions": json.dumps(sentences)}
        for s, label, name, sentences in PICTURES
    ]
    return {f"{s}/{name}": CONTENTS[name] for s, _, name, _ in PICTURES} | {
        "metadata.csv": as_csv(rows),
        "classes.json": as_json(CLASSES),
    }


def webdataset() -> Tree:
    """Samples of files, with numbers for classes: two shards a split."""
    tree: Tree = {}
    for number, (split, label, name, sentences) in enumerate(PICTURES):
        files = {
            f"{number:06}.jpg": CONTENTS[name],
            f"{number:06}.cls": str(list(CLASSES).index(label)).encode(),
            f"{number:06}.txt": "\n".join(sentences).encode(),
            f"{number:06}.json": as_json({"key": number}),
        }
        tree |= {f"{split}-{number // 3}/{file}": data for file, data in files.items()}
    shards = {
        shard: tar_of({n.partition("/")[2]: d for n, d in tree.items() if n.startswith(shard)})
        for shard in sorted({name.partition("/")[0] for name in tree})
    }
    return {f"{shard}.tar": data for shard, data in shards.items()} | {"classnames.txt": b"cat\ntree frog\n"}


def table(delimiter: str) -> Callable[[], Tree]:
    """A row per sentence, a column of splits, pictures in images/."""

    def tree() -> Tree:
        rows = [
            {"image": name, "category": label, "caption": sentence, "split": split}
            for split, label, name, sentences in PICTURES
            for sentence in sentences
        ]
        name = "all.tsv" if delimiter == "\t" else "all.csv"
        files = {f"images/{name}": data for name, data in CONTENTS.items()}
        return files | {name: as_csv(rows, delimiter), "classes.json": as_json(CLASSES)}

    return tree


def parquet() -> Tree:
    """As `datasets` writes it: pictures inside, classes as numbers whose names stand in the schema."""
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    feature = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
    tree = {"classes.json": as_json(CLASSES)}
    for split in ("train", "test"):
        rows = [
            {"image": {"bytes": CONTENTS[n], "path": n}, "label": list(CLASSES).index(label), "captions": sentences}
            for label, n, sentences in of(split)
        ]
        made = arrow.Table.from_pylist(rows).replace_schema_metadata({"huggingface": json.dumps(feature)})
        file = io.BytesIO()
        pyarrow.parquet.write_table(made, file, row_group_size=3)
        tree[f"data/{split}-00000-of-00001.parquet"] = file.getvalue()
    return tree


def coco() -> Tree:
    tree = {f"{s}2017/{name}": CONTENTS[name] for s, _, name, _ in PICTURES}
    for split in ("train", "test"):
        images = [{"id": i, "file_name": name} for i, (_, name, _) in enumerate(of(split))]
        sentences = [(i, sentence) for i, (_, _, sentences) in enumerate(of(split)) for sentence in sentences]
        objects = [(i, label) for i, (label, _, _) in enumerate(of(split)) for _ in range(2)]
        tree[f"annotations/captions_{split}2017.json"] = as_json(
            {
                "images": images,
                "annotations": [{"id": n, "image_id": i, "caption": s} for n, (i, s) in enumerate(sentences)],
            }
        )
        tree[f"annotations/instances_{split}2017.json"] = as_json(
            {
                "images": images,
                "annotations": [
                    {"id": n, "image_id": i, "category_id": 7 + list(CLASSES).index(label)}
                    for n, (i, label) in enumerate(objects)
                ],
                "categories": [{"id": 7 + n, "name": label} for n, label in enumerate(CLASSES)],
            }
        )
    return tree | {"classes.json": as_json(CLASSES)}


# ---- a tree on disk or in an archive ---------------------------------------------------------------------------------


def folder_at(place: Path, tree: Tree) -> Path:
    for name, data in tree.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return place


def tar_of(tree: Tree, compression: str = "") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{compression}") as tar:
        for name, data in tree.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def zip_of(tree: Tree) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in tree.items():
            made.writestr(name, data)
    return file.getvalue()


def write(place: Path, kind: str, tree: Tree) -> Path:
    """The tree as `place`, of that kind; archives hold it within a folder of their own name, as archives do."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        return folder_at(place, tree)
    inner = {f"{place.name}/{name}": data for name, data in tree.items()}
    file = place.with_name(place.name + kind)
    file.write_bytes(zip_of(inner) if kind == ".zip" else tar_of(inner, "gz" if kind == ".tar.gz" else ""))
    return file


KINDS = ("folder", ".tar", ".tar.gz", ".zip")
LAYOUTS = {
    "imagefolder": imagefolder,
    "hugging_face": hugging_face,
    "metadata_csv": metadata_csv,
    "webdataset": webdataset,
    "csv": table(","),
    "tsv": table("\t"),
    "parquet": parquet,
    "coco": coco,
}


def contents(data: Labelled | Captioned) -> list[bytes]:
    """The bytes of its pictures, each read through what opens it."""
    return [p.read_bytes() if isinstance(p, Path) else p.open("rb").read() for p in data.pictures]  # type: ignore[union-attr]
