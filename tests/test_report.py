"""Run folders, charts and pages: whole, true to the figures, and safe whatever classes and files are called."""

from __future__ import annotations

import csv
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from awase.errors import DataError, UsageError
from awase.evaluation import plots
from awase.evaluation.comparison_report import write_comparison
from awase.evaluation.markup import text
from awase.evaluation.matching import compare_runs
from awase.evaluation.report import grouped
from awase.evaluation.results import Figure, Result
from awase.evaluation.runs import as_csv, key_of, open_run, read_run, slug, thumbnail
from awase.evaluation.summary import headlines, mean_figure, on_shared_sets
from awase.evaluation.words import word_for, written, written_interval
from hostile import make_hostile, photograph

STAMP = {"name": "m", "fingerprint": "f" * 64, "engine": "onnxruntime", "precision": "fp32"}
SCRIPT = "<script>alert(1)</script>"
HOSTILE = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></details><iframe src=https://example.com>",
    "a\x00b\x1b[31mc\ud800\u202egnp.exe",
    "javascript:alert(1)",
    "&lt;b&gt; & <b>猫</b>",
]


def result(correct: np.ndarray, data: str = "pets", language: str = "en", **changes: Any) -> Result:
    n = len(correct)
    value = float(correct.mean())
    given: dict[str, Any] = {
        "task": "zero-shot",
        "data": data,
        "split": "test",
        "model": "m",
        "n": n,
        "figures": {"top1": Figure(value, (max(0, value - 0.1), min(1, value + 0.1)), n)},
        "settings": {"language": language, "classes": 4, "metric": "top1"},
        "items": {"correct": correct, "picture": np.arange(n)},
        "provenance": {"data": {"sha256": f"hash of {data}"}, "date": "2026-01-01", "command": "awase evaluate"},
    }
    return Result(**given | changes)


def outcomes(seed: int, share: float, n: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < share


def hostile_result(folder: Path) -> Result:
    """Strangers' words in every place that a result has for words."""
    folder.mkdir()
    pictures = [*make_hostile(folder)[:4], folder / f"{SCRIPT.replace('/', '_')}.jpg"]
    photograph().save(pictures[-1])
    word = " ".join(HOSTILE)
    return result(
        outcomes(0, 0.5),
        data=HOSTILE[1],
        split=HOSTILE[2],
        model=SCRIPT,
        figures={"top1": Figure(0.5, (0.4, 0.6), 200), SCRIPT: Figure(math.nan, None, 3)},
        tables={SCRIPT: [{"class": name, name: 0.5, "low": 0.4, "high": 0.6} for name in HOSTILE]},
        examples=[{"picture": p, "true": HOSTILE[i], HOSTILE[i]: word} for i, p in enumerate(pictures)],
        notes=HOSTILE,
        provenance={"command": word, SCRIPT: {HOSTILE[1]: HOSTILE}},
    )


class Reader(HTMLParser):
    """What a browser would find: elements, their attributes, and the words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def check_is_inert(page: str) -> Reader:
    """No element runs or loads anything, and what links do is move within the page."""
    found = Reader(page)
    assert not {tag for tag, _ in found.elements} & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "form",
        "b2",
    }
    for tag, attributes in found.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "srcset", "action", "data", "xlink:href"):
                assert value
                assert value.startswith("#" if tag == "a" else "data:image/jpeg;base64,"), (tag, value)
    assert "url(" not in page
    assert "@import" not in page
    return found


# ---- hostile words ---------------------------------------------------------------------------------------------------


def test_names_from_strangers_stay_words(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", STAMP)
    hostile = hostile_result(tmp_path / "pictures")
    run.add(key_of(hostile), hostile)
    page = run.finish().read_text("utf-8")
    found = check_is_inert(page)
    assert SCRIPT in found.words  # shown, as words
    assert "\ud800" not in found.words
    assert "\u202e" not in found.words
    policies = [a for tag, a in found.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0]["content"].startswith("default-src 'none'")
    images = [attributes for tag, attributes in found.elements if tag == "img"]
    assert len(images) == 1  # hostile files have none
    assert found.words.count("no picture") == 4
    assert all(path.parent.resolve() == (tmp_path / "run" / "plots").resolve() for path in run.folder.rglob("*.svg"))
    for path in run.folder.rglob("*.svg"):
        tree = ElementTree.fromstring(path.read_text("utf-8"))
        assert not [element for element in tree.iter() if element.tag.endswith("script")]


def test_a_thumbnail_carries_nothing_of_the_file(tmp_path: Path) -> None:
    image = photograph(900, 600)
    exif = Image.Exif()
    exif[0x010E] = SCRIPT  # description
    image.save(tmp_path / "a.jpg", exif=exif, comment=SCRIPT.encode(), icc_profile=b"profile " + SCRIPT.encode())
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + SCRIPT.encode())
    assert SCRIPT.encode() in (tmp_path / "a.jpg").read_bytes()
    for name in ("a.jpg", "b.jpg"):
        content = thumbnail(tmp_path / name)
        assert b"script" not in content
        assert b"Exif" not in content
        assert len(content) < 20_000


def test_only_what_a_run_writes_is_taken_into_its_page(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", STAMP)
    photograph().save(tmp_path / "a.jpg")
    run.add("one", result(outcomes(0, 0.5), examples=[{"picture": tmp_path / "a.jpg"}] * 3))
    pieces = run.folder / "pieces" / "one.json"
    piece = json.loads(pieces.read_text())
    (run.folder / "pictures" / "0123456789abcdef.jpg").write_bytes(b"<svg onload=alert(1)>")
    piece["examples"][0]["thumbnail"] = "../run.json"
    piece["examples"][1]["thumbnail"] = "0123456789abcdef.jpg"
    pieces.write_text(json.dumps(piece))
    found = check_is_inert(run.finish().read_text("utf-8"))
    assert found.words.count("no picture") == 2
    assert sum(tag == "img" for tag, _ in found.elements) == 1


def test_a_table_holds_no_formulas() -> None:
    rows = as_csv([{"class": "=HYPERLINK(1)", "n": -3}, {"class": "@SUM", "n": 2}, {"class": "cat, 猫", "n": math.nan}])
    read = list(csv.DictReader(rows.decode().splitlines()))
    assert [row["class"] for row in read] == ["'=HYPERLINK(1)", "'@SUM", "cat, 猫"]
    assert [row["n"] for row in read] == ["-3", "2", ""]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "猫", "", ".", "x" * 300, "con:", "-rf"])
def test_a_slug_is_a_plain_file_name(name: str) -> None:
    found = slug(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}", found)
    assert slug(found) == found
    assert slug(name + " ") != found


# ---- run folders -----------------------------------------------------------------------------------------------------


def test_a_run_is_read_back_as_it_was(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", STAMP)
    photograph().save(tmp_path / "a.jpg")
    given = result(
        outcomes(0, 0.6),
        figures={"top1": Figure(0.6, (0.5, 0.7), 200), "nll": Figure(math.nan, None, 0)},
        items={"correct": outcomes(0, 0.6), "name": np.array(["a", "猫"], dtype=object)},
        tables={"classes": [{"class": "猫", "n": np.int64(3), "top1": np.float32(0.5)}]},
        examples=[{"picture": tmp_path / "a.jpg", "true": "cat", "probability": 0.9}],
        notes=["one"],
    )
    run.add(key_of(given), given)
    run.finish()
    (read,) = read_run(tmp_path / "run")
    assert read.figures["top1"] == given.figures["top1"]
    assert math.isnan(read.figures["nll"].value)
    assert (read.task, read.data, read.n, read.notes) == ("zero-shot", "pets", 200, ["one"])
    np.testing.assert_array_equal(read.items["correct"], given.items["correct"])
    assert list(read.items["name"]) == ["a", "猫"]
    assert read.tables == {"classes": [{"class": "猫", "n": 3, "top1": 0.5}]}
    assert read.examples[0]["picture"] == f"{tmp_path.name}/a.jpg"
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["schema"] == 1
    assert found["results"][0]["metrics"] == {"top1": 0.6, "nll": None}
    assert found["results"][0]["intervals"] == {"top1": [0.5, 0.7]}
    figures = list(csv.DictReader((tmp_path / "run" / "tables" / "figures.csv").read_text().splitlines()))
    assert [(row["figure"], row["low"], row["n"]) for row in figures] == [("top1", "0.5", "200"), ("nll", "", "0")]


def test_days_and_durations_stand_in_the_log_alone(tmp_path: Path) -> None:
    contents = []
    for day, seconds in (("2026-01-01", 1.0), ("2026-01-02", 2.0)):
        run = open_run(tmp_path / day, STAMP)
        given = result(outcomes(0, 0.6))
        given.provenance["date"] = day  # type: ignore[index]
        run.add("one", given, seconds=seconds)
        run.finish()
        assert given.provenance["date"] == day  # what was given is left as it is
        contents.append((run.folder / "results.json").read_bytes())
        assert json.loads((run.folder / "log.jsonl").read_text())["date"] == day
    assert contents[0] == contents[1]


def test_a_folder_holds_results_of_one_model(tmp_path: Path) -> None:
    open_run(tmp_path / "run", STAMP)
    open_run(tmp_path / "run", STAMP)
    with pytest.raises(UsageError, match="another folder"):
        open_run(tmp_path / "run", STAMP | {"precision": "int8"})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not empty"):
        open_run(tmp_path / "other", STAMP)
    with pytest.raises(UsageError, match="is a file"):
        open_run(tmp_path / "other" / "letter.txt", STAMP)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("run.json", '{"schema": 1, "model": 3}', "names no model"),
        ("run.json", "[" * 100_000, "cannot be read"),
        ("pieces/KEY.json", "{}", "'task' is not there"),
        ("pieces/KEY.json", "{", "cannot be read"),
    ],
)
def test_damage_to_a_run_is_said(file: str, content: str, said: str, tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", {"name": "m"})
    (tmp_path / "run" / "pieces").mkdir()
    (tmp_path / "run" / file).write_text(content)
    with pytest.raises(DataError, match=said):
        open_run(run.folder, {"name": "m"}).finish()


def test_what_is_no_finished_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run folder"):
        read_run(tmp_path)
    run = open_run(tmp_path / "run", STAMP)
    with pytest.raises(DataError, match="not finished"):
        read_run(run.folder)
    run.add("one", result(outcomes(0, 0.5)))
    run.finish()
    results = run.folder / "results.json"
    whole = results.read_text()
    results.write_text(whole.replace('"schema": 1', '"schema": 99', 1))
    with pytest.raises(DataError, match="update awase"):
        read_run(run.folder)
    results.write_text(whole.replace('"metrics"', '"metric"'))
    with pytest.raises(DataError, match="damaged"):
        read_run(run.folder)
    results.write_text(whole[:100])
    with pytest.raises(DataError, match="cannot be read"):
        read_run(run.folder)
    results.write_text(whole)
    (run.folder / "items" / "one.npz").write_bytes(b"no")
    with pytest.raises(DataError, match="outcome"):
        read_run(run.folder)


# ---- words, means and charts -----------------------------------------------------------------------------------------


def test_every_figure_on_a_page_has_its_interval_and_n(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", STAMP)
    for place, (data, language) in enumerate([("pets", "en"), ("pets", "ja"), ("cars", "en")]):
        one = result(outcomes(place, 0.3 + 0.2 * place, n=100 + place), data, language)
        run.add(key_of(one), one)
    words = Reader(run.finish().read_text("utf-8")).words
    for one in read_run(run.folder):
        figure = one.figures["top1"]
        assert written(figure.value) in words
        assert written_interval(figure.interval) in words
        assert f"n = {figure.n}" in words
    assert "English and Japanese" in words
    assert "hash of pets" in words
    assert "awase evaluate" in words


def test_the_mean_over_sets_is_as_sure_as_its_parts() -> None:
    ten = [Figure(0.5, (0.4, 0.6), 50)] * 10
    found = mean_figure(ten)
    assert found.n == 500
    assert found.interval == pytest.approx((0.5 - 0.1 / math.sqrt(10), 0.5 + 0.1 / math.sqrt(10)))
    assert mean_figure([Figure(0.5, (0.4, 0.8), 1), Figure(0.7, (0.6, 0.8), 1)]).interval == pytest.approx(
        (0.6 - math.hypot(0.1, 0.1) / 2, 0.6 + math.hypot(0.3, 0.1) / 2)
    )
    assert mean_figure([Figure(0.5, None, 1)]).interval is None


def test_means_over_sets_cover_the_truth() -> None:
    """5 sets of 30 pictures, Wilson's intervals: the mean's interval holds the true mean 93 to 98 % of the time."""
    from awase.evaluation.intervals import proportion

    rng, truth = np.random.default_rng(0), np.array([0.5, 0.7, 0.9, 0.95, 0.6])
    inside = 0
    for _ in range(1000):
        hits = rng.binomial(30, truth)
        interval = mean_figure([Figure(k / 30, proportion(int(k), 30), 30) for k in hits]).interval
        assert interval
        inside += interval[0] <= truth.mean() <= interval[1]
    assert 930 <= inside <= 980


def test_headlines_keep_languages_apart() -> None:
    found = headlines([result(outcomes(0, 0.5), data, language) for data in "ab" for language in ("en", "ja")])
    assert [(one.task, one.variant, one.sets, one.figure.n) for one in found] == [
        ("zero-shot", "English", 2, 400),
        ("zero-shot", "Japanese", 2, 400),
    ]


def in_words(seed: int, share: float, templates: str, data: str = "pets", task: str = "zero-shot") -> Result:
    settings = {"language": "en", "metric": "top1", "templates": templates}
    return result(outcomes(seed, share), data, task=task, settings=settings)


def test_a_set_in_two_templates_counts_once_in_each() -> None:
    given = [in_words(0, 0.5, "ensemble", "a"), in_words(1, 0.9, "simple", "a"), in_words(2, 0.7, "simple", "b")]
    assert [(one.variant, one.sets) for one in headlines(given)] == [("English, ensemble", 1), ("English, simple", 2)]
    (tasks,) = grouped([given[0], given[1], given[0]]).values()
    assert list(tasks["zero-shot"]) == ["English, ensemble", "English, ensemble, 2", "English, simple"]
    twice = headlines([given[0], given[0]])
    assert [(one.variant, one.sets) for one in twice] == [("English, ensemble", 1), ("English, ensemble, 2", 1)]


def test_languages_with_different_sets_are_laid_side_by_side_on_the_shared_ones() -> None:
    everywhere = [result(outcomes(0, 0.5), "a"), result(outcomes(0, 0.9), "b"), result(outcomes(1, 0.5), "a", "ja")]
    assert [(one.variant, one.sets) for one in headlines(everywhere)] == [("English", 2), ("Japanese", 1)]
    assert [(one.variant, one.sets) for one in on_shared_sets(everywhere)] == [("English", 1), ("Japanese", 1)]
    assert on_shared_sets(everywhere)[0].figure.value == everywhere[0].figures["top1"].value
    assert on_shared_sets([everywhere[0], everywhere[2]]) == []  # nothing to set right


def test_names_of_figures() -> None:
    assert word_for("text_to_image_r5").name == "Sentence → picture, R@5"
    assert word_for("top1_4_shot").name == "Top-1 accuracy, 4 shots"
    assert word_for("ece_scaled").name == "Expected calibration error, temperature scaled"
    assert not word_for("image_to_text_median_rank").share
    assert word_for("never_heard_of").name == "Never heard of"
    assert written(0.12345) == "12.3 %"
    assert written(math.nan) == "–"
    assert written(-0.5, share=False) == "−0.5"
    assert written_interval((-0.02, 0.01)) == "−2.0 to 1.0 %"


def test_charts_are_sound_and_stay_inside(tmp_path: Path) -> None:
    marks = [plots.Mark(0.9, (0.8, 1.0)), plots.Mark(math.nan), plots.Mark(0.1, (-0.2, 0.3), "s1", says=SCRIPT)]
    rows = [plots.Row(SCRIPT, marks, chance=0.25, n=3)]
    square = [
        plots.reliability([plots.Bin(0.4, 0.5, 0.45, 0.4, (0.2, 0.6), 9)]),
        plots.curves([plots.Line("a & b", [(0, 0.2), (1, 0.4)], [(0.1, 0.3), (0.3, 0.5)])], [(0, "1")], "x", "y"),
        plots.rows_chart(rows, plots.axis_for(rows), [("s0", "A <b>")], bars=True),
    ]
    for chart in square:
        tree = ElementTree.fromstring(plots.standalone(chart))
        assert not [element for element in tree.iter() if element.tag.endswith("script")]
    for axis in (plots.axis_for(rows), plots.axis_for([], whole=True), plots.axis_for(rows[:0])):
        places = [float(place) for place in re.findall(r'x\d?="([-\d.]+)%"', plots.track(rows[0], axis))]
        assert places
        assert min(places) >= 0
        assert max(places) <= 100


# ---- comparison ------------------------------------------------------------------------------------------------------


def two_runs(folder: Path) -> tuple[Path, Path]:
    """A is better on one set, worse on another, the same on the third; a fourth is not the same data."""
    for name, shares in (("a", (0.9, 0.3, 0.5, 0.5)), ("b", (0.5, 0.8, 0.5, 0.5))):
        run = open_run(folder / name, STAMP | {"fingerprint": name})
        for place, (data, share) in enumerate(zip(("up", "down", "even", "other"), shares, strict=True)):
            changes = {
                "provenance": {"data": {"sha256": name if data == "other" else data}},
                "model": f"{name} {SCRIPT}",
            }
            one = result(outcomes(place, share), data, **changes)
            run.add(key_of(one), one)
        run.finish()
    return folder / "a", folder / "b"


def test_runs_are_compared_set_by_set(tmp_path: Path) -> None:
    found = compare_runs(*two_runs(tmp_path))
    assert {pair.found.data: pair.found.verdict for pair in found.pairs} == {"up": "win", "down": "loss", "even": "tie"}
    (line,) = found.tallies()
    assert line.startswith("Zero-shot classification, English: A wins 1, ties 1, loses 1 of 3 sets; A less B ")
    assert len(found.remarks) == 1
    assert "different data" in found.remarks[0]
    page = write_comparison(found, tmp_path / "out")
    words = check_is_inert(page.read_text("utf-8")).words
    for pair in found.pairs:
        assert all(word in words for word in pair.words())
    kept = json.loads((tmp_path / "out" / "comparison.json").read_text())
    (summary,) = kept["summary"]
    assert (summary["win"], summary["tie"], summary["loss"], summary["sets"]) == (1, 1, 1, 3)
    assert summary["difference"] == pytest.approx(sum(one["difference"] for one in kept["comparisons"]) / 3)
    assert summary["interval"][0] < summary["difference"] < summary["interval"][1]
    assert {one["verdict"] for one in kept["comparisons"]} == {"win", "tie", "loss"}
    assert (tmp_path / "out" / "comparison.csv").read_text().count("\n") == 4
    (chart,) = (tmp_path / "out" / "plots").glob("*.svg")
    ElementTree.fromstring(chart.read_text("utf-8"))


def test_zero_shot_is_compared_with_a_probe_of_the_same_pictures(tmp_path: Path) -> None:
    for name, task in (("a", "zero-shot"), ("b", "linear-probe")):
        run = open_run(tmp_path / name, STAMP)
        run.add("one", result(outcomes(0, 0.9 if name == "a" else 0.4), task=task))
        run.finish()
    (pair,) = compare_runs(tmp_path / "a", tmp_path / "b").pairs
    assert pair.found.difference > 0.3


def run_with(folder: Path, *results: Result) -> Path:
    run = open_run(folder, STAMP)
    for place, one in enumerate(results):
        run.add(f"{place}", one)
    run.finish()
    return folder


def test_results_of_several_templates_meet_those_of_equal_ones(tmp_path: Path) -> None:
    both = in_words(0, 0.9, "ensemble"), in_words(1, 0.4, "simple")
    a, b = run_with(tmp_path / "a", *both), run_with(tmp_path / "b", *reversed(both))
    same = compare_runs(a, b)
    assert {pair.variant: pair.found.difference for pair in same.pairs} == {
        "English, ensemble": 0,
        "English, simple": 0,
    }
    assert len(list(same.tallies())) == 2
    lone = run_with(tmp_path / "lone", in_words(0, 0.9, "ensemble"))
    assert [pair.found.difference for pair in compare_runs(lone, b).pairs] == [0]
    assert any("only in" in remark and "simple" in remark for remark in compare_runs(a, lone).remarks)
    other = run_with(tmp_path / "other", in_words(0, 0.4, "simple"))
    assert compare_runs(lone, other).pairs[0].found.difference > 0.3  # one each: templates are what is compared


def test_calibration_is_compared_where_no_zero_shot_stands_for_it(tmp_path: Path) -> None:
    calibrated = in_words(0, 0.9, "simple", task="calibration")
    a = run_with(tmp_path / "a", calibrated)
    b = run_with(tmp_path / "b", calibrated, in_words(1, 0.5, "simple"))
    assert [pair.found.task for pair in compare_runs(a, b).pairs] == ["calibration"]
    assert [pair.found.task for pair in compare_runs(b, b).pairs] == ["zero-shot"]


def test_runs_without_anything_in_common_are_an_error(tmp_path: Path) -> None:
    for name in "ab":
        run = open_run(tmp_path / name, STAMP)
        run.add("one", result(outcomes(0, 0.9), data=name))
        run.finish()
    with pytest.raises(DataError, match="no result that can be compared"):
        compare_runs(tmp_path / "a", tmp_path / "b")


def test_text_escapes_every_sign_of_markup() -> None:
    assert text("<a href=\"'&\x07\ufffe") == "&lt;a href=&quot;&#x27;&amp;\ufffd\ufffd"
