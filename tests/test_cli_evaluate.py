"""`awase evaluate` and `awase score` as a user meets them: what is printed where, what is kept, and the exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from awase.cli import main
from awase.evaluation.runs import read_run
from references import tiny_open_clip
from test_suite import make_data

JSON_NAMES = {"task", "data", "split", "model", "n", "metrics", "intervals", "counts", "settings", "notes"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as left:  # argparse's own errors
        code = int(left.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def one_object(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code, out, err = printed(capsys, *arguments, "--json")
    assert code == 0, err
    assert out.count("\n") == 1
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("arguments", "metric"),
    [
        (["zero-shot", "things", "--language", "ja", "--templates", "ensemble"], "top1"),
        (["zero-shot", "things", "--template", "a picture of {}", "--split", "train"], "top1"),
        (["calibration", "things", "--validation", "train"], "ece_scaled"),
        (["robustness", "things", "--pictures", "1"], "relative"),
        (["linear-probe", "things", "--shots", "1,2", "--seeds", "2"], "top1_2_shot"),
        (["retrieval", "told", "--captions", "captions_ja"], "mean_recall"),
        (["composition", "told"], "accuracy"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_task_prints_one_object(
    arguments: list[str], metric: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, where, *more = arguments
    found = one_object(capsys, "evaluate", task, data / where, *more)
    assert found.keys() >= JSON_NAMES
    assert found["task"] == task
    assert found["data"] == where
    assert 0 <= found["metrics"][metric] <= 1.5
    low, high = found["intervals"][metric]
    assert low <= found["metrics"][metric] <= high
    assert found["counts"][metric] > 0


def test_a_task_prints_a_table_and_keeps_a_run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    for language in ("en", "ja"):
        code, printed_out, err = printed(
            capsys, "evaluate", "zero-shot", data / "things", "--language", language, "--out", out
        )
        assert code == 0, err
        assert "Top-1 accuracy" in printed_out
        assert "95 % interval" in printed_out
        assert "onnxruntime fp32" in printed_out
        assert f"report: {out}" in err
    assert [one.settings["language"] for one in read_run(out)] == ["en", "ja"]
    for name in ("results.json", "report.html", "tables/figures.csv", "plots/zero-shot.svg", "log.jsonl"):
        assert (out / name).stat().st_size > 0
    again, _, err = printed(capsys, "evaluate", "zero-shot", data / "things", "--out", out, "--fast")
    assert again == 2
    assert "another folder" in err


def test_pictures_that_cannot_be_read_are_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_data(tmp_path)
    (folder / "things" / "test" / "rocket" / "20.jpg").write_bytes(b"no picture")
    code, out, err = printed(capsys, "evaluate", "zero-shot", folder / "things", "--json")
    assert code == 1
    assert json.loads(out)["n"] == 5
    assert "20.jpg" in err


def test_a_result_that_is_replaced_is_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", "zero-shot", data / "things", "--out", tmp_path / "run", "--template"]
    told = [printed(capsys, *asked, template)[2] for template in ("{}", "{}", "{} 猫猫猫猫猫猫猫猫猫猫猫猫猫猫")]
    assert ["replaces a former result" in err for err in told] == [False, False, True]


def test_nothing_is_chosen_where_validation_is_measured_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(data / "things", tmp_path / "things")
    (folder / "test").rename(folder / "val")
    code, _, err = printed(capsys, "evaluate", "calibration", folder, "--validation", "val")
    assert code == 0, err
    assert "nothing is chosen on val" in err
    code, _, err = printed(capsys, "evaluate", "calibration", folder, "--validation", "val", "--split", "val")
    assert code == 2
    assert "val cannot be chosen on and measured on" in err


def test_a_suite_and_a_comparison(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text('[[set]]\npath = "things"\nlanguages = ["en", "ja"]\ntasks = ["zero-shot", "calibration"]')
    found = one_object(capsys, "evaluate", "suite", suite, "--data", data, "--out", tmp_path / "a")
    assert [(one["task"], one["in"], one["sets"]) for one in found["summary"]] == [
        ("zero-shot", "English", 1),
        ("zero-shot", "Japanese", 1),
        ("calibration", "English", 1),
        ("calibration", "Japanese", 1),
    ]
    assert main(["evaluate", "zero-shot", str(data / "things"), "--template", "{}", "--out", str(tmp_path / "b")]) == 0
    code, out, err = printed(capsys, "evaluate", "suite", suite, "--data", data, "--out", tmp_path / "a")
    assert code == 0
    assert "Means over sets" in out
    assert "4 of 4 results were there" in err
    compared = one_object(capsys, "evaluate", "compare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c")
    assert compared["models"] == ["awase", "awase"]
    assert [one["data"] for one in compared["comparisons"]] == ["things"]
    assert len(compared["remarks"]) == 2
    assert (tmp_path / "c" / "report.html").stat().st_size > 0
    code, out, err = printed(capsys, "evaluate", "compare", tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "of 1 sets" in out
    assert "Japanese" in err
    assert max(map(len, out.splitlines()[:-1])) <= 80, "the numbers fit a small terminal"


def test_two_models_are_run_and_compared(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_open_clip(tmp_path / "tiny")
    asked = ["compare", "awase", tmp_path / "tiny", "--suite", data / "suite.toml", "--out", tmp_path / "out"]
    found = one_object(capsys, "evaluate", *asked, "--quick")
    tasks = [(one["task"], one["in"], one["measure"]) for one in found["comparisons"]]
    assert ("zero-shot", "Japanese", "correct") in tasks
    assert ("linear-probe", "Features", "correct") in tasks
    assert {measure for task, _, measure in tasks if task == "retrieval"} == {"text_to_picture", "picture_to_text"}
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 2
    code, out, err = printed(capsys, "evaluate", *asked, "--quick")
    assert (code, err.count("0 results made, 9 there before")) == (0, 2), err
    assert "sentence → picture" in out
    code, _, err = printed(capsys, "evaluate", "compare", "awase", tmp_path / "tiny")
    assert code == 2
    assert "--suite" in err


def test_the_image_tower_of_a_model_is_a_backbone(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", "linear-probe", data / "things"]
    own, named = (one_object(capsys, *asked, *more) for more in ([], ["--backbone", "features:awase"]))
    assert own["metrics"] == named["metrics"]


def test_many_groups_do_not_bury_the_figures(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = data / "told" / "dev"
    rows = [json.loads(line) for line in (told / "metadata.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row |= {"file_name": str(told / row["file_name"]), "book": f"book {number % 15}", "half": "ab"[number % 2]}
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = one_object(capsys, "evaluate", "retrieval", tmp_path / "mine.jsonl")
    assert sum(" = " in name for name in found["metrics"]) == 17
    _, out, _ = printed(capsys, "evaluate", "retrieval", tmp_path / "mine.jsonl")
    assert "book = " not in out
    assert "book: gap" in out
    assert "17 figures of single groups" in out


@pytest.mark.parametrize("backbone", ["features:awase", "means.onnx"])
def test_zero_shot_against_a_backbone(
    backbone: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figure of the CLIP paper: the other model answers in words, the backbone by a linear probe."""
    monkeypatch.chdir(tmp_path)
    mean_colours(tmp_path / "means.onnx")
    asked = ["compare", "awase", backbone, "--suite", data / "suite.toml", "--out", "out"]
    found = one_object(capsys, "evaluate", *asked)
    compared = {(one["task"], one["against"], one["in"]) for one in found["comparisons"]}
    assert compared == {("zero-shot", "linear-probe", "English"), ("zero-shot", "linear-probe", "Japanese")}
    assert found["remarks"] == []
    page = Path("out/report.html").read_text("utf-8")
    assert "Zero-shot classification against linear probe" in page
    assert backbone.removesuffix(".onnx") in page


def test_a_linear_probe_of_a_backbone(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mean_colours(tmp_path / "means.onnx")
    asked = ["linear-probe", data / "things", "--backbone", tmp_path / "means.onnx"]
    found = one_object(capsys, "evaluate", *asked, "--out", tmp_path / "run")
    assert (found["model"], found["task"]) == ("means", "linear-probe")
    assert found["provenance"]["model"]["engine"] == "onnxruntime"
    assert len(found["provenance"]["model"]["fingerprint"]) == 64
    for wrong, said in (
        (["--backbone", "resnet50"], "timm:NAME, FILE.onnx or features:MODEL"),
        (["--backbone", tmp_path / "absent.onnx"], "is no file"),
        (["--backbone", "timm:no_such_net"], "no_such_net"),
        (["--backbone", tmp_path / "means.onnx", "--model", "awase"], "takes the place"),
    ):
        code, _, err = printed(capsys, "evaluate", "linear-probe", data / "things", *wrong)
        assert code == 2, err
        assert said in err


def mean_colours(file: Path) -> None:
    """An ONNX backbone with three features, for pictures of 32 x 32."""
    onnx = pytest.importorskip("onnx")
    shape = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("GlobalAveragePool", ["x"], ["y"])],
        "means",
        [shape("x", onnx.TensorProto.FLOAT, ["B", 3, 32, 32])],
        [shape("y", onnx.TensorProto.FLOAT, ["B", 3, 1, 1])],
    )
    onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]), file)


def test_score_judges_pairs(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = next((data / "things" / "test" / "rocket").iterdir())
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"picture,caption\n{picture},a rocket\n{picture},a cup of coffee\n")
    found = one_object(capsys, "score", pairs)
    assert found["n"] == 2
    first, second = (row["clip_score"] for row in found["pairs"])
    assert first > second
    assert found["metrics"]["clip_score"] == pytest.approx((first + second) / 2)
    code, out, err = printed(capsys, "score", pairs)
    assert code == 0, err
    assert f"{first:.3f}" in out
    assert "CLIPScore" in out
    pairs.write_text(f"picture,caption\n{picture},a rocket\nabsent.jpg,a cup of coffee\n")
    code, _, err = printed(capsys, "score", pairs)
    assert code == 1
    assert "absent.jpg" in err


TASKS = [*["zero-shot", "calibration", "robustness", "linear-probe", "retrieval", "composition", "suite", "compare"]]
WRONG = [
    (["evaluate"], "TASK"),
    (["evaluate", "nonsense"], "nonsense"),
    (["evaluate", "zero-shot", "absent"], "absent"),
    (["evaluate", "zero-shot", "DATA/things", "--language", "xx"], "'xx'"),
    (["evaluate", "zero-shot", "DATA/things", "--split", "dev"], "test, train"),
    (["evaluate", "zero-shot", "DATA/things", "--template", "a cat"], "{}"),
    (["evaluate", "zero-shot", "DATA/things", "--templates", "nonsense"], "ensemble"),
    (["evaluate", "zero-shot", "DATA/things", "--templates", "simple", "--template", "{}"], "not allowed"),
    (["evaluate", "zero-shot", "DATA/things", "--definition", "nonsense"], "nonsense"),
    (["evaluate", "zero-shot", "DATA/things", "--column", "nonsense"], "nonsense"),
    (["evaluate", "zero-shot", "DATA/told"], "told"),
    (["evaluate", "zero-shot", "DATA/things", "--out", "DATA/suite.toml"], "is a file"),
    (["evaluate", "zero-shot", "DATA/things", "--out", "DATA"], "not empty"),
    (["evaluate", "retrieval", "DATA/told", "--captions", "nonsense"], "captions_ja"),
    (["evaluate", "retrieval", "DATA/things"], "things"),
    (["evaluate", "robustness", "DATA/things", "--pictures", "0"], "--pictures"),
    (["evaluate", "linear-probe", "DATA/things", "--shots", "1,x"], "--shots"),
    (["evaluate", "linear-probe", "DATA/things", "--seeds", "0"], "--seeds"),
    (["evaluate", "suite", "absent.toml", "--out", "OUT"], "absent.toml"),
    (["evaluate", "suite", "DATA/suite.toml"], "--out"),
    (["evaluate", "suite", "DATA/suite.toml", "--data", "DATA/things", "--out", "OUT"], "things"),
    (["evaluate", "compare", "DATA", "DATA"], "no run folder"),
    (["score", "absent.csv"], "absent.csv"),
    (["score", "DATA/suite.toml"], ".csv"),
]


@pytest.mark.parametrize(
    ("arguments", "said"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_use_is_one_clear_line_and_exit_2(
    arguments: list[str], said: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [one.replace("DATA", str(data)).replace("OUT", str(tmp_path / "out")) for one in arguments]
    code, out, err = printed(capsys, *filled)
    assert code == 2, out + err
    assert said in err
    lines = [line for line in err.splitlines() if line.startswith("awase")]
    assert len(lines) == 1, err
    assert out == ""


def test_help_of_every_task_says_what_it_takes_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, awase.cli\n"
        f"for task in {TASKS}:\n"
        "    try: awase.cli.main(['evaluate', task, '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = [m for m in ('torch', 'numpy', 'onnxruntime', 'PIL', 'onnx', 'rich') if m in sys.modules]\n"
        "print(heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for flag in (
        "--language",
        "--validation",
        "--pictures",
        "--shots",
        "--captions",
        "--data",
        "--out",
        "--suite",
        "--backbone",
        "features:MODEL",
    ):
        assert flag in done.stdout
    assert done.stderr.strip() == "[]"
