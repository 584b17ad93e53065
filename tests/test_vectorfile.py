"""A file of vectors: resumed after any kill, whole or absent."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from awase.encoding.vectorfile import VectorFile
from awase.errors import UsageError

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
    return np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)


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


def test_another_model_starts_afresh(tmp_path: Path, sources: list[str]) -> None:
    file = VectorFile(tmp_path / "v.npz", STAMP, D)
    file.append(sources, vectors(20))
    file.close()
    assert not VectorFile(tmp_path / "v.npz", STAMP | {"precision": "int8"}, D).holds(sources[0])


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


@pytest.mark.parametrize(("name", "said"), [("v.csv", ".npz or .parquet"), ("no/such/v.npz", "no such folder")])
def test_a_name_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        VectorFile(tmp_path / name, STAMP, D)
