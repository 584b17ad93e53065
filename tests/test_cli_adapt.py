"""`awase adapt` as a user meets it: learn, compare, merge, and what goes wrong; choice and retention below it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import awase
from awase import Adapter, Clip, DataError, UsageError, read_adapter, write_adapter
from awase.adapter import Base
from awase.cli import main
from awase.datasets import Captioned
from awase.datasets.labelled import Labelled
from awase.encoding.checkpoints.derived import Changes, LowRank
from awase.learning.adaptation import choose as choosing
from awase.learning.adaptation import comparing
from awase.learning.adaptation.choose import candidates, choose, held_out_parts, judge
from awase.learning.adaptation.comparing import Cell, Plan, chart, compare_methods, table
from awase.learning.adaptation.linear_probe import LinearProbe
from awase.learning.adaptation.methods import FOR_CLASSES, HOMES, method
from awase.learning.adaptation.retention import Measure, Panel, Step, curve, found_beside, retention
from awase.learning.adaptation.task import Task, classes, not_drawn
from colours import NAMES, coloured
from references import tiny_hf_clip


def write_set(data: Labelled, folder: Path) -> None:
    for number, (picture, target) in enumerate(zip(data.pictures, data.targets, strict=True)):
        place = folder / data.split / NAMES["en"][target]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(picture)).save(place / f"{number}.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets beside each other: colours with three splits, and captions."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val", "test"):
        write_set(coloured(split, 8 if split == "train" else 6), folder / "colours")
    told = folder / "told" / "val"
    told.mkdir(parents=True)
    rows = []
    for number, picture in enumerate(coloured("told", 2).pictures):
        Image.fromarray(np.asarray(picture)).save(told / f"{number}.png")
        rows.append({"file_name": f"{number}.png", "captions": [f"a {NAMES['en'][number // 2]} square"]})
    (told / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


def changed(clip: Clip, size: float = 0.3) -> Adapter:
    """An adapter that does the image tower harm, the more the larger `size` is."""
    name = "image.projection.weight"
    out, into = clip.checkpoint.architecture.tensors()[name]
    chance = np.random.default_rng(0)
    a, b = (chance.standard_normal(shape).astype(np.float32) for shape in ((4, into), (out, 4)))
    changes = Changes(low_rank={name: LowRank(a, b, size)})
    return Adapter(Base.of(clip), None, changes, NAMES["en"], NAMES, ("{}",))


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as left:
        code = int(left.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def one_object(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code, out, err = printed(capsys, *arguments, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


# ---- learn -----------------------------------------------------------------------------------------------------------


def test_what_is_learned_classifies_without_labels(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "learned"
    found = one_object(capsys, "adapt", data / "colours", "--method", "linear-probe", "--out", out)
    assert found["method"] == "linear-probe"
    assert found["retention"]["rows"][0]["after"] > 0.9
    assert found["record"]["train"] | {"sha256": ""} == {"name": "colours", "split": "train", "n": 32, "sha256": ""}
    picture = next((data / "colours" / "test" / "red").iterdir())
    scores = one_object(capsys, "classify", picture, "--adapter", out)["scores"]
    assert scores[0]["label"] == "red"
    assert len(scores) == 4
    measured = one_object(capsys, "evaluate", "zero-shot", data / "colours", "--adapter", out)
    assert measured["metrics"]["top1"] > 0.9
    assert measured["provenance"]["model"]["head"] == read_adapter(out).head.digest  # type: ignore[union-attr]


def test_auto_says_what_it_chose_and_why(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = printed(
        capsys, "adapt", data / "colours", "--shots", "2", "--seed", "2", "--out", tmp_path / "learned"
    )
    assert code == 0, err
    assert "zero-shot" in out
    assert "8 pictures of 4 classes, a closed set" in out
    assert "--adapter" in out
    record = read_adapter(tmp_path / "learned").record
    assert record["choice"]["tried"].keys() == HOMES.keys()
    assert record["seed"] == 2
    assert record["method"] in HOMES


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method", "magic"], "there are"),
        (["--train", "test", "--method", "clap"], "testing"),
        (["--language", "fr"], "en"),
        (["--column", "x", "--method", "cache"], "x"),
        (["--coarse", "mug"], "--coarse"),
        (["--template", "no slot", "--method", "cache"], "{}"),
        (["--probe", "nowhere", "--method", "lora"], "nowhere"),
    ],
)
def test_wrong_use_is_told_before_anything_is_written(
    arguments: list[str], says: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = printed(capsys, "adapt", data / "colours", *arguments, "--out", tmp_path / "learned")
    assert code == 2
    assert says in err
    assert not (tmp_path / "learned").exists()


def test_bad_data_are_told_in_a_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = tmp_path / "one" / "train" / "red"
    one.mkdir(parents=True)
    Image.new("RGB", (30, 30), "red").save(one / "1.png")
    empty = tmp_path / "empty"
    for name in ("red", "blue"):
        (empty / "train" / name).mkdir(parents=True)
    Image.new("RGB", (30, 30), "red").save(empty / "train" / "red" / "1.png")
    for place, says in (
        (one.parents[1], "one class only"),
        (empty, "two are the least"),
        (data / "told", "no split to learn"),
    ):
        code, _, err = printed(capsys, "adapt", place, "--method", "cache", "--out", tmp_path / "learned")
        assert (code, err.count("\n")) == (2, 1)
        assert says in err
    code, _, err = printed(capsys, "adapt", data / "colours", "--method", "clap", "--out", data)
    assert code == 2
    assert "not empty" in err


def test_an_adapter_of_another_model_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], clip: Clip
) -> None:
    adapter = method("zero-shot").fit(clip, classes(coloured("train", 2)))
    write_adapter(replace(adapter, base=replace(adapter.base, name="parts-1", fingerprint="0" * 64)), tmp_path / "a")
    picture = next((data / "colours" / "test" / "red").iterdir())
    code, _, err = printed(capsys, "classify", picture, "--adapter", tmp_path / "a")
    assert code == 2
    assert "parts-1" in err


def test_labels_or_an_adapter_are_needed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = printed(capsys, "classify", data / "colours" / "test" / "red")
    assert code == 2
    assert "--adapter" in err


@pytest.mark.long
def test_sentences_teach_retrieval_and_one_thing_becomes_a_word(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = one_object(
        capsys, "adapt", data / "told", "--train", "val", "--validation", "val", "--out", tmp_path / "told"
    )
    assert found["method"] == "lora"
    assert "for retrieval" in found["reason"]
    assert {row["measure"] for row in found["retention"]["rows"]} >= {"text_to_picture", "same_words"}
    code, _, err = printed(
        capsys, "adapt", data / "told", "--train", "val", "--method", "clap", "--out", tmp_path / "x"
    )
    assert code == 2
    assert "here are sentences" in err
    red = data / "colours" / "train" / "red"
    one_object(capsys, "adapt", red, "--word", "<sq>", "--coarse", "square", "--out", tmp_path / "word")
    picture = next((data / "colours" / "test" / "red").iterdir())
    scores = one_object(capsys, "classify", picture, "--labels", "<sq>,cat", "--adapter", tmp_path / "word")["scores"]
    assert scores[0]["label"] == "<sq>"


# ---- merge -----------------------------------------------------------------------------------------------------------


def test_a_merged_model_is_the_adapted_one(tmp_path: Path, clip: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    write_adapter(changed(clip), tmp_path / "learned")
    code, _, err = printed(capsys, "adapt", "merge", tmp_path / "learned", "--alpha", "0.5", "--out", tmp_path / "m")
    assert code == 0, err
    picture = coloured("test").pictures[0]
    merged, adapted = awase.load(tmp_path / "m"), changed(clip).on(clip, 0.5)
    np.testing.assert_allclose(merged.encode_images([picture]), adapted.encode_images([picture]), atol=1e-5)


def test_a_classifier_is_not_merged(tmp_path: Path, clip: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    write_adapter(method("zero-shot").fit(clip, classes(coloured("train", 2))), tmp_path / "learned")
    code, _, err = printed(capsys, "adapt", "merge", tmp_path / "learned", "--out", tmp_path / "m")
    assert code == 2
    assert "nothing to merge" in err


# ---- choice ----------------------------------------------------------------------------------------------------------


def test_the_advice_names_candidates_and_zero_shot_is_always_one(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    task = classes(coloured("train", 4), coloured("val", 4))
    names, why = candidates(clip, task, open_labels=False)
    assert names == list(HOMES)
    assert "closed set" in why
    names, why = candidates(clip, task, open_labels=True)
    assert names == ["zero-shot", "prompt", "lora"]
    assert "yet to come" in why
    monkeypatch.setattr(choosing, "find_spec", lambda _name: None)
    names, why = candidates(clip, task, open_labels=True)
    assert names == ["zero-shot"]
    assert "awase[torch]" in why
    monkeypatch.undo()
    monkeypatch.setattr(choosing, "MANY", 10)
    monkeypatch.setattr(choosing, "_has_gpu", lambda: True)
    names, _ = candidates(clip, task, open_labels=False)
    assert names[-1] == "lora"
    assert "cache" not in names


def test_every_picture_is_judged_once_and_none_that_was_learned_from(clip: Clip) -> None:
    task = classes(coloured("train", 6), coloured("val", 3))
    parts = held_out_parts(clip, task, slow=False)
    np.testing.assert_array_equal(np.sum(parts, axis=0), np.ones(24))
    assert len(judge(clip, task, "linear-probe", parts)) == 24 + 12
    assert held_out_parts(clip, task, slow=True) == []
    assert len(held_out_parts(clip, replace(task, validation=None), slow=True)) == 1
    alone = classes(coloured("train", 6), None, shots=1)
    assert held_out_parts(clip, alone, slow=False) == []
    assert len(judge(clip, alone, "cache", [])) == 0


def test_what_nothing_beats_is_zero_shot_and_what_cannot_be_judged_is_the_careful_one(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = classes(coloured("train", 6), coloured("val", 3))
    with monkeypatch.context() as patched:
        patched.setattr(choosing, "judge", lambda *_: np.ones(9, bool))
        found = choose(clip, task)
    assert found.name == "zero-shot"
    assert "none beats zero-shot" in found.reason
    alone = choose(clip, classes(coloured("train", 6), None, shots=1))
    assert alone.name == "clap"
    assert "one picture of each class" in alone.reason


def test_the_chosen_is_the_one_that_was_right_most_often(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    task = classes(coloured("train", 6), coloured("val", 3))
    right = {name: np.arange(20) < 10 + 2 * (name == "gaussian") for name in HOMES}
    monkeypatch.setattr(choosing, "judge", lambda _clip, _task, name, *_: right[name])
    found = choose(clip, task)
    assert found.name == "gaussian"
    assert found.adapter.record["method"] == "gaussian"
    assert "gaussian is right on 60.0% of 20 pictures held out, +10.0 points to zero-shot" in found.reason
    assert [one.name for one in found.tried][:2] == ["gaussian", "zero-shot"]


# ---- retention -------------------------------------------------------------------------------------------------------


def told(split: str) -> Captioned:
    data = coloured(split, 3)
    sentences = [f"a {NAMES['en'][target]} square" for target in data.targets]
    return Captioned("told", split, data.pictures, sentences, np.arange(len(data)))


def test_frozen_towers_forget_nothing(clip: Clip) -> None:
    task = classes(coloured("train", 6), coloured("val", 6))
    assert task.validation is not None
    panel = retention(clip, method("linear-probe").fit(clip, task).on(clip), task.validation, [coloured("probe")])
    assert panel.kept == 1
    assert {row.where for row in panel.rows} == {"target"}
    assert "towers are the base's" in panel.reason


def test_the_base_itself_keeps_everything_and_harm_shows(clip: Clip) -> None:
    target, probes = coloured("val", 8), [coloured("probe", 8), told("told")]
    same = retention(clip, changed(clip, 0.0).on(clip), target, probes, coloured("train", 4))
    assert same.kept == pytest.approx(1)
    assert {row.difference for row in same.rows if row.measure != "calibration_error"} == {0.0}
    harmed = retention(clip, changed(clip, 5.0).on(clip), target, probes, coloured("train", 4))
    measures = {(row.where, row.data, row.measure) for row in harmed.rows}
    assert measures >= {
        ("target", "colours", "top1"),
        ("target", "colours", "calibration_error"),
        ("target", "colours", "linear_probe"),
        ("elsewhere", "colours", "top1"),
        ("elsewhere", "colours", "linear_probe"),
        ("elsewhere", "told", "text_to_picture"),
        ("elsewhere", "told", "picture_to_text"),
        ("elsewhere", "common things", "same_pictures"),
    }
    assert harmed.light == "red"
    assert harmed.kept < 0.9
    assert "go back" in harmed.reason
    assert json.dumps(harmed.to_json())


def test_without_probe_sets_common_things_tell(clip: Clip) -> None:
    panel = retention(clip, changed(clip, 5.0).on(clip), coloured("val", 4), [])
    assert panel.kept < 1
    assert "common things" in panel.reason


def test_a_probe_that_cannot_be_measured_is_a_note(clip: Clip) -> None:
    nameless = replace(coloured("probe"), names={})
    panel = retention(clip, changed(clip, 0.1).on(clip), coloured("val", 4), [nameless])
    assert "left out" in panel.notes[0]


def test_the_curve_runs_from_the_base_to_what_was_learned(tmp_path: Path) -> None:
    tiny_hf_clip(tmp_path / "tiny")
    small = awase.load(tmp_path / "tiny")
    steps = curve(small, changed(small, 3.0), coloured("val", 4), [])
    assert [step.alpha for step in steps] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert steps[0].kept == pytest.approx(1)
    assert steps[-1].kept < steps[0].kept


@pytest.mark.parametrize(
    ("kept", "alpha"), [((1.0, 0.99, 0.97, 0.5), 0.3), ((1.0, 0.9, 0.98, 0.5), 0.6), ((0.9, 0.9, 0.9, 0.9), None)]
)
def test_the_safe_step_is_the_largest_that_keeps_98_percent(kept: tuple[float, ...], alpha: float | None) -> None:
    steps = tuple(Step(a, 0.5, k) for a, k in zip((0.0, 0.3, 0.6, 1.0), kept, strict=True))
    row = Measure("target", "x", "top1", 0.5, 0.6, (0.01, 0.2), 10)
    safe = Panel((row,), 1.0, "green", "", steps).safe_step
    assert (safe and safe.alpha) == alpha


def test_probe_sets_are_found_beside_the_data(data: Path) -> None:
    (found,) = found_beside(str(data / "colours"))
    assert found.name == "told"
    assert isinstance(found, Captioned)
    (other,) = found_beside(str(data / "told"))
    assert (other.name, other.split) == ("colours", "val")


# ---- compare ---------------------------------------------------------------------------------------------------------


def test_compare_goes_on_where_it_stopped(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation = coloured("train", 6), coloured("val", 8)
    plan = Plan(("zero-shot", "linear-probe"), (1, 2), seeds=2)
    calls: list[str] = []

    def counted(name: str, **settings: Any) -> Any:
        calls.append(name)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return method(name, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(comparing, "method", counted)
        with pytest.raises(KeyboardInterrupt):
            compare_methods(clip, train, validation, plan, tmp_path / "run")
    kept = len(list((tmp_path / "run" / "cells").iterdir()))
    assert kept == 5
    with monkeypatch.context() as patched:
        calls.clear()
        patched.setattr(comparing, "method", lambda name, **more: calls.append(name) or method(name, **more))
        cells = compare_methods(clip, train, validation, plan, tmp_path / "run")
    assert len(calls) == 8 - kept
    assert len(cells) == 8
    assert {cell.n for cell in cells} == {16}  # 8 of each class less the 4 that are drawn
    for name in ("table.csv", "comparison.json", "chart.svg"):
        assert (tmp_path / "run" / name).is_file()
    again = compare_methods(clip, train, validation, plan, tmp_path / "run")
    assert again == cells


def test_a_method_that_does_not_apply_is_told_and_one_that_fails_stops_nothing(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(LinearProbe):
        def refusal(self, clip: Clip, task: Task) -> str | None:
            return "no layers" if len(task.train) == 4 else None

        def fit(self, clip: Clip, task: Task, *_: Any, **__: Any) -> Adapter:
            raise UsageError("broken")

    monkeypatch.setattr(comparing, "method", lambda name: Broken() if name == "clap" else method(name))
    cells = compare_methods(
        clip, coloured("train", 4), coloured("val", 6), Plan(("clap", "zero-shot"), (1, 2), 1), tmp_path / "run"
    )
    assert [(cell.why, cell.accuracy is None) for cell in cells] == [
        ("no layers", True), ("failed: broken", True), ("", False), ("", False),
    ]  # fmt: skip


def test_a_comparison_is_of_one_model_and_one_set(clip: Clip, tmp_path: Path) -> None:
    plan = Plan(("zero-shot",), (1,), seeds=1)
    compare_methods(clip, coloured("train", 2), coloured("val", 6), plan, tmp_path / "run")
    with pytest.raises(UsageError, match="other data"):
        compare_methods(clip, coloured("train", 3), coloured("val", 6), plan, tmp_path / "run")
    with pytest.raises(UsageError, match="other words"):
        compare_methods(
            clip, coloured("train", 2), coloured("val", 6), replace(plan, templates=("a {}",)), tmp_path / "run"
        )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UsageError, match="not empty"):
        compare_methods(clip, coloured("train", 2), coloured("val", 6), plan, tmp_path / "full")
    with pytest.raises(DataError, match="none to measure on"):
        compare_methods(clip, coloured("train", 2), coloured("val", 4), plan, tmp_path / "few")


def test_what_is_measured_on_was_not_drawn_for_choosing() -> None:
    validation = coloured("val", 6)
    free = not_drawn(validation, 3)
    assert free is not None
    drawn = classes(coloured("train", 6), validation, shots=5, seed=3).validation
    assert drawn is not None
    assert not {id(p) for p in free.pictures} & {id(p) for p in drawn.pictures}
    assert len(free) + len(drawn) == 24


def test_the_table_has_means_and_deviations_the_best_method_first() -> None:
    cells = [Cell("a", 1, seed, value, 10, 1.0) for seed, value in enumerate((0.2, 0.4))]
    cells += [Cell("b", 1, seed, 0.5, 10, 2.0) for seed in range(2)] + [Cell("c", 1, 0, None, 10, 0.0, "cannot")]
    rows = table(cells)
    assert [row["method"] for row in rows] == ["b", "a", "c"]
    assert rows[1]["accuracy"] == pytest.approx(0.3)
    assert rows[1]["deviation"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert rows[2]["accuracy"] is None
    assert "cannot" in rows[2]["why"]
    assert chart(rows, 0.1).count("<circle") == 2 + 1  # two methods with a value, one legend


def test_compare_on_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["adapt", "compare", data / "colours", "--methods", "zero-shot,lp++", "--shots", "2,1", "--seeds", "2"]
    code, out, err = printed(capsys, *arguments, "--out", tmp_path / "run")
    assert code == 0, err
    assert "1 shot" in out
    assert "lp++" in out
    rows = one_object(capsys, *arguments, "--split", "test", "--out", tmp_path / "other")["rows"]
    assert {row["n"] for row in rows} == {24}
    for wrong, says in (["--shots", "x"], "--shots"), (["--methods", "magic"], "magic"), (["--shots", "0"], "from 1"):
        code, _, err = printed(capsys, *arguments, *wrong, "--out", tmp_path / "wrong")
        assert code == 2
        assert says in err


def test_inversion_is_no_method_for_a_closed_set() -> None:
    assert "inversion" not in FOR_CLASSES
    assert set(HOMES) < set(FOR_CLASSES)
