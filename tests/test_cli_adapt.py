"""`awase adapt` as a user meets it: learn, compare, merge, and what goes wrong; choice and retention below it."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
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
from awase.evaluation.intervals import clustered_proportion, paired_bootstrap
from awase.learning.adaptation import choose as choosing
from awase.learning.adaptation import comparing
from awase.learning.adaptation.choose import candidates, choose, held_out_parts, judge
from awase.learning.adaptation.comparing import Cell, Plan, chart, compare_methods, table
from awase.learning.adaptation.linear_probe import LinearProbe
from awase.learning.adaptation.methods import FOR_CLASSES, HOMES, method
from awase.learning.adaptation.retention import Measure, Panel, Step, curve, found_beside, retention
from awase.learning.adaptation.task import Pairs, Task, classes, not_drawn, some
from colours import NAMES, coloured
from tiny_clips import tiny_clip


def write_set(data: Labelled, folder: Path) -> None:
    for number, (picture, target) in enumerate(zip(data.pictures, data.targets, strict=True)):
        place = folder / data.split / NAMES["en"][target]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(picture)).save(place / f"{number}.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets beside each other: colours with three splits, and captions."""
    folder = tmp_path_factory.mktemp("data")
    for split, each in (("train", 4), ("val", 6), ("test", 3)):
        write_set(coloured(split, each), folder / "colours")
    for split in ("dev", "val"):
        told = folder / "told" / split
        told.mkdir(parents=True)
        rows = []
        for number, picture in enumerate(coloured(split, 2).pictures):
            Image.fromarray(np.asarray(picture)).save(told / f"{number}.png")
            rows.append({"file_name": f"{number}.png", "captions": [f"a {NAMES['en'][number // 2]} square"]})
        (told / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def bundled() -> Clip:
    return awase.load()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A tiny random one: colours it can tell, words it cannot."""
    return tiny_clip("clip", tmp_path_factory.mktemp("clip"), threads=1)


@pytest.fixture(scope="module")
def model(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on the disk."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    awase.write_checkpoint(clip.checkpoint, folder, "awase")
    return folder


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
    assert found["record"]["train"] | {"sha256": ""} == {"name": "colours", "split": "train", "n": 16, "sha256": ""}
    picture = next((data / "colours" / "test" / "red").iterdir())
    scores = one_object(capsys, "classify", picture, "--adapter", out)["scores"]
    assert scores[0]["label"] == "red"
    assert len(scores) == 4
    assert "similarity" not in printed(capsys, "classify", picture, "--adapter", out)[1]  # a head's cosines say nothing
    assert "similarity" in printed(capsys, "classify", picture, "--adapter", out, "--labels", "red,blue")[1]
    measured = one_object(capsys, "evaluate", "zero-shot", data / "colours", "--adapter", out)
    assert measured["metrics"]["top1"] > 0.9
    assert measured["provenance"]["model"]["head"] == read_adapter(out).head.digest  # type: ignore[union-attr]


def test_auto_says_what_it_chose_and_why(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["adapt", data / "colours", "--shots", "2", "--seed", "2", "--model", model, "--curve"]
    code, out, err = printed(capsys, *given, "--out", tmp_path / "learned")
    assert code == 0, err
    assert "there is no curve" in err  # for the towers did not learn
    assert "zero-shot" in out
    assert "8 pictures of 4 classes, a closed set" in out
    tables = out.partition("●")[0].splitlines()
    assert max(map(len, tables)) <= 80
    assert "calibration error" in out
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
        (["--seed", "-1"], "seed"),
        (["--word", "<x>", "--method", "cache"], "inversion"),
        (["--open", "--method", "cache"], "--open"),
        (["--curve", "--method", "prompt"], "lora or full"),
        (["--word", ""], "word"),
        (["--train", "val", "--validation", "val"], "says nothing"),
    ],
)
def test_wrong_use_is_told_before_anything_is_written(
    arguments: list[str], says: str, data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["adapt", data / "colours", "--model", model, *arguments]
    code, _, err = printed(capsys, *given, "--out", tmp_path / "learned")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


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
        code, _, err = printed(capsys, "adapt", place, "--out", tmp_path / "learned")
        assert (code, err.count("\n")) == (2, 1)
        assert says in err
    code, _, err = printed(capsys, "adapt", data / "colours", "--method", "clap", "--out", data)
    assert code == 2
    assert "not empty" in err


@pytest.mark.parametrize(
    ("place", "arguments", "says"),
    [
        ("told", ["--train", "dev", "--column", "c"], "no column 'c' of classes, only sentences"),
        ("told", ["--train", "dev", "--captions", "c", "--method", "cache"], "columns of sentences are captions"),
        ("told", ["--train", "dev", "--method", "cache"], "here are sentences"),
        ("told", ["--train", "dev", "--captions", "captions", "--shots", "2"], "leave --shots out"),
        ("colours", ["--captions", "c", "--method", "cache"], "no sentences for --captions c"),
        ("colours/train/red", ["--method", "cache"], "neither classes nor sentences"),
    ],
)
def test_what_the_data_lack_is_said(
    place: str, arguments: list[str], says: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = printed(capsys, "adapt", data / place, *arguments, "--out", tmp_path / "learned")
    assert (code, err.count("\n")) == (2, 1)
    assert says in err
    code, _, err = printed(capsys, "adapt", "compare", data / "told", "--out", tmp_path / "run")
    assert code == 2
    assert "sentences and no classes" in err


def test_an_interrupt_while_measuring_says_that_the_adapter_is_there(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("awase.learning.adaptation.retention.retention", interrupted)
    out = tmp_path / "learned"
    code, _, err = printed(capsys, "adapt", data / "colours", "--method", "cache", "--model", model, "--out", out)
    assert code == 130
    assert f"interrupted: {out} is written and whole" in err
    assert read_adapter(out).head is not None


def test_an_adapter_of_another_model_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], clip: Clip
) -> None:
    adapter = method("zero-shot").fit(clip, classes(coloured("train", 2)))
    write_adapter(replace(adapter, base=replace(adapter.base, name="parts-1")), tmp_path / "a")
    picture = next((data / "colours" / "test" / "red").iterdir())
    code, _, err = printed(capsys, "classify", picture, "--adapter", tmp_path / "a")
    assert code == 2
    assert "parts-1" in err


def test_labels_or_an_adapter_are_needed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = printed(capsys, "classify", data / "colours" / "test" / "red")
    assert code == 2
    assert "--adapter" in err


def test_a_picture_that_cannot_be_read_is_told_once_and_fails_no_more_than_itself(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data / "colours", tmp_path / "damaged")
    (tmp_path / "damaged" / "train" / "red" / "bad.png").write_bytes(b"no picture")
    given = ["adapt", tmp_path / "damaged", "--method", "cache", "--model", model]
    code, out, err = printed(capsys, *given, "--out", tmp_path / "learned")
    assert code == 1
    assert err.count("bad.png") == 1
    assert "--adapter" in out
    assert read_adapter(tmp_path / "learned").head is not None
    assert not list(tmp_path.glob(".*"))


def test_without_torch_what_needs_it_is_told_and_the_rest_compared(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    given = ["adapt", data / "colours" / "train" / "red", "--word", "<x>", "--model", model]
    code, _, err = printed(capsys, *given, "--out", tmp_path / "word")
    assert code == 2
    assert "awase[torch]" in err
    given = ["adapt", "compare", data / "colours", "--shots", "1", "--seeds", "1", "--model", model]
    code, out, err = printed(capsys, *given, "--out", tmp_path / "run")
    assert code == 0
    assert "left out" in err
    assert all(name in out for name in HOMES)


def test_a_set_whose_classes_are_empty_names_its_sentences(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        shutil.copytree(data / "told" / "val", tmp_path / "both" / split)
        table = tmp_path / "both" / split / "metadata.jsonl"
        table.write_text(table.read_text().replace('"captions"', '"category": null, "captions"'))
    code, _, err = printed(capsys, "adapt", tmp_path / "both", "--model", model, "--out", tmp_path / "learned")
    assert code == 2
    assert "--captions captions" in err


@pytest.mark.long
def test_sentences_teach_retrieval_and_one_thing_becomes_a_word(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["adapt", data / "told", "--train", "dev", "--validation", "val"]
    found = one_object(capsys, *told, "--out", tmp_path / "auto")
    assert found["method"] in ("lora", "zero-shot")
    assert found["record"]["method"] == found["method"]
    assert "for retrieval" in found["reason"]
    found = one_object(capsys, *told, "--method", "lora", "--out", tmp_path / "told")
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


def test_a_merged_model_is_the_adapted_one(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = awase.load(model)
    write_adapter(changed(clip), tmp_path / "learned")
    given = ["adapt", "merge", tmp_path / "learned", "--model", model, "--alpha", "0.5"]
    code, _, err = printed(capsys, *given, "--out", tmp_path / "m")
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
    assert alone.name == "anchored-probe"
    assert "one picture of each class" in alone.reason


@pytest.mark.parametrize("sizes", [(6, 6, 6, 1), (6, 1, 1, 1)])
def test_a_class_of_one_picture_is_learned_and_never_held_out(sizes: tuple[int, ...], clip: Clip) -> None:
    train = coloured("train", 6)
    train = some(train, np.concatenate([np.flatnonzero(train.targets == c)[:n] for c, n in enumerate(sizes)]))
    task = classes(train)
    parts = held_out_parts(clip, task, slow=False)
    np.testing.assert_array_equal(np.sum(parts, axis=0), np.isin(train.targets, np.flatnonzero(np.array(sizes) > 1)))
    for name in ("zero-shot", "linear-probe", "gaussian-features"):
        assert len(judge(clip, task, name, parts)) == sum(size for size in sizes if size > 1)
    right = choosing._right(clip, changed(clip), task, parts[0])  # of towers that learned
    assert len(right) == parts[0].sum()


def test_auto_learns_where_one_class_has_one_picture(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, count in (("red", 1), ("blue", 3)):
        (tmp_path / "set" / "train" / name).mkdir(parents=True)
        for picture in sorted((data / "colours" / "train" / name).iterdir())[:count]:
            shutil.copy(picture, tmp_path / "set" / "train" / name)
    found = one_object(capsys, "adapt", tmp_path / "set", "--model", model, "--out", tmp_path / "learned")
    assert {one["n"] for one in found["tried"]} == {3}
    assert len(found["tried"]) == len(HOMES)


def test_the_chosen_is_the_one_that_was_right_most_often(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    task = classes(coloured("train", 6), coloured("val", 3))
    right = {name: np.arange(20) < 10 + 2 * (name == "gaussian") for name in HOMES}
    monkeypatch.setattr(choosing, "judge", lambda _clip, _task, name, *_: right[name])
    found = choose(clip, task)
    assert found.name == "gaussian"
    assert found.adapter.record["method"] == "gaussian"
    assert "gaussian is right on 60.0% of 20 pictures held out, +10.0 points to zero-shot" in found.reason
    assert [one.name for one in found.tried][:2] == ["gaussian", "zero-shot"]


def test_captions_of_one_picture_count_together(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    data = coloured("val", 3)
    owners = np.repeat(np.arange(len(data)), 5)
    pairs = Captioned("told", "val", data.pictures, [f"a square, {i}" for i in range(len(owners))], owners)
    ranks, lora = np.full(len(owners), 9), Adapter(Base.of(clip), record={"method": "lora"})
    monkeypatch.setattr(choosing, "method", lambda _name: SimpleNamespace(fit=lambda *_: lora))
    found = [{"rank_text_to_picture": ranks, "caption_owner": owners}]
    found.append(found[0] | {"rank_text_to_picture": np.where(owners < 4, 1, ranks)})
    monkeypatch.setattr(choosing, "retrieval", lambda *_: SimpleNamespace(items=found.pop(0)))
    best = choose(clip, Pairs(replace(pairs, split="train"), pairs)).tried[0]
    right = owners < 4
    assert best.name == "lora"
    assert best.interval == clustered_proportion(right, owners)
    assert best.gain_interval == paired_bootstrap(right, np.zeros(len(owners)), owners).interval


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


def test_the_base_itself_keeps_everything(clip: Clip) -> None:
    target, probes = coloured("val", 8), [coloured("probe", 8), told("told")]
    adapter = replace(changed(clip, 0.0), keys=(), names={})  # asked in the data's words, as the base
    same = retention(clip, adapter.on(clip), target, probes, coloured("train", 4))
    assert same.kept == pytest.approx(1)
    assert {row.difference for row in same.rows} == {0.0}
    assert {row.interval for row in same.rows if row.measure in ("top1", "calibration_error")} == {(0.0, 0.0)}


def test_the_interval_of_a_calibration_error_tells_what_grew_from_chance(clip: Clip) -> None:
    """A head that is sure of what it does not know beside the same one in doubt, and beside itself."""
    data, task = coloured("val", 20), classes(coloured("train", 4))
    unsure, sure = (replace(clip, head=replace(task.zero_shot(clip), temperature=t)) for t in (100.0, 0.01))
    for before, after, grew in ((unsure, sure, True), (sure, sure, False)):
        (found,) = [row for row in retention(before, after, data, []).rows if row.measure == "calibration_error"]
        assert (found.interval[0] > 0) == grew
        assert found.interval[0] <= found.difference <= found.interval[1]


def test_without_pictures_to_see_a_gain_on_the_cost_is_seen_all_the_same(clip: Clip) -> None:
    panel = retention(clip, changed(clip, 5.0).on(clip), None, [coloured("probe", 4)])
    assert {row.where for row in panel.rows} == {"elsewhere"}
    assert panel.light != "green"
    assert "no pictures to see a gain on" in panel.reason


def test_harm_shows(bundled: Clip) -> None:
    clip, target, probes = bundled, coloured("val", 4), [coloured("probe", 4), told("told")]
    harmed = retention(clip, changed(clip, 5.0).on(clip), target, probes, coloured("train", 2))
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


def test_a_probe_that_cannot_be_fitted_is_a_note(clip: Clip) -> None:
    panel = retention(clip, changed(clip).on(clip), coloured("val", 4), [], coloured("train", 1))
    assert {row.measure for row in panel.rows if row.where == "target"} == {"top1", "calibration_error"}
    assert len(panel.notes) == 1
    assert panel.notes[0].startswith("linear probe on colours left out: no class has two training pictures")


def test_the_light_is_named_and_all_adapters_are(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapt = ["adapt", data / "colours", "--model", model, "--method"]
    code, out, err = printed(capsys, *adapt, "linear-probe", "--out", tmp_path / "first")
    assert code == 0, err
    assert any(f"● {light}: " in out for light in ("green", "yellow", "red"))
    write_adapter(changed(awase.load(model), 0.0), tmp_path / "tuned")
    code, out, err = printed(capsys, *adapt, "zero-shot", "--adapter", tmp_path / "tuned", "--out", tmp_path / "second")
    assert code == 0, err
    assert f"use it with --adapter {tmp_path / 'tuned'} --adapter {tmp_path / 'second'}" in "".join(out.splitlines())


def test_the_curve_runs_from_the_base_to_what_was_learned(clip: Clip) -> None:
    nameless = replace(coloured("probe"), names={})  # which is passed over
    steps = curve(clip, changed(clip, 3.0), coloured("val", 4), [nameless])
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
    kept = [place.name for place in (tmp_path / "run" / "cells").iterdir()]
    assert all("zero-shot" in name for name in kept)  # a failure is tried again
    assert len(kept) == 2


def test_a_comparison_is_of_one_model_and_one_set(clip: Clip, tmp_path: Path) -> None:
    plan = Plan(("zero-shot",), (1,), seeds=1)
    compare_methods(clip, coloured("train", 2), coloured("val", 6), plan, tmp_path / "run")
    with pytest.raises(UsageError, match="its data differ"):
        compare_methods(clip, coloured("train", 3), coloured("val", 6), plan, tmp_path / "run")
    with pytest.raises(UsageError, match="its templates differ"):
        compare_methods(
            clip, coloured("train", 2), coloured("val", 6), replace(plan, templates=("a {}",)), tmp_path / "run"
        )
    known = tmp_path / "run" / "compared.json"
    known.write_text(json.dumps(json.loads(known.read_text()) | {"awase": "0.0.1"}))
    with pytest.raises(UsageError, match="its awase differ"):  # cells that another version fitted
        compare_methods(clip, coloured("train", 2), coloured("val", 6), plan, tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UsageError, match="not empty"):
        compare_methods(clip, coloured("train", 2), coloured("val", 6), plan, tmp_path / "full")
    with pytest.raises(DataError, match="none to measure on"):
        compare_methods(clip, coloured("train", 2), coloured("val", 4), plan, tmp_path / "few")


@pytest.mark.parametrize("split", ["train", "val", "dev", "mine"])
def test_nothing_is_compared_on_what_was_learned_or_chosen_on(split: str, clip: Clip, tmp_path: Path) -> None:
    plan, test = Plan(("zero-shot",), (1,), seeds=1), coloured(split, 3)
    with pytest.raises(UsageError, match=f"'{split}' is for learning or choosing.*test split, or name none"):
        compare_methods(clip, coloured("mine", 2), coloured("val", 6), plan, tmp_path / "run", test)
    assert not list(tmp_path.iterdir())


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


def test_compare_on_the_command_line(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["adapt", "compare", data / "colours", "--methods", "zero-shot,lp++", "--shots", "2,1", "--seeds", "2"]
    arguments += ["--model", model]
    code, out, err = printed(capsys, *arguments, "--out", tmp_path / "run")
    assert code == 0, err
    assert "1 shot" in out
    assert "lp++" in out
    rows = one_object(capsys, *arguments, "--split", "test", "--out", tmp_path / "other")["rows"]
    assert {row["n"] for row in rows} == {12}
    for wrong, says in (["--shots", "x"], "--shots"), (["--methods", "magic"], "magic"), (["--shots", "0"], "from 1"):
        code, _, err = printed(capsys, *arguments, *wrong, "--out", tmp_path / "wrong")
        assert code == 2
        assert says in err


def test_inversion_is_no_method_for_a_closed_set() -> None:
    assert "inversion" not in FOR_CLASSES
    assert set(HOMES) < set(FOR_CLASSES)
