"""Kill -9 a process that adds, updates, moves, deletes and compacts, at random, and look at what is left.

    python benchmarks/library_crashes.py --rounds 200

Each round a process does random things to one library, and notes each before (what it means to do) and after (done).
After the kill a fresh process must find the library whole (`check`), and in it exactly what was noted as done, or that
and the one thing that was under way, all of it or nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from awase.tasks.search.checking import check
from awase.tasks.search.entries import Details, Entry, File
from awase.tasks.search.store import open_library
from awase.tasks.search.writing import Writer

D = 64
STAMP = {"family": "tiny", "engine": "onnxruntime", "precision": "fp32", "fast": False, "dimension": D}
MOST = 12  # notes after which a kill comes at the latest, and
LONGEST = 0.02  # seconds later, so that it meets any point of the work
State = dict[str, int]  # path -> version of what is there


def vector_of(version: int) -> np.ndarray:
    row = np.random.default_rng(version).standard_normal(D).astype(np.float32)
    return row / np.linalg.norm(row)


def entry_of(path: str, version: int) -> Entry:
    content = version.to_bytes(16, "little")
    return Entry(File(path, version, version), Details("JPEG", 1, 1, content, version, b"thumbnail" * (version % 500)))


def crash_and_compare(folder: Path, rounds: int, seed: int) -> dict[str, int]:
    """Runs the rounds; returns how often each kind of work was interrupted. AssertionError tells what was lost."""
    Writer(folder, STAMP, "tiny").close()
    state: State = {}
    log = folder.with_name("log")
    counts: dict[str, int] = {}
    dice = random.Random(seed)
    for number in range(rounds):
        log.write_text("")
        child = os.fork()
        if not child:
            _work(folder, log, dict(state), random.Random(f"{seed} {number}"))
        _wait(log, dice.randrange(MOST))
        time.sleep(dice.uniform(0, LONGEST))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done, under_way = _read(log)
        for work in done:
            state = after(state, work)
        state = _compared(folder, state, under_way)
        kind = under_way[0] if under_way else "nothing"
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def _wait(log: Path, notes: int) -> None:
    """Until so many lines are in the log; they are short, and so is the time."""
    until = time.monotonic() + 10
    while log.read_bytes().count(b"\n") < notes and time.monotonic() < until:
        time.sleep(0.001)


def _work(folder: Path, log: Path, state: State, dice: random.Random) -> None:
    """The process to be killed: never returns."""
    try:
        with log.open("a") as file:
            writer = Writer(folder)  # tidies what the last one left
            while True:
                work = _chosen(state, dice)
                print(json.dumps(work), file=file, flush=True)
                _do(writer, work)
                print("done", file=file, flush=True)
                state = after(state, work)
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(1)


def _chosen(state: State, dice: random.Random) -> list:
    known = sorted(state)
    some = dice.sample(known, min(len(known), dice.randrange(1, 20)))
    kind = dice.choice(["add", "add", "update", "move", "delete", "delete", "compact"])
    new = [f"/p/{dice.randrange(10**9)}.jpg" for _ in range(dice.randrange(1, 40))]
    if kind == "add" or not some:
        return ["add", {path: dice.randrange(1, 10**6) for path in new}]
    if kind == "update":
        return ["update", {path: dice.randrange(1, 10**6) for path in some}]
    if kind == "move":
        return ["move", dict(zip(some, new, strict=False))]
    return [kind, some if kind == "delete" else []]


def _do(writer: Writer, work: list) -> None:
    kind, what = work
    if kind in ("add", "update"):
        entries = [entry_of(path, version) for path, version in what.items()]
        writer.add(entries, np.stack([vector_of(version) for version in what.values()]))
    elif kind == "move":
        moves = []
        for old, new in what.items():
            size, _ = writer.files()[old]  # the version
            kept = writer.kept(size.to_bytes(16, "little"), old)
            assert kept is not None
            moves.append((kept, entry_of(new, size)))
        assert not writer.move(moves)
    elif kind == "delete":
        writer.delete(what)
    else:
        writer.compact()


def after(state: State, work: list) -> State:
    """What the library should hold once the work is done."""
    kind, what = work
    if kind in ("add", "update"):
        return state | what
    if kind == "move":
        moved = {new: state[old] for old, new in what.items()}
        return {path: version for path, version in state.items() if path not in what} | moved
    return {path: version for path, version in state.items() if kind != "delete" or path not in what}


def _read(log: Path) -> tuple[list, list | None]:
    """The work that was done, and what was under way."""
    lines = [line for line in log.read_text().split("\n") if line]
    works = [json.loads(line) for line in lines[0::2] if line.endswith("]")]
    finished = lines[1::2].count("done")
    return works[:finished], works[finished] if len(works) > finished else None


def _compared(folder: Path, state: State, under_way: list | None) -> State:
    found = check(folder)
    assert not found.damaged, found
    assert not found.faults, found
    with open_library(folder) as store:
        ids = store.select([])
        rows = store.rows(ids)
        there = {row.path: row.size for row in rows}
        assert len(there) == len(rows) == len(store) == found.pictures, "a row twice"
        for row, vector in zip(rows, store.vectors(ids), strict=True):
            assert np.array_equal(vector, vector_of(row.size)), f"{row.path} has another's vector"
    possible = [state] + ([after(state, under_way)] if under_way else [])
    assert there in possible, "what is there is neither what was acknowledged nor that and the work under way"
    return there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = crash_and_compare(Path(folder) / "library", given.rounds, given.seed)
    print(f"{given.rounds} kills, nothing lost; under way when killed:", json.dumps(counts, sort_keys=True))


if __name__ == "__main__":
    sys.exit(main())
