"""Bad data sets: each flaw is one clear error that names the place, or a note while the rest goes on."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from awase.datasets import find_sets, open_captioned, open_labelled
from awase.datasets.archives import open_archive
from awase.datasets.hashing import data_hash
from awase.encoding.pictures import open_picture
from awase.errors import DataError, PictureError, UsageError
from layouts import CLASSES, CONTENTS, PICTURES, Tree, as_csv, as_json, as_lines, imagefolder, jpeg, tar_of, write


def listed(rows: list[dict], **more: bytes) -> Tree:
    return CONTENTS | {"metadata.jsonl": as_lines(rows)} | more


ROWS = [{"file_name": n, "label": label, "captions": sentences} for _, label, n, sentences in PICTURES]


def folder(place: Path, tree: Tree) -> Path:
    return write(place / "animals", "folder", tree)


def test_a_picture_that_is_not_there_is_left_out_and_told(tmp_path: Path) -> None:
    rows = [*ROWS, {"file_name": "gone.jpg", "label": "cat", "captions": ["a cat that went"]}]
    place = folder(tmp_path, listed(rows))
    data, captioned = open_labelled(place), open_captioned(place)
    assert len(data) == len(captioned) == 10
    assert len(captioned.captions) == 20
    for note in (*data.notes, *captioned.notes):
        assert "gone.jpg in" in note
        assert "metadata.jsonl line 11" in note
    assert "pictures that are not there" in data.notes[0]
    assert "sentences whose picture is not there" in captioned.notes[0]


@pytest.mark.parametrize("name", ["a" * 5000 + ".jpg", "a\0b.jpg", "/" + "b" * 300 + ".jpg"])
def test_a_name_that_no_file_can_have_is_a_picture_that_is_not_there(name: str, tmp_path: Path) -> None:
    data = open_labelled(folder(tmp_path, listed([*ROWS, {"file_name": name, "label": "cat"}])))
    assert len(data) == 10
    assert "pictures that are not there" in data.notes[0]


def test_an_empty_table_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("file_name,label\n")
    with pytest.raises(DataError, match="mine is empty"):
        open_labelled(tmp_path / "mine.csv")


def test_a_picture_without_a_row_stays_in_the_gallery_and_has_no_class(tmp_path: Path) -> None:
    place = folder(tmp_path, listed(ROWS[1:]))
    data, captioned = open_labelled(place), open_captioned(place)
    assert len(data) == 9
    assert "pictures without a class" in data.notes[0]
    assert len(captioned) == 10
    assert captioned.notes == ("1 of 10 pictures have no sentence in 'captions', and stay in the gallery",)


def test_half_a_surrogate_pair_is_a_question_mark(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"captions": ["a \ud800 cat"], "label": "ca\udce9t"}, *ROWS[1:]]
    place = folder(tmp_path, listed([]) | {"metadata.jsonl": "\n".join(map(json.dumps, rows)).encode()})
    assert open_captioned(place).captions[0] == "a ? cat"
    data = open_labelled(place)
    assert "ca?t" in data.names["en"]
    assert len(data_hash(data)) == 64


def test_a_blank_sentence_is_none(tmp_path: Path) -> None:
    place = folder(tmp_path, listed([ROWS[0] | {"captions": ["  ", "a cat"]}, *ROWS[1:]]))
    assert open_captioned(place).captions[0] == "a cat"


def test_the_same_picture_twice(tmp_path: Path) -> None:
    twice = folder(tmp_path / "same", listed([*ROWS, ROWS[0] | {"file_name": "./cat0.jpg"}]))
    data = open_labelled(twice)
    assert len(data) == 10
    assert data.notes[0].startswith("left out: pictures listed before (1: cat0.jpg in")
    assert len(open_captioned(twice)) == 10
    torn = folder(tmp_path / "torn", listed([*ROWS, ROWS[0] | {"label": "tree_frog"}]))
    with pytest.raises(DataError, match=r"line 11: cat0\.jpg has the class 'tree_frog', and 'cat' in .*line 1;"):
        open_labelled(torn)


def test_one_class_only(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one class only, 'cat'; give the folder above"):
        open_labelled(folder(tmp_path, {n: d for n, d in imagefolder().items() if "/cat/" in n}))


def test_names_that_several_classes_share_are_told(tmp_path: Path) -> None:
    tree = imagefolder() | {"classes.json": as_json({"cat": {"en": "animal"}, "tree_frog": {"en": "animal"}})}
    data = open_labelled(folder(tmp_path, tree))
    assert data.names == {"en": ("animal", "animal")}
    assert "several classes have one name in 'en'" in data.notes[0]


def test_a_language_that_lacks_a_class_is_left_out_and_told(tmp_path: Path) -> None:
    tree = imagefolder() | {"classes.json": as_json({"cat": {"en": "cat", "ja": "猫"}, "tree_frog": {"en": "frog"}})}
    data = open_labelled(folder(tmp_path, tree))
    assert data.languages == ("en",)
    assert data.notes == ("1 classes have no name in 'ja', which is left out: tree_frog",)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (b'{"cat": "a", "cat": "b"}', "classes.json holds cat twice"),
        (b'{"cat": ', "classes.json is not JSON"),
        (b"[1]", "classes.json is no JSON object"),
        (b'{"cat": 3}', "class 'cat' has the name 3"),
        (b'{"dog": "a dog"}', "names dog, and none of the classes there are: cat, tree_frog"),
        (b"\xff\xfe", r"classes.json is not UTF-8 \(byte 0\)"),
        (b"[" * 100_000, "classes.json is not JSON"),
    ],
)
def test_a_bad_list_of_classes(tmp_path: Path, classes: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_labelled(folder(tmp_path, imagefolder() | {"classes.json": classes}))


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("metadata.jsonl", as_lines(ROWS[:2]) + b'{"file_name": \n', "metadata.jsonl line 3 is not JSON"),
        ("metadata.jsonl", b"[1, 2]\n", "metadata.jsonl line 1 is no JSON object"),
        ("metadata.jsonl", as_lines(ROWS[:2]) + b"[" * 100_000, "metadata.jsonl line 3 is not JSON"),
        ("metadata.jsonl", as_lines([{"label": "cat", "x": 3}]), "line 1: no column holds a picture's path"),
        ("metadata.csv", b"file_name,label\ncat0.jpg,cat,and more\n", "metadata.csv line 2 has more values"),
        ("metadata.csv", b'file_name,label\ncat0.jpg,"cat\n', "metadata.csv line 2 is not CSV"),
        ("metadata.parquet", b"PAR1 but not really", "metadata.parquet cannot be read as Parquet"),
        ("metadata.jsonl", as_lines([{"file_name": "cat0.jpg", "label": {"a": 1}}]), "line 1: column 'label' holds"),
        ("metadata.jsonl", b"", "no column is surely the class"),
        ("metadata.jsonl", as_lines([{"file_name": n, "kind": "x"} for n in CONTENTS]), r"column=. There are kind$"),
    ],
)
def test_a_bad_table_of_classes(tmp_path: Path, name: str, table: bytes, message: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(DataError, match=message):
        open_labelled(folder(tmp_path, CONTENTS | {name: table}))


def test_bad_sentences(tmp_path: Path) -> None:
    numbers = folder(tmp_path / "a", listed([{"file_name": "cat0.jpg", "captions": ["a cat", 3]}]))
    with pytest.raises(DataError, match="line 1: column 'captions' holds 3, which is no sentence"):
        open_captioned(numbers)
    none = folder(tmp_path / "b", listed([{"file_name": n, "captions": []} for n in CONTENTS]))
    with pytest.raises(DataError, match="column 'captions' holds no sentence"):
        open_captioned(none)


def test_an_unknown_language_lists_the_columns(tmp_path: Path) -> None:
    place = folder(tmp_path, listed([row | {"captions_ja": ["猫"]} for row in ROWS]))
    with pytest.raises(DataError, match="no column 'captions_fr'; columns of sentences are captions, captions_ja"):
        open_captioned(place, column="captions_fr")
    with pytest.raises(DataError, match="no column 'mood'; there are label, captions, captions_ja"):
        open_labelled(place, column="mood")


def test_an_unknown_split_lists_the_splits(tmp_path: Path) -> None:
    place = folder(tmp_path, imagefolder())
    for asked in ("val", "tset"):
        with pytest.raises(DataError, match=f"no split '{asked}'; there are test, train"):
            open_labelled(place, asked)
    with pytest.raises(DataError, match="it is not divided: leave the split out"):
        open_labelled(folder(tmp_path / "b", listed(ROWS)), "test")


def test_paths_without_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_labelled(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no data set of a known layout"):
        open_labelled(tmp_path)
    two = tmp_path / "two.tar"
    two.write_bytes(tar_of({f"{s}/{n}": d for s in ("one", "two") for n, d in imagefolder().items()}))
    with pytest.raises(DataError, match=r"several data sets: give the path .*two\.tar/one, .*two\.tar/two"):
        open_labelled(two)
    with pytest.raises(DataError, match=r"two\.tar holds no 'three'; it holds one, two"):
        open_labelled(two / "three")
    with pytest.raises(DataError, match=r"is no table \(\.jsonl"):
        open_labelled(folder(tmp_path, CONTENTS) / "cat0.jpg")
    with pytest.raises(UsageError, match="is a folder"):
        open_labelled(tmp_path, pictures=tmp_path)


def test_a_damaged_coco_file(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "cat0.jpg"}]
    for told, message in (
        ({"images": images}, 'holds no lists "images" and "annotations"'),
        ({"images": images, "annotations": [{"caption": "a cat"}]}, "no usable 'image_id'"),
        ({"images": [{"id": 1}], "annotations": []}, "no usable 'file_name'"),
        (
            {"images": images, "annotations": [{"id": 5, "image_id": 1, "category_id": 9}]},
            "annotation 5 has the category 9",
        ),
        ({"images": images, "annotations": [], "categories": [{"id": 1}]}, 'a category has no "id" or "name"'),
    ):
        file = tmp_path / "instances_val.json"
        file.write_bytes(as_json(told))
        with pytest.raises(DataError, match=message):
            open_labelled(file)


def test_a_coco_sentence_of_an_unlisted_picture_is_left_out(tmp_path: Path) -> None:
    told = {"images": [{"id": 1, "file_name": "cat0.jpg"}]}
    told["annotations"] = [{"id": n, "image_id": n, "caption": f"sentence {n}"} for n in (1, 2)]
    place = folder(tmp_path, CONTENTS | {"captions_val.json": as_json(told)})
    data = open_captioned(place)
    assert data.captions == ["sentence 1"]
    assert data.notes == (
        f"left out: sentences whose picture is not there (1: image 2 in {place}/captions_val.json annotation 2)",
    )


def test_labels_outside_the_list_of_classes(tmp_path: Path) -> None:
    tree = {f"{n}.jpg": jpeg(n) for n in range(3)} | {f"{n}.cls": str(n).encode() for n in range(3)}
    with pytest.raises(DataError, match="labels outside its list of classes: 2"):
        open_labelled(folder(tmp_path, tree | {"classnames.txt": b"cat\ndog\n"}))


def test_a_sample_without_a_picture_is_left_out(tmp_path: Path) -> None:
    tree = {f"{n}.jpg": jpeg(n) for n in range(3)} | {f"{n}.txt": f"picture {n}".encode() for n in range(4)}
    data = open_captioned(folder(tmp_path, tree))
    assert (len(data), list(data.captions)) == (3, ["picture 0", "picture 1", "picture 2"])
    assert "animals/3" in data.notes[0]


# ---- damaged and hostile archives ------------------------------------------------------------------------------------


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    whole = {kind: write(tmp_path / "animals", kind, imagefolder()) for kind in (".tar", ".tar.gz", ".zip")}
    for kind, file in whole.items():
        data = file.read_bytes()
        damaged = {"cut": data[: len(data) * 2 // 3], "empty": b"", "noise": np.random.default_rng(0).bytes(4096)}
        for how, its in damaged.items():
            bad = tmp_path / f"{how}{kind}"
            bad.write_bytes(its)
            with pytest.raises(DataError, match=f"{how}{kind} "):
                open_labelled(bad)


def test_a_damaged_header_in_the_middle_of_a_tar_does_not_end_it_silently(tmp_path: Path) -> None:
    file = write(tmp_path / "animals", ".tar", imagefolder())
    data = bytearray(file.read_bytes())
    with tarfile.open(file) as tar:
        place = tar.getmembers()[5].offset
    data[place : place + 512] = b"\x55" * 512
    file.write_bytes(data)
    with pytest.raises(DataError, match=f"damaged at byte {place:,}"):
        open_archive(file)


def test_a_compressed_tar_that_unfolds_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("awase.datasets.archives.MEBIBYTE", 1024)  # a gibibyte becomes a mebibyte
    bomb = tmp_path / "bomb.tar.gz"
    bomb.write_bytes(tar_of({"a/1.jpg": bytes(4 << 20)}, "gz"))
    with pytest.raises(DataError, match="unfolds to over 50 times its own size"):
        open_archive(bomb)


def test_a_picture_damaged_in_its_zip_is_one_picture_error(tmp_path: Path) -> None:
    file = write(tmp_path / "animals", ".zip", imagefolder())
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as made:
        entry = made.getinfo("animals/train/cat/cat0.jpg")
    data[entry.header_offset + 100] ^= 0xFF
    file.write_bytes(data)
    opened = open_labelled(file, "train")
    with pytest.raises(PictureError, match=r"animals\.zip/animals/train/cat/cat0\.jpg"):
        open_picture(opened.pictures[0])
    open_picture(opened.pictures[1])


def test_a_metadata_bomb_in_a_zip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("awase.datasets.folders.TEXT_LIMIT", 100_000)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("set/metadata.jsonl", b" " * 200_000)
        made.writestr("set/a.jpg", jpeg(1))
    (tmp_path / "bomb.zip").write_bytes(file.getvalue())
    with pytest.raises(DataError, match=r"metadata\.jsonl is over the limit"):
        open_labelled(tmp_path / "bomb.zip")


def test_links_and_devices_in_a_tar_are_passed_over(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for kind, name in ((tarfile.SYMTYPE, "x.jpg"), (tarfile.LNKTYPE, "y.jpg"), (tarfile.FIFOTYPE, "z.jpg")):
            entry = tarfile.TarInfo(f"cat/{name}")
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
        for label in CLASSES:
            entry = tarfile.TarInfo(f"{label}/1.jpg")
            entry.size = len(jpeg(1))
            tar.addfile(entry, io.BytesIO(jpeg(1)))
    (tmp_path / "links.tar").write_bytes(file.getvalue())
    data = open_labelled(tmp_path / "links.tar")
    assert (data.keys, len(data)) == (("cat", "tree_frog"), 2)


def test_an_archive_that_holds_itself_ends(tmp_path: Path) -> None:
    inner = tar_of({"more.tar": tar_of({"more.tar": tar_of(imagefolder())})})
    (tmp_path / "outer.tar").write_bytes(inner)
    assert find_sets(tmp_path) == []
    with pytest.raises(DataError, match="archives in archives in archives"):
        open_labelled(tmp_path / "outer.tar" / "more.tar" / "more.tar")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_among_the_pictures_is_passed_over(tmp_path: Path) -> None:
    place = folder(tmp_path, imagefolder())
    os.mkfifo(place / "train" / "cat" / "pipe.jpg")
    assert len(open_labelled(place, "train")) == 6


def test_a_broken_link_stays_a_picture_that_says_what_is_wrong(tmp_path: Path) -> None:
    place = folder(tmp_path, imagefolder())
    (place / "train" / "cat" / "a.jpg").symlink_to(place / "gone.jpg")
    data = open_labelled(place, "train")
    assert len(data) == 7
    with pytest.raises(PictureError, match="link to a file that does not exist"):
        open_picture(data.pictures[0])


def test_csv_of_another_column_count_says_which_line(tmp_path: Path) -> None:
    good = as_csv([{"file_name": n, "label": label} for _, label, n, _ in PICTURES])
    assert len(open_labelled(folder(tmp_path, CONTENTS | {"metadata.csv": good}))) == 10
