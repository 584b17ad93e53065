"""Captions exchanged by rule, choices read from published tests, and how they are scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import awase
from awase import Clip, DataError, UsageError
from awase.datasets.captioned import Captioned
from awase.evaluation.choices import Choice, Crop, read_aro, read_sugarcrepe, read_winoground
from awase.evaluation.comparison import compare
from awase.evaluation.composition import composition, published, score_choices, score_twins, twin_scores
from awase.evaluation.exchanges import KINDS, false_captions

CAT = Path(__file__).parents[1] / "examples" / "cat.jpg"


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with red.png, blue.png and half.png, blue above red."""
    folder = tmp_path_factory.mktemp("plain")
    red, blue = Image.new("RGB", (80, 80), (230, 20, 20)), Image.new("RGB", (80, 80), (20, 40, 230))
    half = Image.new("RGB", (80, 160))
    half.paste(blue, (0, 0))
    half.paste(red, (0, 80))
    for name, picture in (("red", red), ("blue", blue), ("half", half)):
        picture.save(folder / f"{name}.png")
    return folder


# ---- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "kind", "expected"),
    [
        ("Two dogs run .", "number", "Three dogs run ."),
        ("a two-wheeled cart", "number", None),
        ("A young girl eats", "adjective", "An old girl eats"),
        ("an old man", "adjective", "a young man"),
        ("A man on a horse", "noun", "A woman on a horse"),
        ("The cat is above the box", "relation", "The cat is below the box"),
        ("a dog in front of a house", "relation", "a dog behind a house"),
        ("a red ball and a blue box", "swap", "a blue ball and a red box"),
        ("a black and white dog", "swap", None),
        ("a man and a woman", "swap", None),
        ("a man watches a dog", "swap", "a dog watches a man"),
        ("A dog is running", "negation", "A dog is not running"),
        ("A man with a hat", "negation", "A man without a hat"),
        ("A dog runs", "negation", "No dog runs"),
        ("a black man smiles", "colour", None),
        ("犬が二匹走っている。", "number", "犬が三匹走っている。"),
        ("男の子が3人いる", "number", "男の子が4人いる"),
        ("女性が自転車に乗っている", "noun", "男性が自転車に乗っている"),
        ("黒い犬が白い犬と走っている", "swap", "白い犬が黒い犬と走っている"),
        ("木の下で眠っている", "relation", "木の上で眠っている"),
        ("犬が走っています。", "negation", "犬が走っていません。"),
        ("小さな家", "adjective", "大きな家"),
        ("nothing here applies", "noun", None),
    ],
)
def test_rules(caption: str, kind: str, expected: str | None) -> None:
    assert false_captions(caption).get(kind) == expected


def test_a_colour_becomes_one_that_the_caption_does_not_name() -> None:
    for caption in ("a red car by a blue wall", "A gray cat", "an orange and green kite", "白い犬", "緑の車"):
        wrong = false_captions(caption)["colour"]
        assert wrong != caption
        assert wrong == false_captions(caption)["colour"]
        assert "grey" not in wrong.split()
        assert "緑" not in wrong
    assert set(false_captions("Two young boys in red shirts are playing with a dog in front of a white tree")) == set(
        KINDS
    )


@pytest.mark.shared
def test_rules_apply_to_most_real_captions(shared_data: Path, flickr_captions: list[str]) -> None:
    made = [false_captions(caption) for caption in flickr_captions]
    assert np.mean([bool(found) for found in made]) > 0.95
    for caption, found in zip(flickr_captions, made, strict=True):
        for wrong in found.values():
            assert wrong != caption
            assert abs(len(wrong) - len(caption)) < 20


@pytest.fixture(scope="module")
def flickr_captions(shared_data: Path) -> list[str]:
    import tarfile

    with tarfile.open(shared_data / "flickr8k.tar") as tar:
        lines = tar.extractfile("flickr8k/dev/metadata.jsonl")
        assert lines
        return [caption for line in lines for caption in json.loads(line)["captions"]][:1000]


# ---- readers ---------------------------------------------------------------------------------------------------------


def test_aro_is_read_with_its_boxes(tmp_path: Path, plain: Path) -> None:
    row = {"image_path": "half.png", "true_caption": "a red square", "false_caption": "a blue square",
           "bbox_x": 0, "bbox_y": 80, "bbox_w": 80, "bbox_h": 80, "relation_name": "on"}  # fmt: skip
    (tmp_path / "aro.json").write_text(json.dumps([row]))
    (choice,) = read_aro(tmp_path / "aro.json", plain)
    assert choice.kind == "on"
    cut = Image.open(choice.picture.open("rb"))  # type: ignore[union-attr]
    assert cut.size == (80, 80)
    assert cut.getpixel((40, 40)) == (230, 20, 20)
    for side in (float("nan"), float("inf")):
        (tmp_path / "aro.json").write_text(json.dumps([row | {"bbox_w": side}]))
        with pytest.raises(DataError, match="sides are no numbers"):
            read_aro(tmp_path / "aro.json", plain)


def test_sugarcrepe_is_read_as_file_and_as_folder(tmp_path: Path, plain: Path) -> None:
    for name in ("add_obj", "swap_att"):
        rows = {"0": {"filename": "red.png", "caption": "red", "negative_caption": "blue"}}
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    assert [choice.kind for choice in read_sugarcrepe(tmp_path, plain)] == ["add_obj", "swap_att"]
    (choice,) = read_sugarcrepe(tmp_path / "add_obj.json", plain)
    assert (choice.right, choice.wrong, choice.family) == ("red", ("blue",), "add")
    (tmp_path / "add_obj.json").write_text('{"0": {"caption": "red"}}')
    with pytest.raises(DataError, match=r"add_obj\.json: a row has no 'filename'"):
        read_sugarcrepe(tmp_path, plain)
    with pytest.raises(DataError, match=r"no \.json"):
        read_sugarcrepe(plain, plain)


def test_sugarcrepe_is_reported_by_kind_family_and_mean(clip: Clip, tmp_path: Path, plain: Path) -> None:
    """The mean counts each kind once, however many choices it has; so does a family."""
    for name, count, right in (("add_obj", 30, 30), ("add_att", 60, 0), ("swap_obj", 40, 40), ("swap_att", 5, 0)):
        rows = {
            str(i): {"filename": "red.png", "caption": "red" if i < right else "blue", "negative_caption": f"x {i}"}
            for i in range(count)
        }
        for i, row in enumerate(rows.values()):
            row["negative_caption"] = "blue" if i < right else "red"
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    result = published(clip, tmp_path, plain)
    found = {name: figure.value for name, figure in result.figures.items()}
    assert next(iter(found)) == "mean_over_kinds"
    assert found["mean_over_kinds"] == pytest.approx(2 / 3)  # of three: five choices are too few
    assert found["add"] == pytest.approx(1 / 2)
    assert found["accuracy"] == pytest.approx(70 / 135)
    assert "swap" not in found
    assert "swap_att" not in found


def test_a_box_is_cut_to_its_picture(plain: Path) -> None:
    assert Image.open(Crop(plain / "half.png", (40, 100, 10**9, 10**9)).open()).size == (40, 60)


def test_published_tests_are_told_apart(clip: Clip, tmp_path: Path, plain: Path) -> None:
    row = {"image_path": "half.png", "true_caption": "a red square", "false_caption": "a blue square",
           "bbox_x": 0, "bbox_y": 80, "bbox_w": 80, "bbox_h": 80, "attributes": ["red", "blue"]}  # fmt: skip
    file = tmp_path / "visual_genome_attribution.json"
    file.write_text(json.dumps([row, {**row, "bbox_y": 0, "true_caption": "a blue square"}]))
    result = published(clip, file, plain)
    assert (result.n, result.data) == (2, "visual_genome_attribution")
    assert [r["kind"] for r in result.tables["kinds"]] == ["red and blue"]
    assert len(set(result.items["picture"].tolist())) == 2
    with pytest.raises(UsageError, match="--pictures"):
        published(clip, file, None)
    for change, said in (
        ({"image_path": "../secret.png"}, "outside"),
        ({"image_path": "/etc/secret.png"}, "outside"),
        ({"bbox_w": 0}, "holds nothing"),
        ({"bbox_x": 500}, "lies outside its 80 x 160 pixels"),
        ({"bbox_x": "left"}, "is 'left' in a row"),
        ({"true_caption": 3}, "is 3 in a row"),
    ):
        file.write_text(json.dumps([{**row, **change}]))
        with pytest.raises(DataError, match=said):
            published(clip, file, plain)


def test_winoground_is_read_and_scored(clip: Clip, tmp_path: Path, plain: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("red", "blue"):
        (tmp_path / "images" / f"{name}.png").write_bytes((plain / f"{name}.png").read_bytes())
    row = {"id": 0, "image_0": "red", "image_1": "blue", "caption_0": "the colour red", "caption_1": "the colour blue"}
    (tmp_path / "examples.jsonl").write_text(json.dumps(row) + "\n")
    result = score_twins(clip, read_winoground(tmp_path))
    assert {name: figure.value for name, figure in result.figures.items()} == {"text": 1, "image": 1, "group": 1}
    assert published(clip, tmp_path, None).figures == result.figures
    assert compare(result, result).n == 1
    with pytest.raises(DataError, match="cannot be read"):
        read_winoground(plain)


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_twin_scores_by_hand() -> None:
    cosines = np.array([[[3, 1], [2, 4]], [[3, 1], [4, 5]], [[3, 4], [1, 5]], [[1, 1], [1, 1]]])
    scores = twin_scores(cosines)
    assert scores["text"].tolist() == [True, True, False, False]
    assert scores["image"].tolist() == [True, False, True, False]
    assert scores["group"].tolist() == [True, False, False, False]


def test_random_twins_land_at_the_papers_chance() -> None:
    scores = twin_scores(np.random.default_rng(0).normal(size=(20_000, 2, 2)))
    for name, chance in (("text", 1 / 4), ("image", 1 / 4), ("group", 1 / 6)):
        assert scores[name].mean() == pytest.approx(chance, abs=0.01)


def test_composition_of_a_clip(clip: Clip, plain: Path) -> None:
    pictures = [CAT, plain / "red.png"]
    captions = ["a cat", "the cat is asleep", "red"]
    result = composition(clip, Captioned("plain", "dev", pictures, captions, np.array([0, 0, 1])))
    assert result.n == 5  # cat -> dog twice, two denials and a colour
    noun = next(row for row in result.tables["kinds"] if row["kind"] == "noun")
    assert (noun["n"], noun["accuracy"]) == (2, 1)
    np.testing.assert_array_equal(result.items["correct"], result.items["margin"] > 0)
    assert result.figures["accuracy"].interval
    assert any("50.0%" in note for note in result.notes)
    with pytest.raises(DataError, match="no caption has a word"):
        composition(clip, Captioned("plain", "dev", pictures, ["hello", "there"], np.array([0, 1])))


def test_equal_captions_are_no_right_answer_and_bad_pictures_are_left_out(clip: Clip, plain: Path) -> None:
    choices = [
        Choice(plain / "red.png", "red", ("red",), "same"),
        Choice(CAT, "a photo of a cat", ("a photo of a car", "a photo of a tree"), "of three"),
        Choice(plain / "absent.png", "red", ("blue",), "same"),
    ]
    result = score_choices(clip, choices, "made")
    assert result.items["correct"].tolist() == [False, True]
    assert result.items["choice"].tolist() == [0, 1]
    assert any("absent.png" in note for note in result.notes)
