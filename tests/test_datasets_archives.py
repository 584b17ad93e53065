"""Archives are read in place, by many threads; data are known by their content; what two splits share is found."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from awase.datasets import (
    data_hash,
    duplicates_between,
    find_sets,
    open_captioned,
    open_labelled,
    pictures_hash,
)
from awase.encoding.pictures import name_of, open_picture
from layouts import (
    CONTENTS,
    KINDS,
    hugging_face,
    imagefolder,
    jpeg,
    of,
    tar_of,
    write,
)

# ---- archives --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_decode_alike_and_are_named_by_their_place(tmp_path: Path, kind: str) -> None:
    data = open_labelled(write(tmp_path / "animals", kind, imagefolder()), "test")
    inner = "" if kind == "folder" else f"{kind}/animals"
    assert name_of(data.pictures[0]) == f"{tmp_path}/animals{inner}/test/cat/cat6.jpg"
    for picture, (_, name, _) in zip(data.pictures, of("test"), strict=True):
        for _ in range(2):  # a member may be read again
            assert np.array_equal(np.asarray(open_picture(picture)), np.asarray(open_picture(CONTENTS[name])))


@pytest.mark.parametrize("kind", [".tar", ".tar.gz", ".zip"])
def test_many_threads_read_one_archive(tmp_path: Path, kind: str) -> None:
    big = {f"{label}/{n}.jpg": jpeg(n) * 40 for label in ("a", "b") for n in range(20)}
    data = open_labelled(write(tmp_path / "big", kind, big))
    wanted = [big[f"{label}/{n}"] for label in ("a", "b") for n in sorted(f"{n}.jpg" for n in range(20))]

    def in_pieces(picture: object) -> bytes:
        with picture.open("rb") as stream:  # type: ignore[attr-defined]
            return b"".join(iter(lambda: stream.read(997), b""))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(in_pieces, list(data.pictures) * 5)) == wanted * 5


def test_names_that_lead_out_of_an_archive_are_passed_over_and_nothing_is_written(tmp_path: Path) -> None:
    tree = imagefolder() | {"../evil/x.jpg": jpeg(0), "/../etc/y.jpg": jpeg(1), "a/" * 40 + "z.jpg": jpeg(2)}
    tree |= {".hidden/h.jpg": jpeg(3), "__MACOSX/m.jpg": jpeg(4)}
    archive = tmp_path / "evil.tar"
    archive.write_bytes(tar_of({f"animals/{n}" if n in imagefolder() else n: d for n, d in tree.items()}))
    assert [one.location for one in find_sets(archive)] == [f"{archive}/animals"]
    assert list(tmp_path.iterdir()) == [archive]


def test_links_in_circles_end(tmp_path: Path) -> None:
    place = write(tmp_path / "animals", "folder", imagefolder())
    (place / "train" / "cat" / "again").symlink_to(place, target_is_directory=True)
    assert len(open_labelled(place, "train")) == 6


# ---- hashes and leaks ------------------------------------------------------------------------------------------------


def test_the_hash_is_of_content_not_of_place(tmp_path: Path) -> None:
    hashes = {data_hash(open_labelled(write(tmp_path / kind / "x", kind, imagefolder()), "train")) for kind in KINDS}
    assert len(hashes) == 1
    moved = {name.replace("cat0", "aaa"): data for name, data in imagefolder().items()}
    assert data_hash(open_labelled(write(tmp_path / "moved", "folder", moved), "train")) in hashes


def test_the_hash_changes_with_anything_that_matters(tmp_path: Path) -> None:
    place = write(tmp_path / "x", "folder", hugging_face())
    data, captioned = open_labelled(place, "train"), open_captioned(place, "train")
    before, pictures = data_hash(data), pictures_hash(data.pictures)
    assert pictures == pictures_hash(captioned.pictures)
    assert data_hash(captioned) != before
    assert data_hash(open_labelled(place, "test")) != before
    table = place / "train" / "metadata.jsonl"
    table.write_bytes(table.read_bytes().replace(b"it is", b"it was"))
    assert data_hash(open_captioned(place, "train")) != data_hash(captioned)
    assert data_hash(open_labelled(place, "train")) == before
    file = place / "train" / "cat0.jpg"
    file.write_bytes(file.read_bytes()[:-3] + b"xyz")
    assert data_hash(open_labelled(place, "train")) != before
    assert pictures_hash(open_labelled(place, "train").pictures) != pictures


def test_a_long_file_is_known_by_its_beginning_middle_and_end(tmp_path: Path) -> None:
    data = bytearray(np.random.default_rng(0).bytes(300_000))
    whole = pictures_hash([bytes(data)])
    for place in (0, 150_000, 299_999):
        changed = data.copy()
        changed[place] ^= 1
        assert pictures_hash([bytes(changed)]) != whole
    assert pictures_hash([bytes(data[:-1])]) != whole


def test_pictures_in_both_splits_are_found(tmp_path: Path) -> None:
    tree = imagefolder() | {"test/cat/copy.jpg": CONTENTS["cat1.jpg"]}
    place = write(tmp_path / "animals", "folder", tree)
    archive = write(tmp_path / "again" / "animals", ".tar", tree)
    train, test = open_labelled(place, "train"), open_labelled(archive, "test")
    leaks = duplicates_between(train, test)
    assert [(name_of(train.pictures[i])[-8:], name_of(test.pictures[j])[-8:]) for i, j in leaks] == [
        ("cat1.jpg", "copy.jpg")
    ]
    assert duplicates_between(train, train) == []
