"""Shards made of any data set hold what it held."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from awase.cli import main
from awase.datasets import find_sets, open_captioned, open_labelled
from awase.datasets.remote import local_copy
from awase.datasets.sharding import _samples, write_shards
from awase.encoding.caches import cache_folder
from awase.encoding.pictures import read_file
from awase.errors import DataError, UsageError


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for split, count in (("train", 7), ("dev", 2)):
        (folder / split).mkdir(parents=True)
        lines = []
        for i in range(count):
            Image.new("RGB", (6, 5), (30 * i, 9, 9)).save(folder / split / f"{i}.jpg")
            captions = [f"first of {i}", f"second, of {i}"]
            lines.append({"file_name": f"{i}.jpg", "captions": captions, "captions_ja": [f"{i}の写真"]})
        (folder / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return folder


def test_shards_hold_every_picture_and_sentence(captioned: Path, tmp_path: Path) -> None:
    written = write_shards(captioned, tmp_path / "out", size=3)
    assert (written.counts, written.shards, written.unreadable) == ({"dev": 2, "train": 7}, 4, ())
    for split in ("train", "dev"):
        for column in ("captions", "captions_ja"):
            before, after = open_captioned(captioned, split, column), open_captioned(tmp_path / "out", split, column)
            assert list(after.captions) == list(before.captions)
            assert after.owners.tolist() == before.owners.tolist()
            for one, other in zip(before.pictures, after.pictures, strict=True):
                with other.open("rb") as file:  # type: ignore[union-attr]
                    assert file.read() == read_file(str(one))


def test_a_set_of_which_nothing_can_be_read_gives_no_shards(tmp_path: Path) -> None:
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / "train" / "a.png").write_bytes(b"nothing")
    (tmp_path / "set" / "train" / "metadata.jsonl").write_text('{"file_name": "a.png", "captions": ["a"]}')
    with pytest.raises(DataError, match="none of its 1 pictures can be read"):
        write_shards(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_index_tells_the_shards(captioned: Path, tmp_path: Path) -> None:
    write_shards(captioned, tmp_path / "out", "train", size=3)
    index = json.loads((tmp_path / "out" / "shards.json").read_text())
    assert [(shard["name"], shard["count"]) for shard in index["shards"]] == [
        (f"train-{i:06d}.tar", count) for i, count in enumerate((3, 3, 1))
    ]
    for shard in index["shards"]:
        data = (tmp_path / "out" / shard["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        assert tar.getnames()[:3] == ["000000000.jpg", "000000000.txt", "000000000.json"]
        assert tar.extractfile("000000000.txt").read() == b"first of 0"
    write_shards(captioned, tmp_path / "again", "train", size=3)
    assert (tmp_path / "again" / "shards.json").read_bytes() == (tmp_path / "out" / "shards.json").read_bytes()


def test_classes_are_kept(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "set" / "train" / name).mkdir(parents=True)
        Image.new("RGB", (6, 5)).save(tmp_path / "set" / "train" / name / "0.png")
    write_shards(tmp_path / "set", tmp_path / "out")
    data = open_labelled(tmp_path / "out", "train")
    assert (data.keys, data.targets.tolist()) == (("cat", "dog"), [0, 1])
    assert find_sets(tmp_path / "out")[0].kind == "labelled"


def test_what_cannot_be_read_is_left_out_and_named(
    captioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (captioned / "train" / "3.jpg").write_bytes(b"no picture")
    assert main(["data", "shard", str(captioned), "--out", str(tmp_path / "out"), "--size", "2"]) == 1
    said = capsys.readouterr().err
    assert "left out" in said
    assert "3.jpg" in said
    assert "train 6 pictures" in said
    assert "second, of 3" not in open_captioned(tmp_path / "out", "train").captions


def test_what_is_not_there_is_told_and_a_picture_without_a_sentence_stays(
    captioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = captioned / "train" / "metadata.jsonl"
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    lines[1]["captions"] = []
    lines.append({"file_name": "gone.jpg", "captions": ["nobody sees this"]})
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    assert main(["data", "shard", str(captioned), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "train: left out: sentences whose picture is not there (1: gone.jpg" in said
    before, after = (open_captioned(path, "train") for path in (captioned, tmp_path / "out"))
    assert len(after) == len(before) == 7
    assert after.captions == before.captions


def test_what_cannot_be_sharded_is_refused(captioned: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no split 'test'; there are dev, train"):
        write_shards(captioned, tmp_path / "out", "test")
    with pytest.raises(UsageError, match="not empty"):
        write_shards(captioned, captioned)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no data set of a known layout"):
        write_shards(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- at an address ---------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(captioned: Path, tmp_path: Path) -> str:
    """Shards in fsspec's memory."""
    fsspec = pytest.importorskip("fsspec")
    write_shards(captioned, tmp_path / "out", size=3)
    memory = fsspec.filesystem("memory")
    for file in (tmp_path / "out").iterdir():
        memory.pipe(f"/{tmp_path.name}/{file.name}", file.read_bytes())
    return f"memory://{tmp_path.name}"


def test_shards_at_an_address_are_fetched_once(stored: str, captioned: Path) -> None:
    import fsspec

    folder = local_copy(stored)
    assert list(open_captioned(folder, "train").captions) == list(open_captioned(captioned, "train").captions)
    for name in ("train-000000.tar", "dev-000000.tar"):
        fsspec.filesystem("memory").rm(f"/{stored.removeprefix('memory://')}/{name}")
    assert local_copy(stored + "/") == folder


@pytest.mark.parametrize("change", [b"", b"changed", None])
def test_a_shard_that_is_not_what_the_index_says_is_refused(stored: str, change: bytes | None) -> None:
    import fsspec

    memory, shard = fsspec.filesystem("memory"), f"/{stored.removeprefix('memory://')}/train-000001.tar"
    memory.rm(shard) if change is None else memory.pipe(shard, memory.cat(shard)[:-9] + change)
    with pytest.raises(DataError, match=r"train-000001\.tar"):
        local_copy(stored)
    assert not any(file.name.startswith(".") for file in cache_folder().rglob("*train-000001*"))


@pytest.mark.parametrize(
    "index", [b"no json", b"[]", b"[" * 100_000, b'{"shards": [{"name": "../up.tar", "bytes": 1, "sha256": ""}]}']
)
def test_an_index_is_not_trusted(stored: str, index: bytes) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe(f"/{stored.removeprefix('memory://')}/shards.json", index)
    with pytest.raises(DataError, match=r"shards\.json"):
        local_copy(stored)
    with pytest.raises(DataError, match="gopher"):
        local_copy("gopher://somewhere")


# ---- a shard that is missing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda shard: shard.unlink(), r"train-000001\.tar is not there, and shards\.json lists it: copy or download"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:10240]), r"train-000001\.tar has 10,240 bytes, and 20,4"),
    ],
)
def test_a_shard_that_is_not_what_the_index_lists_is_no_smaller_set(
    captioned: Path, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    write_shards(captioned, tmp_path / "out", size=3)
    damage(tmp_path / "out" / "train-000001.tar")
    with pytest.raises(DataError, match=said):
        open_captioned(tmp_path / "out", "train")
    assert len(open_captioned(tmp_path / "out", "dev")) == 2  # whose shards are all there


def test_a_split_of_which_every_shard_is_missing_is_no_unknown_split(captioned: Path, tmp_path: Path) -> None:
    write_shards(captioned, tmp_path / "out", size=3)
    for shard in (tmp_path / "out").glob("*.tar"):
        shard.unlink()
    with pytest.raises(DataError, match=r"dev-000000\.tar is not there"):
        open_captioned(tmp_path / "out", "dev")


def test_the_index_of_another_tool_is_passed_over_and_a_damaged_one_is_not(captioned: Path, tmp_path: Path) -> None:
    write_shards(captioned, tmp_path / "out", size=3)
    index = tmp_path / "out" / "shards.json"
    index.write_text('{"wids_version": 1, "shardlist": [{"url": "gone.tar", "nsamples": 3}]}')
    assert len(open_captioned(tmp_path / "out", "train")) == 7
    index.write_text('{"format": 1, "sha')
    with pytest.raises(DataError, match=r"shards\.json is not JSON"):
        open_captioned(tmp_path / "out", "train")


def test_addresses_that_differ_in_the_middle_are_two_pictures(tmp_path: Path) -> None:
    long = "https://cdn.example.com/" + "a" * 140
    lines = [f"{long}/{i}/{'b' * 60}.jpg,sentence {i}" for i in range(3)]
    (tmp_path / "test.csv").write_text("\n".join(["image_url,text", *lines]))
    samples, _, _ = _samples(find_sets(tmp_path), "test")
    assert [captions for _, _, captions in samples] == [["sentence 0"], ["sentence 1"], ["sentence 2"]]
