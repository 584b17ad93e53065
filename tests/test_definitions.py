"""What comes with the package about published sets, and how users' folders are fitted to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from awase.datasets import definition, definitions, open_labelled
from awase.encoding import prompts
from awase.errors import DataError
from layouts import as_json, jpeg, write

# Classes of the 27 sets of the CLIP paper, as openai/CLIP's prompts.md lists them.
CLASSES = {
    "food101": 101,
    "cifar10": 10,
    "cifar100": 100,
    "birdsnap": 500,
    "sun397": 397,
    "stanford_cars": 196,
    "fgvc_aircraft": 100,
    "voc2007": 20,
    "dtd": 47,
    "oxford_pets": 37,
    "caltech101": 102,
    "flowers102": 102,
    "mnist": 10,
    "fer2013": 7,
    "stl10": 10,
    "eurosat": 10,
    "resisc45": 45,
    "gtsrb": 43,
    "kitti_distance": 4,
    "country211": 211,
    "patch_camelyon": 2,
    "ucf101": 101,
    "kinetics700": 700,
    "clevr_counts": 8,
    "hateful_memes": 2,
    "rendered_sst2": 2,
    "imagenet": 1000,
}
FEW_SHOT = {
    *("imagenet", "caltech101", "oxford_pets", "stanford_cars", "flowers102", "food101", "fgvc_aircraft"),
    *("sun397", "dtd", "eurosat", "ucf101"),
}


def test_the_27_sets_are_there_with_names_templates_and_metric() -> None:
    assert set(definitions()) == set(CLASSES)
    metrics = {"top1", "mean_per_class", "map_11_point", "roc_auc", "mean_top1_top5"}
    for name, count in CLASSES.items():
        known = definition(name)
        assert len(known.keys) == count
        assert len(set(known.keys)) == count
        assert all(len(words) == count for words in known.names.values())
        assert all("{}" in sentence for sentences in known.templates.values() for sentence in sentences)
        assert known.metric in metrics
        assert known.place(known.keys) == (list(range(count)), [])
    assert {name for name in CLASSES if definition(name).prompt} == FEW_SHOT
    assert {n for n in CLASSES if definition(n).metric == "mean_per_class"} == {
        *("fgvc_aircraft", "oxford_pets", "caltech101", "flowers102")
    }


def test_values_known_from_the_sources() -> None:
    imagenet = definition("ImageNet")
    assert imagenet.templates["en"] == prompts.templates("imagenet80")
    assert imagenet.keys[0] == "n01440764"
    assert (imagenet.names["en"][0], imagenet.names["ja"][0]) == ("tench", "テンチ")
    assert len(set(imagenet.names["en"])) == 998
    assert definition("oxford_pets").prompt == "a photo of a {}, a type of pet."
    assert definition("OxfordPets") == definition("oxford-pets")
    assert definition("cifar10").names["ja"][3] == "猫"
    assert definition("country211").names["en"][definition("country211").keys.index("JP")] == "Japan"


def test_an_unknown_definition_lists_those_there_are() -> None:
    with pytest.raises(DataError, match=r"no definition 'oxford_pet'; there are .*oxford_pets"):
        definition("oxford_pet")


def of_folders(place: Path, *folders: str) -> Path:
    return write(place / "mine", "folder", {f"{name}/{i}.jpg": jpeg(i) for i, name in enumerate(folders)})


def test_folders_are_fitted_whatever_their_case_underscores_and_hyphens(tmp_path: Path) -> None:
    data = open_labelled(
        of_folders(tmp_path, "American-Bulldog", "abyssinian", "BRITISH_SHORTHAIR"), definition="oxford_pets"
    )
    pets = definition("oxford_pets")
    placed = [pets.names["en"][target] for target in data.targets]
    assert placed == ["american bulldog", "British Shorthair", "Abyssinian"]
    assert (data.names, data.templates, data.metric) == (pets.names, pets.templates, "mean_per_class")
    assert len(data.keys) == 37
    assert data.notes[0].startswith("34 classes have no picture in all, and stay possible answers: Bengal, ")


def test_the_sets_own_folders_and_their_published_names_both_fit(tmp_path: Path) -> None:
    for number, folders in enumerate((("AnnualCrop", "SeaLake"), ("annual crop land", "lake or sea"))):
        data = open_labelled(of_folders(tmp_path / str(number), *folders), definition="eurosat")
        assert [data.names["ja"][t] for t in data.targets] == [definition("eurosat").names["ja"][i] for i in (7, 5)]


def test_numbers_are_classes_in_order(tmp_path: Path) -> None:
    signs = open_labelled(of_folders(tmp_path / "a", "00000", "00042", "00007"), definition="gtsrb")
    assert signs.targets.tolist() == [0, 7, 42]
    assert any("from 0" in note for note in signs.notes)
    flowers = open_labelled(of_folders(tmp_path / "b", "1", "102"), definition="flowers102")
    assert flowers.targets.tolist() == [0, 101]
    assert any("from 1" in note for note in flowers.notes)
    digits = open_labelled(of_folders(tmp_path / "c", "3", "9"), definition="mnist")
    assert digits.targets.tolist() == [3, 9]


def test_what_fits_no_class_is_listed_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"oxford_pets has no class for 2 of 3: 'beagel' \('beagle'\?\), 'car'"):
        open_labelled(of_folders(tmp_path, "beagel", "car", "pug"), definition="oxford_pets")
    with pytest.raises(DataError, match="several of these are one class of oxford_pets"):
        open_labelled(of_folders(tmp_path / "b", "pug", "Pug_"), definition="oxford_pets")


def test_a_definition_does_not_need_classes_json(tmp_path: Path) -> None:
    place = of_folders(tmp_path, "cat", "dog")
    (place / "classes.json").write_bytes(as_json({"cat": {"fr": "chat"}, "dog": {"fr": "chien"}}))
    assert set(open_labelled(place, definition="stl10").names) == {"en", "ja"}
    assert set(open_labelled(place).names) == {"fr"}


@pytest.mark.shared
def test_shared_sets_fit_their_definitions(shared_data: Path) -> None:
    plain = open_labelled(shared_data / "cifar10_2k.tar")
    defined = open_labelled(shared_data / "cifar10_2k.tar", definition="cifar10")
    assert defined.targets.tolist() == plain.targets.tolist()
    assert defined.notes == ()
    thousand = open_labelled(shared_data / "imagenet_sample1k.tar", definition="imagenet")
    assert thousand.targets.tolist() == list(range(1000))
