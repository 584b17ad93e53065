"""The data check-up: planted faults are found and named, sound data pass, and the page is safe to open."""

from __future__ import annotations

import io
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import awase
from awase.cli import main
from awase.clip import Clip
from awase.datasets import Captioned, Labelled, checks
from awase.datasets.checks import Finding, Look, look_at, look_at_all, whole_of
from awase.datasets.checks.copies import pairs_above
from awase.datasets.checks.giveaways import guess_from
from awase.encoding.samples import sample_cuts
from awase.errors import PictureError, UsageError
from awase.evaluation import ridge as ridges
from awase.evaluation.checkup import check_data, checkup_page, open_whole
from awase.evaluation.checkup import checkup as listing
from awase.evaluation.checkup.alignment import centred_fit, check_alignment, nearest_wrong
from awase.evaluation.checkup.confusable import Judged, check_confusable
from awase.evaluation.checkup.near import check_near
from awase.evaluation.checkup.reading import check_reading_of_captions, check_reading_of_names
from awase.evaluation.checkup.suspects import check_odd, check_suspects
from awase.evaluation.checkup.turned import most_likely_turn
from awase.evaluation.checkup.wording import with_patterns
from references import tiny_hf_clip
from test_suite import make_data

EVERY_CHECK = {name for group in ("OF_PICTURES", "OF_CLASSES", "OF_SENTENCES", "BY_MODEL", "CLASSES_BY_MODEL",
                                  "SENTENCES_BY_MODEL") for name in getattr(listing, group)}  # fmt: skip


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


def picture(seed: int, width: int = 240, height: int = 192) -> Image.Image:
    """Clouds of its own for each seed."""
    cells = np.random.default_rng(seed).integers(0, 255, (12, 15, 3), np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str = "JPEG", **more: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **more)
    return content.getvalue()


def labelled(
    pictures: list[Any], targets: list[int], keys: tuple[str, ...], split: str = "train", **more: Any
) -> Labelled:
    return Labelled("made", split, pictures, np.array(targets), keys, {"en": keys}, **more)


def captioned(captions: list[str], column: str = "captions") -> Captioned:
    pictures = [saved(picture(i)) for i in range(len(captions))]
    return Captioned("told", "train", pictures, captions, np.arange(len(captions)), column)


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    assert {finding.check for finding in findings} <= EVERY_CHECK
    return {finding.check: finding for finding in findings}


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_faults_of_pictures() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    pictures = [
        saved(picture(0)),
        saved(picture(1), exif=exif),
        saved(picture(2, 20, 90)),
        saved(Image.new("RGB", (90, 90), "white")),
        b"no picture",
        saved(picture(3, 400, 50)),
        saved(picture(4, 60, 60)),
    ]
    whole = whole_of([labelled(pictures, [0, 1] * 3 + [0], ("a", "b"))])
    looks = look_at_all(whole.pictures)
    turned = looks[1]
    assert isinstance(turned, Look)
    assert (turned.width, turned.height, turned.orientation, turned.camera) == (192, 240, 6, "Maker")
    assert isinstance(looks[4], PictureError)
    found = by_check(checks.check_pictures(whole, looks, reads=224))
    places = {check: [e.pictures[0] for e in finding.examples] for check, finding in found.items()}
    assert places == {
        "unreadable pictures": [4],
        "pictures turned by EXIF": [1],
        "tiny pictures": [2],
        "pictures smaller than the model reads": [3, 5, 6],
        "near-blank pictures": [3],
        "very long pictures": [5, 2],
    }
    assert found["unreadable pictures"].severity == "serious"
    assert "known picture format" in found["unreadable pictures"].examples[0].says


@pytest.mark.parametrize("kind", ["anew", "half", "mirrored"])
def test_a_copy_by_looks_is_found_across_splits(kind: str) -> None:
    original = picture(1)
    again = {
        "anew": lambda: saved(original, quality=60),
        "half": lambda: saved(original.resize((120, 96))),
        "mirrored": lambda: saved(original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    }[kind]()
    train = labelled([saved(picture(seed), quality=95) for seed in range(8)], [0] * 8, ("a", "b"))
    test = labelled([saved(picture(20)), again], [0, 1], ("a", "b"), "test")
    whole = whole_of([train, test])
    copies = checks.find_copies(whole, look_at_all(whole.pictures))
    assert [pair[:2] for pair in copies.pairs] == [(1, 9)]
    found = by_check(checks.check_copies(whole, copies))
    assert set(found) == {"copies across splits", "one picture, two classes"}
    leak = found["copies across splits"]
    assert (leak.count, leak.of, leak.severity) == (1, 2, "serious")
    assert leak.examples[0].says.startswith("train and test: the same picture")


def test_equal_files_are_one_group_and_count_once_each() -> None:
    same = saved(picture(1))
    whole = whole_of([labelled([same, saved(picture(2)), same, same], [0, 1, 0, 0], ("a", "b"))])
    copies = checks.find_copies(whole, look_at_all(whole.pictures))
    assert copies.groups() == [[0, 2, 3]]
    found = by_check(checks.check_copies(whole, copies))
    assert list(found) == ["copies within a split"]
    assert found["copies within a split"].count == 2


def test_a_series_of_like_pictures_is_no_copy() -> None:
    """Products before one wall: of one shape and colour, each with marks of its own."""
    pictures, chance = [], np.random.default_rng(0)
    for _ in range(8):
        canvas = np.full((128, 128, 3), 250, np.uint8)
        canvas[40:90, 30:100] = 60
        canvas[44:84, 36:96] = np.kron(chance.integers(40, 130, (10, 15)), np.ones((4, 4)))[..., None]
        pictures.append(canvas)
    whole = whole_of([labelled(pictures, [0] * 8, ("a", "b"))])
    assert checks.find_copies(whole, look_at_all(pictures)).pairs == ()


def test_pairs_above_are_those_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(37, 5)).astype(np.float32)
    monkeypatch.setattr("awase.datasets.checks.copies.NUMBERS_AT_ONCE", 100)
    found = {(a, b) for i, j in pairs_above(rows, 1.0) for a, b in zip(i.tolist(), j.tolist(), strict=True)}
    assert found == {(a, b) for a, b in combinations(range(37), 2) if rows[a] @ rows[b] >= 1.0}


def test_splits_must_have_the_same_classes() -> None:
    one = labelled([picture(0)], [0], ("a", "b"))
    with pytest.raises(UsageError, match="different classes"):
        whole_of([one, labelled([picture(0)], [0], ("a", "c"), "test")])
    with pytest.raises(UsageError, match="no split"):
        whole_of([])


# ---- classes ---------------------------------------------------------------------------------------------------------


def test_counts_of_classes() -> None:
    train = labelled([picture(0)] * 27, [0] * 20 + [1] * 5 + [2] * 2, ("a", "b", "c", "d", "e"))
    test = labelled([picture(0)] * 3, [0, 0, 3], ("a", "b", "c", "d", "e"), "test")
    found = by_check(checks.check_labels(whole_of([train, test])))
    assert "10 times" in found["uneven classes"].says
    assert found["uneven classes"].severity == "notable"
    assert found["uneven classes"].rows[0] == {"class": "e", "train": 0, "test": 0}
    assert "c (2)" in found["classes with too few pictures"].says
    assert found["classes without a picture"].count == 1
    assert "b, c" in found["classes absent from a split"].says


def test_equal_names_are_told() -> None:
    data = Labelled("made", "train", [picture(0)] * 2, np.array([0, 1]), ("a", "b"), {"en": ("Crane", "crane ")})
    assert by_check(checks.check_labels(whole_of([data])))["classes with one name"].count == 2


def test_a_class_is_betrayed_by_its_files() -> None:
    pictures = [saved(picture(i), "PNG") for i in range(10)] + [saved(picture(i, 100, 130)) for i in range(10, 20)]
    whole = whole_of([labelled(pictures, [0] * 10 + [1] * 10, ("a", "b"))])
    found = by_check(checks.check_giveaways(whole, look_at_all(pictures)))
    assert found["classes betrayed by their files"].severity == "serious"
    told = {(row["class"], row["what"], row["value"]) for row in found["classes that share a look"].rows}
    assert {("a", "format", "PNG"), ("b", "format", "JPEG"), ("a", "shape", "wide"), ("b", "size", "100 x 130")} <= told


def test_nothing_is_betrayed_by_chance() -> None:
    chance = np.random.default_rng(0)
    pictures = [saved(picture(i, int(chance.integers(90, 110)))) for i in range(40)]
    whole = whole_of([labelled(pictures, chance.integers(0, 2, 40).tolist(), ("a", "b"))])
    assert checks.check_giveaways(whole, look_at_all(pictures)) == []


def test_groups_that_go_along_with_a_class() -> None:
    groups = {"site": tuple(["north"] * 10 + ["south"] * 10), "day": tuple("12" * 10)}
    whole = whole_of([labelled([picture(i) for i in range(20)], [0] * 10 + [1] * 10, ("a", "b"), groups=groups)])
    found = by_check(checks.check_giveaways(whole, look_at_all(whole.pictures)))["groups that go along with a class"]
    assert {(row["class"], row["what"], row["value"]) for row in found.rows} == {
        ("a", "site", "north"),
        ("b", "site", "south"),
    }


def test_the_guess_from_attributes_leaves_the_picture_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("awase.datasets.checks.giveaways.NUMBERS_AT_ONCE", 10)
    chance = np.random.default_rng(1)
    classes, values = chance.integers(0, 3, 30), {name: chance.integers(0, 4, 30).astype(str) for name in "xy"}
    kinds = {name: len(set(told)) for name, told in values.items()}
    expected = []
    for i in range(30):
        others = np.arange(30) != i
        scores = np.zeros(3)
        for c in range(3):
            mine = others & (classes == c)
            scores[c] = np.log(mine.sum() + 1)
            for name, told in values.items():
                scores[c] += np.log(((told[mine] == told[i]).sum() + 1) / (mine.sum() + kinds[name]))
        expected.append(scores.argmax())
    assert guess_from(values, classes, 3).tolist() == expected  # type: ignore[arg-type]


# ---- sentences -------------------------------------------------------------------------------------------------------


def test_faults_of_captions() -> None:
    captions = ["dog", "a brown dog sitting on the lawn and looking this way", "A dog.", "a dog", "IMG_1234.jpg",
                "https://example.com/x", "<b>two cats on a sofa</b> by the window", "собака лежит на траве у дома",
                "芝生の上に座っている茶色い犬がこちらを見ている"]  # fmt: skip
    data = captioned(captions)
    silent = Captioned("told", "dev", [picture(99)] * 2, ["a long enough caption here"], np.array([0]))
    found = by_check(checks.check_captions(whole_of([data, silent])))
    assert {e.says for e in found["short captions"].examples} >= {"dog", "A dog.", "a dog"}
    assert "a brown dog sitting on the lawn" in found["short captions"].remedy
    assert found["repeated captions"].count == 2
    assert {e.pictures for e in found["mixed languages"].examples} == {(7,), (8,)}
    assert [e.says.split(":")[0] for e in found["captions that are no sentences"].examples] == [
        "the name of a file", "an address", "markup"]  # fmt: skip
    assert [e.pictures for e in found["pictures without a caption"].examples] == [(10,)]


def test_japanese_captions_are_counted_in_characters() -> None:
    data = captioned(
        ["犬", "茶色い犬", "芝生に座ってこちらを見ている茶色い犬", "a dog that is out of place"], "captions_ja"
    )
    found = by_check(checks.check_captions(whole_of([data])))
    assert [e.says for e in found["short captions"].examples] == ["犬", "茶色い犬"]
    assert [e.pictures for e in found["mixed languages"].examples] == [(3,)]


def test_captions_past_the_context_say_where_reading_ends(clip: Clip) -> None:
    long = "a brown dog " + "and another dog " * 80 + "beside a zebra"
    whole = whole_of([captioned(["a short caption of a dog", long])])
    found = by_check(check_reading_of_captions(clip, whole))["captions past the context"]
    assert found.count == 1
    read, unread = found.examples[0].says.split(" ‖ not read: ")
    assert unread
    assert not clip.tokenizer([long[: long.index(read) + len(read)]]).cut


# ---- with vectors ----------------------------------------------------------------------------------------------------


def test_leaving_out_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    chance = np.random.default_rng(0)
    rows, targets = chance.normal(size=(30, 6)), np.tile(np.arange(3), 10)
    monkeypatch.setattr(ridges, "STRENGTHS", np.array([0.3]))
    monkeypatch.setattr(ridges, "SCALES", (4.0,))
    found = ridges.fit_ridge(rows, targets, 3)
    strength = 0.3 * np.linalg.svd(rows - rows.mean(0), compute_uv=False)[0] ** 2 / 30
    wanted = np.eye(3)[targets]
    for i in range(30):
        others = np.arange(30) != i
        model = linear.Ridge(alpha=strength).fit(rows[others], wanted[others])
        raised = np.exp(4 * (model.predict(rows[i : i + 1])[0] - wanted.mean(0)))
        assert found.left_out[i] == pytest.approx(raised / raised.sum(), abs=1e-9)
    model = linear.Ridge(alpha=strength).fit(rows, wanted)
    raised = np.exp(4 * (model.predict(rows) - wanted.mean(0)))
    assert found.probabilities(rows) == pytest.approx(raised / raised.sum(1, keepdims=True), abs=1e-9)


def clustered(seed: int = 0, each: int = 20, width: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, classes, class vectors) of four well separated classes, of unit length."""
    chance = np.random.default_rng(seed)
    middles, classes = chance.normal(size=(4, width)), np.repeat(np.arange(4), each)
    rows = middles[classes] + 0.4 * chance.normal(size=(len(classes), width))
    return unit(rows), classes, unit(middles)


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def whole_with(classes: np.ndarray, keys: tuple[str, ...] = ("a", "b", "c", "d")) -> checks.Whole:
    return whole_of([labelled([f"{i}.jpg" for i in range(len(classes))], classes.tolist(), keys)])


def test_planted_labels_are_the_suspects() -> None:
    rows, classes, _ = clustered()
    planted = {3: 2, 30: 0, 77: 1}
    told = classes.copy()
    told[list(planted)] = list(planted.values())
    whole = whole_with(told)
    found = check_suspects(whole, np.arange(80), rows, ridges.fit_ridge(rows, told, 4).left_out)
    examples = by_check(found)["labels to look at"].examples
    assert {e.pictures[0] for e in examples} == set(planted)
    assert all(classes[e.pictures[1]] == classes[e.pictures[0]] for e in examples)  # shown beside its true like
    assert check_suspects(whole_with(classes), np.arange(80), rows, ridges.fit_ridge(rows, classes, 4).left_out) == []


def test_a_picture_unlike_its_class_is_odd() -> None:
    rows, classes, weights = clustered()
    rows[5] = unit(-rows[5] + 0.1)
    found = by_check(check_odd(whole_with(classes), np.arange(80), rows, weights))["alignment outliers"]
    assert found.examples[0].pictures == (5,)


def test_words_or_looks_are_blamed_and_a_better_name_is_found() -> None:
    rows, classes, weights = clustered()
    names = ("a", "b", "c", "d")
    bad = weights.copy()
    bad[1] = unit(weights[0] + 0.05 * weights[1])  # b's name says nearly what a's does
    judged = Judged(np.arange(80), classes, names, rows @ bad.T, ridges.fit_ridge(rows, classes, 4).left_out)
    asked = []

    def renamed(label: int) -> list[tuple[str, np.ndarray]]:
        asked.append(label)
        return [("better", rows @ weights[label])] if label == 1 else []

    found = by_check(check_confusable(whole_with(classes), judged, renamed))
    row = found["confusable classes"].rows[0]
    assert "b" in (row["class"], row["taken for"])
    assert row["to blame"] == "the words"
    assert row["try"].startswith("b → better")
    assert row["by their pictures"] == 0
    assert 1 in asked


def test_near_copies_leave_out_what_is_known() -> None:
    rows, classes, _ = clustered()
    rows[60], rows[61] = rows[0], rows[1]
    train, test = classes[:60].tolist(), classes[60:].tolist()
    keys = ("a", "b", "c", "d")
    whole = whole_of([labelled(list(range(60)), train, keys), labelled(list(range(20)), test, keys, "test")])
    known = checks.Copies(((1, 61, "the same file"),))
    found = by_check(check_near(whole, np.arange(80), rows, 0.9999, known))
    assert [e.pictures for e in found["near copies across splits"].examples] == [(0, 60)]


def test_fit_and_hard_negatives_equal_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("awase.evaluation.checkup.alignment.NUMBERS_AT_ONCE", 50)
    chance = np.random.default_rng(0)
    rows, sentences, owners = (
        unit(chance.normal(size=(9, 6))),
        unit(chance.normal(size=(20, 6))),
        chance.integers(0, 9, 20),
    )
    grid = rows.astype(np.float64) @ sentences.T
    centred = grid - grid.mean(0) - grid.mean(1, keepdims=True) + grid.mean()
    fit, usual = centred_fit(rows, sentences, owners)
    assert fit == pytest.approx(centred[owners, np.arange(20)], abs=1e-6)
    assert usual == pytest.approx(np.median(centred), abs=1e-6)
    nearest, margin = nearest_wrong(rows, sentences, owners)
    for m in range(20):
        others = [p for p in range(9) if p != owners[m]]
        assert nearest[m] == others[int(np.argmax(grid[others, m]))]
        assert margin[m] == pytest.approx(grid[nearest[m], m] - grid[owners[m], m], abs=1e-6)


def test_exchanged_captions_are_outliers() -> None:
    rows, _, _ = clustered(each=10)
    sentences, owners = rows.copy(), np.arange(40)
    owners[[0, 39]] = owners[[39, 0]]
    data = Captioned("told", "train", [f"{i}.jpg" for i in range(40)], [f"caption {i}" for i in range(40)], owners)
    found = by_check(check_alignment(whole_of([data]), np.arange(40), rows, sentences))
    assert {e.pictures for e in found["alignment outliers"].examples} >= {(0,), (39,)}
    assert {frozenset(e.pictures) for e in found["hard negatives"].examples} >= {frozenset((0, 39))}


def test_four_turns_together_say_how_a_picture_lies() -> None:
    judged = np.full((3, 4, 4), 0.1)
    for turn in range(4):
        judged[0, turn, turn] = 0.7  # upright in all four turns
        judged[1, turn, (turn + 2) % 4] = 0.7  # upside down in all four
        judged[2, turn, turn if turn < 3 else 0] = 0.7
    assert most_likely_turn(judged).tolist() == [0, 2, 0]


@pytest.mark.parametrize(("name", "trouble"), [("n02123045", "WordNet"), ("3", "number"), ("long_sleeve", "underscore"),
                                               ("longSleeve", "run together"), ("SUV", "abbreviation")])  # fmt: skip
def test_names_that_are_codes(clip: Clip, name: str, trouble: str) -> None:
    found = by_check(check_reading_of_names(clip, ["x", "y"], [name, "a tabby cat"], "en"))["names that are read badly"]
    assert [row["name"] for row in found.rows] == [name]
    assert trouble in found.rows[0]["trouble"]


def test_sound_names_pass(clip: Clip) -> None:
    assert check_reading_of_names(clip, ["x", "y"], ["a fire hydrant", "hovercraft"], "en") == []
    assert check_reading_of_names(clip, ["x", "y"], ["三毛猫", "ラーメン"], "ja") == []
    assert by_check(check_reading_of_names(clip, ["x"], ["chat noir"], "fr"))["names in a language of no training"]


def test_a_short_caption_is_shown_beside_a_fuller_one_in_its_language() -> None:
    captions = ["dog", "a brown dog sitting on the lawn", "a white rocket on its way", "犬", "芝生に座っている茶色い犬"]
    whole = whole_of([captioned(captions)])
    vectors = unit(np.array([[3, 1, 0], [3, 1, 0.2], [0, 1, 3], [3, 1, 0], [1, 0, 1]], float))
    finding = by_check(checks.check_captions(whole))["short captions"]
    found = with_patterns(finding, whole, np.arange(5), vectors, vectors)
    assert {e.pictures[0]: e.says for e in found.examples} == {
        0: "dog → as full as: a brown dog sitting on the lawn",
        3: "犬 → as full as: 芝生に座っている茶色い犬",
    }
    assert with_patterns(finding, whole, np.arange(1, 3), vectors[1:3], vectors).examples == finding.examples


# ---- the whole -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def test_a_set_with_a_leak_through_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaked = next((data / "things" / "train" / "coffee").iterdir())
    copy = data / "things" / "test" / "rocket" / "copy.png"
    Image.open(leaked).save(copy)
    page = tmp_path / "report.html"
    try:
        assert main(["data", "check", str(data / "things"), "--json", "--html", str(page)]) == 0
    finally:
        copy.unlink()
    told = json.loads(capsys.readouterr().out)
    found = {finding["check"]: finding for finding in told["findings"]}
    assert told["splits"] == {"test": 7, "train": 18}
    assert found["copies across splits"]["severity"] == told["findings"][0]["severity"] == "serious"
    pairs = [{name.split("/")[-1] for name in e["pictures"]} for e in found["copies across splits"]["examples"]]
    assert {leaked.name, "copy.png"} in pairs
    assert set(found) | set(told["clean"]) | {entry["check"] for entry in told["skipped"]} >= set(listing.OF_PICTURES)
    assert {"pictures that look turned"} <= {entry["check"] for entry in told["skipped"]}
    html = page.read_text()
    assert html.count("<img") >= 2
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_sentences_through_the_command(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(data / "told"), "--captions", "captions_ja", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["captions"] == 24
    assert "repeated captions" in {finding["check"] for finding in told["findings"]}
    assert main(["data", "check", str(data / "told")]) == 0
    assert "captions" in capsys.readouterr().out


def test_what_was_found_is_shown_even_where_the_page_cannot_be_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(data / "things"), "--no-model", "--html", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert "things: 24 pictures" in told.out
    assert "cannot be written" in told.err


def test_an_empty_table_is_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.csv").write_text("")
    assert main(["data", "check", str(tmp_path / "mine.csv"), "--no-model"]) == 2
    assert "mine is empty" in capsys.readouterr().err


def test_nothing_readable_is_exit_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            (tmp_path / split / label / "x.jpg").write_bytes(b"no picture at all, but text")
    assert main(["data", "check", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["findings"][0]["check"] == "unreadable pictures"
    assert told["skipped"][0]["why"] == "fewer than two pictures can be read"
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 2


def test_without_a_model_nothing_is_loaded(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("awase.cli.data.open_clip", None)
    assert main(["data", "check", str(data / "things"), "--no-model", "--split", "train"]) == 0
    out = capsys.readouterr()
    assert "train 18" in out.out
    assert "needs a model" in out.err


def test_names_from_strangers_are_words_on_the_page(clip: Clip) -> None:
    keys = ("<script>alert(1)</script>", '"><img src=x>')
    cuts = [np.asarray(cut.resize((64, 64))) for cut in sample_cuts()]
    data = labelled([cuts[i] for i in (0, 8, 9, 10, 1, 8)], [0, 0, 1, 1, 1, 1], keys)
    html = checkup_page(check_data([data], clip))
    assert "<script" not in html
    assert "<img src=x>" not in html
    assert "&lt;script&gt;" in html


def test_every_split_is_opened_unless_one_is_asked_for(data: Path) -> None:
    assert [part.split for part in open_whole(str(data / "things"))] == ["test", "train"]
    assert [part.split for part in open_whole(str(data / "things"), "train")] == ["train"]
    assert isinstance(open_whole(str(data / "told"))[0], Captioned)


def test_a_folder_of_pictures_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in (1, 2, 3):
        (tmp_path / f"{i}.jpg").write_bytes(saved(picture(i % 2)))
    assert main(["data", "check", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["splits"], told["classes"], told["captions"]) == ({"all": 3}, None, None)
    assert "copies within a split" in {finding["check"] for finding in told["findings"]}
    assert "short captions" not in told["clean"]
    assert main(["data", "check", str(tmp_path), "--captions", "captions"]) == 2


def test_pictures_of_several_classes_are_checked_too(clip: Clip) -> None:
    pictures = [np.asarray(cut.resize((64, 64))) for cut in sample_cuts()[:6]]
    several = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]], bool)
    found = check_data([Labelled("made", "train", pictures, several, ("a", "b", "c"), {"en": ("a", "b", "c")})], clip)
    assert ("labels to look at", "pictures may have several classes") in found.skipped
    assert "classes without a picture" in {finding.check for finding in found.findings}
    assert found.to_json()["classes"] == 3


@pytest.mark.parametrize("kind", ["classes", "sentences"])
def test_a_model_of_another_family(kind: str, data: Path, tmp_path: Path) -> None:
    tiny_hf_clip(tmp_path / "clip")
    parts = open_whole(str(data / ("things" if kind == "classes" else "told")))
    found = check_data(parts, awase.load(tmp_path / "clip"))
    assert by_check(list(found.findings))
    assert json.dumps(found.to_json())


def test_a_look_needs_no_header() -> None:
    look = look_at(np.zeros((40, 50, 3), np.uint8))
    assert (look.width, look.height, look.format, look.border) == (50, 40, "", "black")
