"""Opening data sets: one of many small files on disk, and the same in a tar, in a zip and as a table.

python benchmarks/data_sets.py [PICTURES]
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from peer import EXAMPLE, machine

from awase.datasets import Labelled, data_hash, duplicates_between, find_sets, open_labelled

CLASSES = 100


def make(folder: Path, count: int) -> list[Path]:
    """The same pictures in four layouts; each file differs from the others in its last bytes."""
    picture = Path(EXAMPLE).read_bytes()[:12_000]
    disk, rows = folder / "disk", []
    for number in range(count):
        name = f"test/{number % CLASSES:03}/{number:06}.jpg"
        (disk / name).parent.mkdir(parents=True, exist_ok=True)
        (disk / name).write_bytes(picture + str(number).encode())
        rows.append(json.dumps({"file_name": f"disk/{name}", "label": f"{number % CLASSES:03}"}))
    with tarfile.open(folder / "packed.tar", "w") as tar:
        tar.add(disk, "packed")
    with zipfile.ZipFile(folder / "zipped.zip", "w") as made:
        for file in sorted(disk.rglob("*.jpg")):
            made.write(file, f"zipped/{file.relative_to(disk)}")
    (folder / "table.jsonl").write_text("\n".join(rows))
    return [disk, folder / "packed.tar", folder / "zipped.zip", folder / "table.jsonl"]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    done = work()
    return done, time.perf_counter() - began


def read_all(data: Labelled) -> int:
    def read(picture: object) -> int:
        with picture.open("rb") as stream:  # type: ignore[attr-defined]
            return len(stream.read())

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(read, data.pictures))


def main() -> None:
    count = int(sys.argv[1]) if sys.argv[1:] else 50_000
    print(machine())
    print(f"{count:,} pictures of 12 kB, seconds (files in the system's cache)")
    with tempfile.TemporaryDirectory() as folder:
        for place in make(Path(folder), count):
            found, finding = timed(lambda place=place: find_sets(place))
            data, opening = timed(lambda found=found: open_labelled(found[0].location))
            _, hashing = timed(lambda data=data: data_hash(data))
            _, again = timed(lambda data=data: duplicates_between(data, data))
            _, reading = timed(lambda data=data: read_all(data))
            print(
                f"{place.name:12} find {finding:6.2f}  open {opening:6.2f}  hash {hashing:6.2f}  "
                f"duplicates {again:6.2f}  read, 4 threads {reading:6.2f}"
            )


if __name__ == "__main__":
    main()
