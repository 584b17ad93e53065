"""Data sets: ten pictures in every layout, on disk and in archives, are the same data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from awase.datasets import (
    Found,
    data_hash,
    find_sets,
    open_captioned,
    open_labelled,
)
from awase.errors import DataError, MissingExtra
from layouts import (
    CLASSES,
    CONTENTS,
    KINDS,
    LAYOUTS,
    PICTURES,
    as_csv,
    as_json,
    as_lines,
    coco,
    contents,
    hugging_face,
    imagefolder,
    jpeg,
    of,
    tar_of,
    write,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_the_same_pictures_is_the_same_data(tmp_path: Path, layout: str, kind: str) -> None:
    place = write(tmp_path / "animals", kind, LAYOUTS[layout]())
    for split, count in (("train", 6), ("test", 4)):
        wanted = sorted(of(split), key=lambda row: row[1])  # by name, as folders are read
        data = open_labelled(place, split)
        assert data.name == "animals"
        assert data.split.removesuffix("2017") == split
        assert len(data) == count
        assert contents(data) == [CONTENTS[name] for _, name, _ in wanted]
        assert data.names["en"] == ("cat", "tree frog")
        assert layout == "webdataset" or data.names["ja"] == ("猫", "アマガエル")
        labels = [list(CLASSES).index(label) for label, _, _ in wanted]
        if layout == "coco":
            assert data.multi_label
            assert data.metric == "map"
            assert data.targets.tolist() == [[label == 0, label == 1] for label in labels]
        else:
            assert data.targets.tolist() == labels
            assert data.targets.dtype == np.int64
        if layout != "imagefolder":
            captioned = open_captioned(place, split)
            assert contents(captioned) == [CONTENTS[name] for _, name, _ in wanted]
            assert captioned.captions == [s for _, _, sentences in wanted for s in sentences]
            assert captioned.owners.tolist() == [i for i in range(count) for _ in range(2)]


def test_find_sets_tells_splits_columns_and_languages(tmp_path: Path) -> None:
    write(tmp_path / "one", "folder", imagefolder())
    write(tmp_path / "two", ".tar", hugging_face())
    write(tmp_path / "deep" / "er" / "three", ".zip", coco())
    (tmp_path / "notes.txt").write_text("no data set")
    two, three = f"{tmp_path}/two.tar/two", f"{tmp_path}/deep/er/three.zip/three"
    splits, tongues = ("test", "train"), ("en", "ja")
    found = find_sets(tmp_path)
    assert sorted(found, key=lambda one: (one.name, one.kind)) == [
        Found("one", f"{tmp_path}/one", "labelled", splits, (), tongues),
        Found("three", three, "captioned", ("test2017", "train2017"), ("captions",), ("en",)),
        Found("three", three, "labelled", ("test2017", "train2017"), (), tongues),
        Found("two", two, "captioned", splits, ("captions",), ("en",)),
        Found("two", two, "labelled", splits, (), tongues),
    ]
    for one in found:
        opened = (open_labelled if one.kind == "labelled" else open_captioned)(one.location, "train")
        assert (opened.name, len(opened)) == (one.name, 6)
    assert find_sets(two) == [one for one in found if one.name == "two"]


def test_no_split_given_takes_test_then_validation_then_training(tmp_path: Path) -> None:
    tree = imagefolder()
    assert open_labelled(write(tmp_path / "a", "folder", tree)).split == "test"
    renamed = {name.replace("test/", "validation/"): data for name, data in tree.items()}
    place = write(tmp_path / "b", "folder", renamed)
    assert open_labelled(place).split == "validation"
    assert open_labelled(place, "val").split == open_labelled(place, "dev").split == "validation"
    only = {name: data for name, data in tree.items() if not name.startswith("test/")}
    assert open_labelled(write(tmp_path / "c", "folder", only)).split == "train"


def test_a_folder_of_classes_needs_no_splits_and_a_split_can_be_opened_by_its_own_path(tmp_path: Path) -> None:
    place = write(tmp_path / "animals", "folder", imagefolder())
    by_path = open_labelled(place / "test")
    assert (by_path.name, by_path.split, len(by_path)) == ("animals", "test", 4)
    assert data_hash(by_path) == data_hash(open_labelled(place, "test"))
    undivided = {name.partition("/")[2] or name: data for name, data in imagefolder().items()}
    data = open_labelled(write(tmp_path / "plain", "folder", undivided))
    assert (data.split, len(data)) == ("all", 10)


def test_classes_are_those_of_all_splits_so_that_numbers_mean_the_same(tmp_path: Path) -> None:
    tree = {name: data for name, data in imagefolder().items() if name != "classes.json" and "test/cat" not in name}
    data = open_labelled(write(tmp_path / "animals", "folder", tree), "test")
    assert data.keys == ("cat", "tree_frog")
    assert data.names == {"en": ("cat", "tree frog")}
    assert data.targets.tolist() == [1, 1]
    assert data.notes == ("1 class has no picture in test, and stays a possible answer: cat",)


def test_an_empty_folder_is_a_class_without_pictures(tmp_path: Path) -> None:
    place = write(tmp_path / "animals", "folder", {n: d for n, d in imagefolder().items() if n != "classes.json"})
    (place / "train" / "unicorn").mkdir()
    data = open_labelled(place, "train")
    assert data.keys == ("cat", "tree_frog", "unicorn")
    assert any("unicorn" in note for note in data.notes)


@pytest.mark.parametrize("where", ["test/classes.json", "classes.json", "../classes.json"])
def test_classes_json_in_the_split_the_set_or_above(tmp_path: Path, where: str) -> None:
    tree = {name: data for name, data in imagefolder().items() if name != "classes.json"}
    names = {"tree_frog": "a frog", "cat": "a cat"} | ({"heron": "a heron"} if where.startswith("..") else {})
    place = write(tmp_path / "sets" / "animals", "folder", tree)
    (place / where).write_bytes(as_json(names))
    data = open_labelled(place, "test")
    assert dict(zip(data.keys, data.names["en"], strict=True)) == {"cat": "a cat", "tree_frog": "a frog"}


def test_sets_json_beside_gives_templates_and_metric(tmp_path: Path) -> None:
    told = {"animals": {"templates_en": ["a drawing of {}."], "templates_ja": ["{}の絵。"], "metric": "mean_per_class"}}
    place = write(tmp_path / "sets" / "animals", "folder", imagefolder())
    (place.parent / "sets.json").write_bytes(as_json(told))
    archive = tmp_path / "sets.tar"
    archive.write_bytes(
        tar_of({f"sets/animals/{n}": d for n, d in imagefolder().items()} | {"sets/sets.json": as_json(told)})
    )
    for path in (place, archive, f"{archive}/sets/animals"):
        data = open_labelled(path)
        assert data.templates == {"en": ("a drawing of {}.",), "ja": ("{}の絵。",)}
        assert data.metric == "mean_per_class"


def test_a_table_or_annotation_file_can_be_named_with_pictures_elsewhere(tmp_path: Path) -> None:
    pictures = write(tmp_path / "elsewhere", "folder", CONTENTS)
    rows = [{"path": n, "label": label, "title": sentences[0]} for _, label, n, sentences in PICTURES]
    for name, data in (("my.csv", as_csv(rows)), ("my.tsv", as_csv(rows, "\t")), ("my.jsonl", as_lines(rows))):
        (tmp_path / name).write_bytes(data)
        labelled = open_labelled(tmp_path / name, pictures=pictures)
        assert (labelled.name, labelled.split, len(labelled)) == ("my", "all", 10)
        assert open_captioned(tmp_path / name, pictures=pictures).column == "title"
    annotations = tmp_path / "captions_val2014.json"
    annotations.write_bytes(
        as_json({"images": [{"id": 3, "file_name": "cat0.jpg"}], "annotations": [{"image_id": 3, "caption": "a cat"}]})
    )
    captioned = open_captioned(annotations, "val", pictures=pictures)
    assert (captioned.split, captioned.captions) == ("val2014", ["a cat"])


def test_the_column_of_classes_can_be_chosen_and_groups_are_kept(tmp_path: Path) -> None:
    rows = [
        {"file_name": n, "kind": label, "kind_en": CLASSES[label]["en"], "mood": "calm" if i % 2 else "wild", "id": i}
        for i, (_, label, n, _) in enumerate(PICTURES)
    ]
    place = write(tmp_path / "animals", "folder", CONTENTS | {"metadata.jsonl": as_lines(rows)})
    data = open_labelled(place)
    assert data.names == {"en": ("cat", "tree frog")}
    assert data.groups["mood"][:2] == ("calm", "wild") or data.groups["mood"][:2] == ("wild", "calm")
    assert data.notes == ("classes are the column 'kind'",)
    assert open_labelled(place, column="mood").keys == ("calm", "wild")


def test_a_column_of_lists_gives_several_classes(tmp_path: Path) -> None:
    rows = [{"file_name": n, "labels": ["cat", "pet"] if "cat" in n else []} for n in CONTENTS]
    data = open_labelled(write(tmp_path / "pets", "folder", CONTENTS | {"metadata.jsonl": as_lines(rows)}))
    assert data.multi_label
    assert data.keys == ("cat", "pet")
    assert data.targets.sum() == 2 * sum("cat" in name for name in CONTENTS)


def test_a_template_and_names_file_as_clip_benchmark_writes_them(tmp_path: Path) -> None:
    shard = {f"{n}.webp": jpeg(n) for n in range(4)} | {f"{n}.cls": str(n % 2).encode() for n in range(4)}
    tree = {"test/0.tar": tar_of(shard), "classnames.txt": b"cat\ndog\n"}
    tree["zeroshot_classification_templates.txt"] = b"a photo of a {c}.\nart of {c}.\n"
    data = open_labelled(write(tmp_path / "wds_pets", "folder", tree))
    assert (data.name, data.split, data.names, len(data)) == ("wds_pets", "test", {"en": ("cat", "dog")}, 4)
    assert data.templates == {"en": ("a photo of a {}.", "art of {}.")}
    assert data.targets.tolist() == [0, 1, 0, 1]


@pytest.mark.shared
def test_every_shared_set_opens_with_the_counts_that_its_readme_states(shared_data: Path) -> None:
    found = {(one.name, one.kind): one for one in find_sets(shared_data)}

    def counts(name: str, kind: str) -> dict[str, int]:
        one = found[name, kind]
        opener = open_labelled if kind == "labelled" else open_captioned
        return {split: len(opener(one.location, split)) for split in one.splits}

    assert counts("cifar10_2k", "labelled") == {"test": 2000}
    assert counts("clothing10", "labelled") == {"train": 480, "val": 120, "test": 179}
    assert counts("imagenet_sample1k", "labelled") == {"test": 1000}
    assert counts("signdigits10", "labelled") == {"train": 240, "val": 60, "test": 100}
    assert counts("fashion_attr", "labelled") == {"train": 1050, "val": 150, "test": 300}
    assert counts("emoji", "labelled") == {"train": 2484}
    assert counts("flickr8k", "captioned") == {"train": 6000, "dev": 1000}
    assert counts("coco_mini", "captioned") == {"dev": 168}
    stated = {"rsicd": (1440, 99), "storybook": (811, 72), "shapes_captioned": (1500, 200), "nlvr_shapes": (469, 23)}
    for name, (train, dev) in stated.items():
        assert counts(name, "captioned") == {"train": train, "dev": dev}
    sentences = {name: len(open_captioned(found[name, "captioned"].location, "train").captions) for name in stated}
    assert sentences == {"rsicd": 5156, "storybook": 811, "shapes_captioned": 3000, "nlvr_shapes": 469}
    japanese = open_captioned(found["flickr8k", "captioned"].location, "dev", "captions_ja")
    assert (len(japanese.captions), len(set(japanese.owners.tolist())), len(japanese)) == (83, 46, 1000)
    domains = [one for one in found.values() if "domains.tar" in one.location]
    opened = [(open_labelled(one.location, "train"), open_labelled(one.location, "val")) for one in domains]
    assert len(opened) == 71
    assert sum(len(train.keys) for train, _ in opened) == 1219
    assert [sum(map(len, side)) for side in zip(*opened, strict=True)] == [12462, 3748]
    assert all(set(train.languages) == {"en", "ja"} and train.templates["ja"] for train, _ in opened)
    assert set(found) == {(one.name, "labelled") for one in domains} | {
        *((name, "labelled") for name in ("cifar10_2k", "clothing10", "imagenet_sample1k", "signdigits10")),
        *((name, "labelled") for name in ("fashion_attr", "emoji", "rsicd")),
        *((name, "captioned") for name in ("flickr8k", "coco_mini", *stated)),
    }


def test_parquet_needs_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write(tmp_path / "animals", "folder", {"train.parquet": b"PAR1"} | CONTENTS)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"awase\[parquet\]"):
        open_labelled(place)


def test_hub_data_sets_need_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"awase\[hub\]"):
        open_labelled("hub:someone/animals")


def test_what_datasets_loads_is_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    place = write(tmp_path / "animals", "folder", {n: d for n, d in imagefolder().items() if n != "classes.json"})
    data = open_labelled(f"hub:{place}", "train")
    assert (data.name, data.split, data.names) == ("animals", "train", {"en": ("cat", "tree frog")})
    assert contents(data) == contents(open_labelled(place, "train"))
    assert data.targets.tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(DataError, match="could not be loaded from the Hub"):
        open_labelled(f"hub:{tmp_path}/nowhere")


def test_pictures_of_one_name_in_parquet_are_each_their_own(tmp_path: Path) -> None:
    """Many files keep only the last part of a picture's path, which every class has."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = list(CONTENTS)[:3]
    rows = [
        {"image": {"bytes": CONTENTS[n], "path": "001.png"}, "label": f"class {i % 2}", "captions": [f"sentence {i}"]}
        for i, n in enumerate(names)
    ]
    rows.append({**rows[0], "captions": ["another sentence"]})  # and one picture may stand in several rows
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "test.parquet")
    data, told = open_labelled(tmp_path), open_captioned(tmp_path)
    assert data.targets.tolist() == [0, 1, 0]
    assert told.owners.tolist() == [0, 1, 2, 0]
    assert [picture.open("rb").read() for picture in told.pictures] == [CONTENTS[n] for n in names]  # type: ignore[union-attr]
    assert [str(picture) for picture in data.pictures] == [str(picture) for picture in told.pictures]
