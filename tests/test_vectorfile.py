"""A file of vectors: resumed after any kill, whole or absent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from awase.encoding.vectorfile import VectorFile
from awase.errors import AwaseError, UsageError

STAMP = {"model": "m", "fingerprint": "f", "precision": "fp32"}
D = 6
NOTHING = np.empty((0, D), np.float32)


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    made = []
    for i in range(20):
        path = tmp_path / f"写真 {i}.jpg"
        path.write_bytes(bytes(i + 1))
        made.append(str(path))
    return made


def vectors(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, D))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_written_and_read_back_in_the_order_asked_for(tmp_path: Path, sources: list[str]) -> None:
    out, rows = tmp_path / "v.npz", vectors(20)
    file = VectorFile(out, STAMP, D)
    for start in (0, 8, 16):
        file.append(sources[start : start + 8], rows[start : start + 8])
    assert not out.exists()
    order = sources[::-1]
    assert file.finish(order, ["猫", "a dog"], vectors(2, 1)) == 20
    found = np.load(out)
    np.testing.assert_array_equal(found["vectors"], rows[::-1])
    assert found["sources"].tolist() == order
    assert found["texts"].tolist() == ["猫", "a dog"]
    np.testing.assert_array_equal(found["text_vectors"], vectors(2, 1))
    assert json.loads(str(found["stamp"])) == STAMP
    assert sorted(p.name for p in tmp_path.iterdir() if "写真" not in p.name) == ["v.npz"]


@pytest.mark.parametrize("torn", ["vectors", "line", "unicode line"])
def test_a_torn_end_loses_only_what_was_not_finished(tmp_path: Path, sources: list[str], torn: str) -> None:
    out, rows = tmp_path / "v.npz", vectors(20)
    file = VectorFile(out, STAMP, D)
    file.append(sources[:8], rows[:8])
    file.append(sources[8:16], rows[8:16])
    file.close()
    folder = tmp_path / "v.npz.partial"
    data, lines = folder / "vectors.f32", folder / "rows.jsonl"
    if torn == "vectors":  # power was lost: lines without their rows
        os.truncate(data, 11 * 4 * D + 5)
        kept = 11
    else:
        with data.open("ab") as more:
            more.write(b"\0" * 4 * D)
        with lines.open("ab") as more:
            more.write(b'["half a li' if torn == "line" else '["猫'.encode()[:-1])
        kept = 16
    again = VectorFile(out, STAMP, D)
    assert [again.holds(source) for source in sources] == [True] * kept + [False] * (20 - kept)
    again.append(sources[kept:], rows[kept:])
    again.finish(sources, [], NOTHING)
    np.testing.assert_array_equal(np.load(out)["vectors"], rows)


def test_a_changed_picture_is_encoded_again(tmp_path: Path, sources: list[str]) -> None:
    file = VectorFile(tmp_path / "v.npz", STAMP, D)
    file.append(sources, vectors(20))
    file.close()
    Path(sources[3]).write_bytes(b"another picture")
    again = VectorFile(tmp_path / "v.npz", STAMP, D)
    assert [i for i, source in enumerate(sources) if not again.holds(source)] == [3]
    again.append([sources[3]], vectors(1, 9))
    again.finish(sources, [], NOTHING)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npz")["vectors"][3], vectors(1, 9)[0])


def test_a_picture_that_changes_while_it_is_encoded_is_encoded_again(tmp_path: Path, sources: list[str]) -> None:
    file = VectorFile(tmp_path / "v.npz", STAMP, D)
    assert file.missing(sources) == sources
    Path(sources[3]).write_bytes(b"another picture")  # after it was read, as far as anybody knows
    file.append(sources, vectors(20))
    file.close()
    again = VectorFile(tmp_path / "v.npz", STAMP, D)
    assert again.missing(sources) == [sources[3]]
    again.close()


def test_another_model_starts_afresh(tmp_path: Path, sources: list[str]) -> None:
    file = VectorFile(tmp_path / "v.npz", STAMP, D)
    file.append(sources, vectors(20))
    file.close()
    other = VectorFile(tmp_path / "v.npz", STAMP | {"precision": "int8"}, D)
    assert other.missing(sources) == sources
    other.close()


def test_sources_without_a_row_are_left_out(tmp_path: Path, sources: list[str]) -> None:
    file = VectorFile(tmp_path / "v.npz", STAMP, D)
    file.append(sources[:2], vectors(2))
    assert file.finish(sources, [], NOTHING) == 2
    assert np.load(tmp_path / "v.npz")["sources"].tolist() == sources[:2]


def test_parquet_holds_the_same(tmp_path: Path, sources: list[str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = VectorFile(tmp_path / "v.parquet", STAMP, D)
    file.append(sources, vectors(20))
    file.finish(sources, ["a dog"], vectors(1, 1))
    table = parquet.read_table(tmp_path / "v.parquet")
    assert table["kind"].to_pylist() == ["picture"] * 20 + ["text"]
    assert table["source"].to_pylist() == [*sources, "a dog"]
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), np.float32)[:20], vectors(20))
    assert json.loads(table.schema.metadata[b"awase"]) == STAMP


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v.csv", ".npz or .parquet"),
        ("no/such/v.npz", "no such folder"),
        ("folder.npz", "is a folder"),
        ("taken.npz", "taken.npz.partial: is a file"),
        ("x" * 300 + ".npz", "too long"),
        ("x" * 248 + ".npz", "too long"),  # only with .partial after it
    ],
)
def test_a_name_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "taken.npz.partial").touch()
    with pytest.raises(AwaseError, match=said):
        VectorFile(tmp_path / name, STAMP, D)


def test_an_ending_in_capitals_is_the_same_ending(tmp_path: Path, sources: list[str]) -> None:
    file = VectorFile(tmp_path / "V.NPZ", STAMP, D)
    file.append(sources, vectors(20))
    file.finish(sources, [], NOTHING)
    np.testing.assert_array_equal(np.load(tmp_path / "V.NPZ")["vectors"], vectors(20))


DAMAGE = {
    "zeros": bytes(100),
    "short": b"[1]\n",
    "object": b"{}\n",
    "number": b'[1, "a"]\n',
    "no Unicode": b"\xff\n",
    "deep": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_lines_end_the_valid_part(tmp_path: Path, sources: list[str], damage: bytes) -> None:
    file = VectorFile(tmp_path / "v.npz", STAMP, D)
    file.append(sources, vectors(20))
    file.close()
    lines = tmp_path / "v.npz.partial" / "rows.jsonl"
    whole = lines.read_bytes().splitlines(keepends=True)
    lines.write_bytes(b"".join(whole[:7]) + damage + b"".join(whole[7:]))
    again = VectorFile(tmp_path / "v.npz", STAMP, D)
    assert again.missing(sources) == sources[7:]
    again.append(sources[7:], vectors(20)[7:])
    again.finish(sources, [], NOTHING)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npz")["vectors"], vectors(20))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e30])
def test_rows_that_are_no_unit_vectors_do_not_count(tmp_path: Path, sources: list[str], value: float) -> None:
    file = VectorFile(tmp_path / "v.npz", STAMP, D)
    file.append(sources, vectors(20))
    file.close()
    damaged = np.memmap(tmp_path / "v.npz.partial" / "vectors.f32", np.float32, "r+", shape=(20, D))
    damaged[5] = damaged[9, 2] = value
    damaged.flush()
    again = VectorFile(tmp_path / "v.npz", STAMP, D)
    assert again.missing(sources) == [sources[5], sources[9]]
    again.append([sources[5], sources[9]], vectors(20)[[5, 9]])
    again.finish(sources, [], NOTHING)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npz")["vectors"], vectors(20))


def test_one_run_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    out = tmp_path / "v.npz"
    hold = f"""if 1:
        import pathlib, sys
        from awase.encoding.vectorfile import VectorFile
        file = VectorFile(pathlib.Path(sys.argv[1]), {STAMP}, {D})
        print(flush=True)
        sys.stdin.read()"""
    command = [sys.executable, "-c", hold, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        with pytest.raises(
            UsageError, match=f"another run \\(process {holder.pid}\\) is writing here; wait until it ends"
        ):
            VectorFile(out, STAMP, D)
        holder.send_signal(signal.SIGKILL)
    VectorFile(out, STAMP, D).close()
    assert list(tmp_path.iterdir()) == []


def test_many_at_once_never_mix(tmp_path: Path, sources: list[str]) -> None:
    """Each process writes its own number in every row: whichever wins, the file holds one number only."""
    work = f"""if 1:
        import pathlib, sys, time
        import numpy as np
        from awase.encoding.vectorfile import VectorFile
        from awase.errors import UsageError
        out, number, wins = pathlib.Path(sys.argv[1]), int(sys.argv[2]), 0
        row = np.zeros((1, {D}), np.float32)
        row[0, number] = 1
        while wins < 100:
            try:
                file = VectorFile(out, {{"run": number}}, {D})
            except UsageError:
                time.sleep(0.001)
                continue
            assert file.missing(["a", "b"]) == ["a", "b"]
            file.append(["a"], row)
            file.append(["b"], row)
            assert file.finish(["a", "b"], [], row[:0]) == 2
            wins += 1"""
    out = tmp_path / "v.npz"
    commands = [[sys.executable, "-c", work, str(out), str(number)] for number in range(3)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate(timeout=60)[1] for process in started]
    assert said == ["", "", ""]
    found = np.load(out)
    winner = json.loads(str(found["stamp"]))["run"]
    np.testing.assert_array_equal(found["vectors"], np.eye(D, dtype=np.float32)[[winner, winner]])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(folder)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_while_appending_keeps_what_was_done(small_disk: Path) -> None:
    names = [f"{i}.jpg" for i in range(5000)]
    file = VectorFile(small_disk / "v.npz", STAMP, D)
    with pytest.raises(AwaseError, match=r"not enough space.*0\.2 MB are needed"):
        file.missing(names)  # known before any work
    done = 0

    def append_for_ever() -> None:
        nonlocal done
        for done in range(0, 5000, 100):
            file.append(names[done : done + 100], vectors(100, done))

    with pytest.raises(AwaseError, match=r"not enough space on the disk .*; make room"):
        append_for_ever()
    file.close()
    assert done > 0
    again = VectorFile(small_disk / "v.npz", STAMP, D)
    assert [i for i, name in enumerate(names) if again.holds(name)][:done] == list(range(done))
    again.close()


@pytest.mark.parametrize("name", ["v.npz", "v.parquet"])
def test_a_full_disk_at_the_end_keeps_the_rows_and_the_old_file(small_disk: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    out, names = small_disk / name, [f"{i}.jpg" for i in range(600)]
    out.write_bytes(b"an older file")
    file = VectorFile(out, STAMP, D)
    file.append(names, vectors(600))
    filler = small_disk / "filler"
    filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 4096))
    with pytest.raises(AwaseError, match="not enough space on the disk"):
        file.finish(names, [], NOTHING)
    file.close()
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", name, f"{name}.partial"]
    assert out.read_bytes() == b"an older file"
    out.unlink()
    filler.unlink()
    again = VectorFile(out, STAMP, D)
    assert again.missing(names) == []
    again.close()


def test_a_limit_on_the_size_of_files_is_one_line_too(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="Unix only")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = VectorFile(tmp_path / "v.npz", STAMP, D)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(AwaseError, match=r"v\.npz: cannot be written .*too large"):
            file.append([f"{i}.jpg" for i in range(100)], vectors(100))
        file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
