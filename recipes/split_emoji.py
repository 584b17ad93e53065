"""Emoji for recipes/scratch.toml: names and tags as captions, and one emoji in six held out with both its drawings, as
recipes/prepare_bundled.py holds them out.

    python recipes/split_emoji.py ../shared/data/emoji.tar ../emoji_split

train has both drawings of the others; dev has Google's drawing of each that was held out. Columns: captions and
captions_ja (the name), text_tags and text_tags_ja (what people find in it)."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

FOLDER = "emoji/train"
HELD_OUT = 6  # one emoji in so many


def main(tar: Path, out: Path) -> None:
    with tarfile.open(tar) as archive:
        for split in ("train", "dev"):
            (out / split).mkdir(parents=True)
        rows = [json.loads(line) for line in _read(archive, "metadata.jsonl").splitlines()]
        kept: dict[str, list[dict[str, Any]]] = {"train": [], "dev": []}
        for row in rows:
            split = "dev" if held_out(row["hexcode"]) else "train"
            if split == "train" or row["style"] == "google":
                name = Path(row["file_name"]).name
                (out / split / name).write_bytes(_read(archive, name))
                kept[split].append({"file_name": name, **_captions(row)})
    for split, told in kept.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in told)
        (out / split / "metadata.jsonl").write_text(lines, "utf-8")
        print(f"{out / split}: {len(told):,} pictures")


def held_out(hexcode: str) -> bool:
    return int(hashlib.sha256(hexcode.encode()).hexdigest(), 16) % HELD_OUT == 0


def _captions(row: dict[str, Any]) -> dict[str, list[str]]:
    names = {"captions": row["name_en"], "captions_ja": row["name_ja"]}
    tags = {"text_tags": ", ".join(row["tags_en"] or ()), "text_tags_ja": "、".join(row["tags_ja"] or ())}
    return {column: [caption] for column, caption in {**names, **tags}.items() if caption}


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(f"{FOLDER}/{name}")
    assert file is not None
    return file.read()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
