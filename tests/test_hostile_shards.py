"""Shards made by an enemy: nothing is written, memory is not spent, what is bad is named and the rest goes on."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from awase.datasets import open_captioned
from awase.datasets.archives import HEADERS, open_archive
from awase.datasets.sharding import write_shards
from awase.encoding.families import Preprocessing, TextRule
from awase.encoding.pictures import open_picture
from awase.encoding.tokenizers import open_tokenizer
from awase.errors import DataError, PictureError
from hostile import png
from layouts import Tree, jpeg, tar_of

BOMB = png(14_000, 14_000, zlib.compress(bytes(1000)), depth=1)
SAMPLES = {
    "absolute": {"/etc/absolute.jpg": jpeg(1), "/etc/absolute.txt": b"it has a label, nothing more"},
    "out": {"../../out.jpg": jpeg(2), "../../out.txt": b"out"},
    "deep": {"d/" * 40 + "deep.jpg": jpeg(3), "d/" * 40 + "deep.txt": b"deep"},
    "escape": {"\x1b[31m\n.jpg": jpeg(5), "\x1b[31m\n.txt": b"escape"},
    "bytes": {"\udcff.jpg": jpeg(6), "\udcff.txt": b"bytes"},
    "long": {"l" * 100_000 + ".jpg": jpeg(7), "l" * 100_000 + ".txt": b"long"},
    "bomb": {"bomb.png": BOMB, "bomb.txt": b"bomb"},
    "noise": {"noise.jpg": b"\xff\xd8\xff" + bytes(99), "noise.txt": b"noise"},
    "latin": {"latin.jpg": jpeg(8), "latin.txt": b"caf\xe9"},
    "json": {"json.jpg": jpeg(9), "json.json": b"{"},
    "list": {"list.jpg": jpeg(10), "list.json": b"[1]"},
    "nested": {"nested.jpg": jpeg(11), "nested.json": b"[" * 100_000},
    "endless": {"endless.jpg": jpeg(12), "endless.txt": b"a" * (1 << 17)},
}
LINKS = {"soft": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE}
LEFT_OUT = {"out", "d" + "/d" * 39 + "/deep", "latin", "json", "list", "nested", "endless", *LINKS}


def good(count: int) -> Tree:
    return {f"{i:06}.{kind}": data for i in range(count) for kind, data in (("jpg", jpeg(i % 9)), ("txt", b"good"))}


def hostile_shard(file: Path, count: int, samples: dict[str, Tree] = SAMPLES) -> Path:
    tree = good(count)
    for files in samples.values():
        tree |= files
    out = io.BytesIO(tar_of(tree | {f"{name}.txt": b"a link" for name in LINKS}))
    with tarfile.open(fileobj=out, mode="a") as tar:
        for kind, data in (("jpg", jpeg(4)), ("txt", b"zero")):  # a header ends a name there, attributes do not
            entry = tarfile.TarInfo("zero")
            entry.pax_headers, entry.size = {"path": f"ze\0ro.{kind}"}, len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name, kind in LINKS.items():
            entry = tarfile.TarInfo(f"{name}.jpg")
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
    file.write_bytes(out.getvalue())
    return file


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("awase.datasets.layouts.shards.LONGEST", 1 << 16)
    (tmp_path / "set").mkdir()
    return hostile_shard(tmp_path / "set" / "train.tar", 300)


def test_what_is_bad_is_named_and_the_rest_is_there(shard: Path) -> None:
    data = open_captioned(shard.parent, "train")
    assert {error.source.removeprefix(f"{shard}/").removeprefix("../../") for error in data.unusable} == LEFT_OUT
    assert all(name.isprintable() for error in data.unusable for name in (error.source, error.reason))
    assert "left out: samples that cannot be used (11: " in data.notes[0]
    assert len(data) == 300 + 1 + len(SAMPLES) - 7
    unreadable = []
    for picture in data.pictures:
        try:
            open_picture(picture)
        except PictureError as error:
            unreadable.append(error.source)
    assert unreadable == [f"{shard}/bomb.png", f"{shard}/noise.jpg"]
    assert list(shard.parent.parent.rglob("*")) == [shard.parent, shard]


def test_training_goes_on_without_them(shard: Path) -> None:
    data, told = batches(shard, bad=0.2)
    assert {error.source.rpartition("/")[2] for error in told} == {name.rpartition("/")[2] for name in LEFT_OUT}
    for step in range(20):
        assert len(data(step).pixels) == 16
    assert {error.source for error in told[11:]} == {f"{shard}/bomb.png", f"{shard}/noise.jpg"}
    data.close()


def test_too_many_of_them_stop_it_before_it_begins(shard: Path) -> None:
    with pytest.raises(DataError, match=r"11 of 318 samples cannot be used, and at most 1\.0% may be so .data\.bad"):
        batches(shard, bad=0.01)


def batches(shard: Path, bad: float):  # type: ignore[no-untyped-def]
    pytest.importorskip("torch")
    from awase.learning.pretraining.pairs import Pairs
    from awase.learning.pretraining.recipe import Data, PairSet

    told: list[PictureError] = []
    chosen = Data((PairSet(str(shard.parent)),), batch=16, threads=2, bad=bad)
    return Pairs(
        chosen, open_tokenizer(TextRule("clip", 16), None), Preprocessing(16), 0, 100, False, told.append
    ), told


def test_they_are_left_out_of_new_shards_and_named(shard: Path, tmp_path: Path) -> None:
    written = write_shards(shard.parent, tmp_path / "out")
    assert len(written.unreadable) == len(LEFT_OUT) + 2
    assert sum(written.counts.values()) == 300 + 1 + len(SAMPLES) - 9


# ---- headers that lie ------------------------------------------------------------------------------------------------


def members(tree: Tree) -> bytes:
    """A tar up to where its next member would begin."""
    data = tar_of(tree)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        last = tar.getmembers()[-1]
    return data[: last.offset_data + tarfile.BLOCKSIZE]


def header(name: str, size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header whose size is these bytes."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    made = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    made[124:136] = size.ljust(12, b"\0")
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


LIES = {
    "huge": header("x.jpg", b"77777777777"),
    "huger": header("x.jpg", b"\x80" + b"\xff" * 11),
    "backwards": header("x.jpg", b"\xff" * 10 + b"\xfe\0"),  # to its own beginning, for ever
    "backwards, unknown": header("x.jpg", b"\xff" * 10 + b"\xfe\0", b"?"),
    "long name": header("x", b"%o" % (1 << 28), tarfile.GNUTYPE_LONGNAME),
    "long attributes": header("x", b"%o" % (1 << 28), tarfile.XHDTYPE),
    "names of names": header("x", b"1", tarfile.GNUTYPE_LONGNAME) + bytes(512),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_told_without_memory(tmp_path: Path, lie: str) -> None:
    shard = tmp_path / "train.tar"
    with shard.open("wb") as file:
        file.write(members(good(3)) + LIES[lie] * (400 if "of" in lie else 1))
        file.truncate(1 << 29)  # a hole on the disk
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"train\.tar cannot be read as an archive"):
            open_archive(shard)
        assert tracemalloc.get_traced_memory()[1] < 4 * HEADERS
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cut", [lambda d: d[: len(d) // 2 + 100], lambda d: d[:700], lambda d: b""])
def test_a_shard_that_is_cut_short_is_named(tmp_path: Path, cut: Callable[[bytes], bytes]) -> None:
    (tmp_path / "train-0.tar").write_bytes(tar_of(good(9)))
    (tmp_path / "train-1.tar").write_bytes(cut(tar_of(good(9))))
    with pytest.raises(DataError, match=r"train-1\.tar cannot be read as an archive"):
        open_captioned(tmp_path, "train")


def test_a_shard_that_is_a_gzip_is_read_or_named(tmp_path: Path) -> None:
    whole = tar_of(good(9), "gz")
    (tmp_path / "train.tar").write_bytes(whole)
    assert len(open_captioned(tmp_path, "train")) == 9
    (tmp_path / "train.tar").write_bytes(whole[:-200])
    os.utime(tmp_path / "train.tar", ns=(1, 1))
    with pytest.raises(DataError, match=r"train\.tar cannot be read as an archive"):
        open_captioned(tmp_path, "train")
