"""`awase index` against `awase encode` on the same folder, in turn; then the same index again, and after a rename.

    python benchmarks/index_throughput.py FOLDER [TIMES]

The folder is copied (by links) so that it can be renamed. Prints seconds, CPU seconds, peak memory, the ratio of both
commands, and what the second run and the run after the rename cost and encoded.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from peer import Run, machine, run


def main() -> None:
    source, times = Path(sys.argv[1]), int([*sys.argv[2:], "3"][0])
    awase = [sys.executable, "-m", "awase"]
    print(machine())
    with tempfile.TemporaryDirectory(dir=source.parent) as place:
        folder, out, db = (str(Path(place) / name) for name in ("pictures", "vectors.npz", "library"))
        shutil.copytree(source, folder, copy_function=os.link)
        runs: dict[str, list[Run]] = {"encode": [], "index": []}
        for _ in range(times):
            runs["encode"].append(run([*awase, "encode", folder, "--out", out]))
            shutil.rmtree(db, ignore_errors=True)
            runs["index"].append(run([*awase, "index", folder, "--db", db, "--json"]))
        found = json.loads(runs["index"][-1].printed)
        print(f"{found['pictures']:,} pictures")
        for name, its in runs.items():
            print(f"{name:14}", told(its))
        for what in ("wall", "cpu"):
            ratio = middle(runs["index"], what) / middle(runs["encode"], what)
            print(f"index / encode, {what}: {ratio:.3f}")
        again = run([*awase, "index", folder, "--db", db, "--json"])
        first = middle(runs["index"], "wall")
        print(f"{'second run':14}", told([again]), f"1/{first / again.wall:.0f} of the first")
        os.rename(folder, f"{place}/renamed")
        moved = run([*awase, "index", f"{place}/renamed", "--db", db, "--json"])
        its = json.loads(moved.printed)
        print(f"{'renamed':14}", told([moved]), f"encoded {its['encoded']}, known {its['known']}")
        print("library, MB:", {file.name: round(file.stat().st_size / 1e6, 1) for file in Path(db).iterdir()})


def middle(runs: list[Run], what: str) -> float:
    return statistics.median(getattr(one, what) for one in runs)


def told(runs: list[Run]) -> str:
    return f"{middle(runs, 'wall'):8.2f} s {middle(runs, 'cpu'):8.2f} CPU s {middle(runs, 'peak'):7.0f} MB"


if __name__ == "__main__":
    main()
