"""Suites: read from a file, done once, and going on after a kill, with the bundled model on pictures made here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import awase
from awase.clip import Clip
from awase.datasets import open_labelled
from awase.encoding.samples import sample_cuts
from awase.errors import DataError, UsageError
from awase.evaluation.runs import key_of, open_run, read_run
from awase.evaluation.suite import Entry, Suite, jobs_of, read_suite, run_suite, with_probes
from awase.evaluation.zero_shot import zero_shot

CLASSES = {"astronaut": "宇宙飛行士", "coffee": "一杯のコーヒー", "rocket": "ロケット"}
ENGLISH = {"astronaut": "a woman who smiles", "coffee": "coffee on top of a saucer", "rocket": "a white rocket"}
JAPANESE = {"astronaut": "笑っている女性", "coffee": "テーブルの上のコーヒー", "rocket": "白いロケット"}
SUITE = """
name = "made"

[[set]]
path = "things"
tasks = ["zero-shot", "calibration", "linear-probe"]
languages = ["en", "ja"]
shots = [1, 2]

[[set]]
path = "told"
split = "dev"
tasks = ["retrieval", "composition"]
captions = ["captions", "captions_ja"]
"""


def make_data(folder: Path) -> Path:
    """24 cuts of three photographs: classes with names in two languages, and the same with sentences."""
    rows = []
    for number, cut in enumerate(sample_cuts()):
        label = list(CLASSES)[number // 8]
        split = "test" if number % 4 == 0 else "train"
        name = f"{number:02}.jpg"
        for place in (folder / "things" / split / label, folder / "told" / "dev"):
            place.mkdir(parents=True, exist_ok=True)
            cut.resize((96, 96)).save(place / name)
        rows.append({"file_name": name, "captions": [f"{ENGLISH[label]}, {number}"], "captions_ja": [JAPANESE[label]]})
    names = {label: {"en": label, "ja": japanese} for label, japanese in CLASSES.items()}
    (folder / "things" / "classes.json").write_text(json.dumps(names))
    (folder / "told" / "dev" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "suite.toml").write_text(SUITE)
    return folder


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data")


def test_a_suite_does_every_job_once(clip: Clip, data: Path, tmp_path: Path) -> None:
    suite, seen = read_suite(data / "suite.toml"), []
    run = open_run(tmp_path / "run", clip.stamp())
    first = run_suite(clip, suite, run, watch=lambda what, done, total: seen.append((what, done, total)))
    assert (first.done, first.kept, first.failures) == (9, 0, [])
    assert seen[0] == ("things: zero-shot, en", 0, 9)
    assert seen[-1][1:] == (9, 9)
    results = read_run(run.folder)
    tasks = {"zero-shot": 2, "calibration": 2, "linear-probe": 1, "retrieval": 2, "composition": 2}
    assert {task: sum(one.task == task for one in results) for task in tasks} == tasks
    assert {one.model for one in results} == {"awase"}
    assert next(one for one in results if one.task == "zero-shot").figures["top1"].value > 0.5
    whole = (run.folder / "results.json").read_bytes()
    second = run_suite(clip, suite, run)
    assert (second.done, second.kept) == (0, 9)
    assert (run.folder / "results.json").read_bytes() == whole
    page = (run.folder / "report.html").read_text("utf-8")
    for word in ("English and Japanese", "Few shot", "Reliability", "宇宙飛行士", "Retrieval", "data:image/jpeg"):
        assert word in page


def test_quick_takes_a_few_pictures(clip: Clip, data: Path, tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", clip.stamp())
    outcome = run_suite(clip, read_suite(data / "suite.toml"), run, quick=True)
    assert outcome.failures == []
    assert max(one.n for one in read_run(run.folder) if one.task != "composition") <= 12
    assert run_suite(clip, read_suite(data / "suite.toml"), run).kept == 0  # the whole is another question


def test_changed_data_are_measured_again(clip: Clip, data: Path, tmp_path: Path) -> None:
    suite = Suite("one", data, (Entry("things", languages=("en", "ja")), Entry("told", tasks=("retrieval",))))
    run = open_run(tmp_path / "run", clip.stamp())
    assert run_suite(clip, suite, run).done == 3
    (data / "things" / "test" / "rocket" / "20.jpg").unlink()
    again = run_suite(clip, suite, run)
    assert (again.done, again.kept) == (2, 1)
    assert {one.n for one in read_run(run.folder) if one.data == "things"} == {5}


def test_other_training_pictures_and_other_sentences_are_another_question(
    clip: Clip, data: Path, tmp_path: Path
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("a photo of {}.")
    sets = Entry("things", templates=str(words)), Entry("things", tasks=("linear-probe",))
    suite, run = Suite("one", data, sets), open_run(tmp_path / "run", clip.stamp())
    assert run_suite(clip, suite, run).done == 2
    assert run_suite(clip, suite, run).kept == 2
    words.write_text("a drawing of {}.")
    assert (run_suite(clip, suite, run).done, run_suite(clip, suite, run).kept) == (1, 2)
    (data / "things" / "train" / "rocket" / "21.jpg").unlink()
    assert run_suite(clip, suite, run).done == 1


def test_what_fails_or_is_asked_for_no_more_is_no_result_of_the_run(clip: Clip, data: Path, tmp_path: Path) -> None:
    things, told = Entry("things", languages=("en", "ja")), Entry("told", tasks=("retrieval",))
    run = open_run(tmp_path / "run", clip.stamp())
    single = zero_shot(clip, open_labelled(data / "things"), "ja")
    run.add(key_of(single), single)
    run_suite(clip, Suite("one", data, (things, told)), run)
    assert len(read_run(run.folder)) == 4
    run_suite(clip, Suite("one", data, (replace(things, languages=("en",)), told)), run)
    assert sorted(one.task for one in read_run(run.folder)) == ["retrieval", "zero-shot", "zero-shot"]
    for picture in (data / "told").rglob("*.jpg"):
        picture.write_bytes(b"no picture")
    outcome = run_suite(clip, Suite("one", data, (replace(things, languages=("en",)), told)), run)
    assert [line[:15] for line in outcome.failures] == ["told: retrieval"]
    assert [one.task for one in read_run(run.folder)] == ["zero-shot", "zero-shot"]


def test_nothing_is_chosen_where_validation_is_measured_on(clip: Clip, data: Path, tmp_path: Path) -> None:
    (data / "things" / "test").rename(data / "things" / "val")
    entry = Entry("things", tasks=("calibration", "linear-probe"), validation="val")
    run = open_run(tmp_path / "run", clip.stamp())
    assert run_suite(clip, Suite("one", data, (entry,)), run).failures == []
    calibrated, probed = read_run(run.folder)
    assert "temperature" not in calibrated.figures
    assert probed.settings["validation"] == "a fifth of train"
    for one in (calibrated, probed):
        assert any("nothing is chosen on val" in note for note in one.notes)
    both = Suite("one", data, (replace(entry, split="val"),))
    assert len(run_suite(clip, both, run).failures) == 2  # as asked for, it cannot be done


def test_a_set_that_fails_costs_only_itself(clip: Clip, data: Path, tmp_path: Path) -> None:
    for picture in (data / "things").rglob("*.jpg"):
        picture.write_bytes(b"no picture")
    suite = read_suite(data / "suite.toml")
    outcome = run_suite(clip, suite, open_run(tmp_path / "run", clip.stamp()))
    assert (outcome.done, len(outcome.failures)) == (4, 5)
    assert outcome.failures[0].startswith("things: zero-shot, en: ")
    assert json.loads((tmp_path / "run" / "results.json").read_text())["failures"] == outcome.failures
    assert "could not be evaluated" in (tmp_path / "run" / "report.html").read_text()


def test_a_suite_of_which_nothing_can_be_done_still_says_so(clip: Clip, data: Path, tmp_path: Path) -> None:
    for picture in (data / "things").rglob("*.jpg"):
        picture.write_bytes(b"no picture")
    outcome = run_suite(clip, Suite("one", data, (Entry("things"),)), open_run(tmp_path / "run", clip.stamp()))
    assert len(outcome.failures) == 1
    assert read_run(tmp_path / "run") == []
    assert "could not be evaluated" in (tmp_path / "run" / "report.html").read_text()


def test_killed_in_the_middle_it_ends_in_the_same_file(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "awase", "evaluate", "suite", str(data / "suite.toml"), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    whole = (out / "results.json").read_bytes()
    shutil.rmtree(out)
    cold = os.environ | {"AWASE_CACHE": str(tmp_path / "cold")}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=cold)
    while process.poll() is None and len(list((out / "pieces").glob("*.json"))) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(list((out / "pieces").glob("*.json")))
    assert 2 <= kept < 9
    assert not (out / "results.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, env=cold)
    assert done.returncode == 0, done.stderr
    assert f"{kept} of 9 results were there from an earlier run" in done.stderr
    assert (out / "results.json").read_bytes() == whole


# ---- what is asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('[[set]]\npath = "things"\nlangauges = ["en"]', "did you mean 'languages'"),
        ('[[set]]\npath = "things"\ntasks = ["zeroshot"]', "did you mean 'zero-shot'"),
        ('[[set]]\npath = "things"\ntasks = "zero-shot"', "a list of texts is expected"),
        ('[[set]]\npath = "things"\nlanguages = []', "a list of texts is expected"),
        ('[[set]]\npath = "things"\nshots = [0]', "whole numbers above 0"),
        ('[[set]]\npath = "things"\nseeds = true', "a whole number above 0"),
        ('[[set]]\npath = 3', "a text is expected"),
        ('[[set]]\nsplit = "test"', "has no path"),
        ('set = "things"', "has no sets"),
        ('naem = "x"', "did you mean 'name'"),
        ('[[set]\npath = "things"', "TOML"),
    ],
)  # fmt: skip
def test_a_slip_in_a_suite_is_named(given: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "suite.toml"
    file.write_text(given)
    with pytest.raises(UsageError, match=said):
        read_suite(file)
    with pytest.raises(UsageError, match="does not exist"):
        read_suite(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("entry", "error", "said"),
    [
        ({"path": "things", "languages": ("en", "jp")}, UsageError, "'jp'; there is things .labelled: en, ja"),
        ({"path": "told", "tasks": ("retrieval",), "captions": ("caption_ja",)}, UsageError, "captions, captions_ja"),
        ({"path": "things", "tasks": ("retrieval",)}, UsageError, "nothing there can be used for retrieval"),
        ({"path": "absent"}, DataError, "absent"),
    ],
)
def test_what_no_set_has_is_an_error(entry: dict[str, Any], error: type, said: str, data: Path) -> None:
    with pytest.raises(error, match=said):
        jobs_of(Suite("one", data, (Entry(**entry),)))


def test_an_entry_may_hold_several_sets_and_lie_in_an_archive(data: Path, tmp_path: Path) -> None:
    entry = Entry("all", tasks=("zero-shot", "retrieval"), languages=("en", "ja"), captions=("captions", "captions_ja"))
    shutil.make_archive(str(tmp_path / "there" / "all"), "tar", data)
    (tmp_path / "folder").mkdir()
    shutil.copytree(data, tmp_path / "folder" / "all")
    listed = [[str(job) for job in jobs_of(Suite("one", tmp_path / place, (entry,)))] for place in ("there", "folder")]
    assert listed[0] == listed[1]
    assert listed[0] == ["things: zero-shot, en", "things: zero-shot, ja", "told: retrieval, captions",
                         "told: retrieval, captions_ja"]  # fmt: skip
    with pytest.raises(UsageError, match="twice"):
        jobs_of(Suite("one", tmp_path / "folder", (entry, entry)))


def test_sets_that_differ_in_words_or_splits_are_told_apart(data: Path) -> None:
    tasks = ("calibration", "linear-probe")
    plain = Entry("things", split="test", tasks=tasks)
    other = replace(plain, templates="ensemble", validation="train")
    entries = plain, other, replace(other, templates=("a {}.",)), replace(other, templates=None)
    jobs = [job for entry in entries for job in jobs_of(Suite("one", data, (entry,)))]
    assert len({job.key for job in jobs if job.task == "calibration"}) == 4
    assert len({job.key for job in jobs if job.task == "linear-probe"}) == 2  # templates are nothing to a probe
    with pytest.raises(UsageError, match="twice"):
        jobs_of(Suite("one", data, (Entry("things"), Entry("things", validation="train"))))
    worded = Suite("one", data, (Entry("things"), Entry("things", templates="ensemble")))
    assert [job.task for job in jobs_of(with_probes(worded, "linear-probe"))] == ["linear-probe"]
    assert len(jobs_of(with_probes(worded, "zero-shot"))) == 2


@pytest.mark.shared
def test_the_shared_suite_finds_every_set(shared_data: Path) -> None:
    file = Path(__file__).parents[1] / "recipes" / "suites" / "shared.toml"
    jobs = jobs_of(read_suite(file, shared_data))
    assert len(jobs) > 180
    assert len({job.key for job in jobs}) == len(jobs)
    assert {job.task for job in jobs} == {"zero-shot", "calibration", "linear-probe", "retrieval", "composition"}
    assert len({job.found.name for job in jobs}) == 8 + 71 + 4
