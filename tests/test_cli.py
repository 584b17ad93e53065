"""The command line as a user meets it: in its own process, wrong use included."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hostile import make_hostile

EXAMPLES = Path(__file__).parents[1] / "examples"
CAT = str(EXAMPLES / "cat.jpg")


def awase(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "awase", *arguments], capture_output=True, text=True, input=stdin)


def test_classify_as_a_table() -> None:
    done = awase("classify", CAT, "--labels", "cat,dog,car,tree")
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("cat ") < done.stdout.index("dog ")
    assert "onnxruntime fp32" in done.stdout
    assert done.stderr == ""


def test_classify_as_json_for_many() -> None:
    done = awase("classify", CAT, CAT, "--labels", "犬、猫, 車", "--top", "2", "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["picture"] for line in lines] == [CAT, CAT]
    assert set(lines[0]) == {"picture", "model", "scores"}
    assert lines[0]["scores"][0]["label"] == "猫"
    assert len(lines[0]["scores"]) == 2
    assert set(lines[0]["scores"][0]) == {"label", "probability", "similarity"}


def test_labels_from_a_file_and_from_standard_input(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a cat, asleep\n\n  a dog\n", encoding="utf-8-sig")
    from_file = awase("classify", CAT, "--labels-file", str(labels), "--template", "{}", "--json")
    from_stdin = awase("classify", CAT, "--labels-file", "-", "--template", "{}", "--json", stdin=labels.read_text())
    assert {s["label"] for s in json.loads(from_file.stdout)["scores"]} == {"a cat, asleep", "a dog"}
    assert json.loads(from_stdin.stdout)["scores"] != []


def test_a_bad_picture_costs_only_itself(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("not a picture")
    done = awase("classify", str(bad), CAT, "--labels", "cat,dog", "--json")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert str(bad) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify", CAT], "--labels"),
        (["classify", CAT, "--labels", ""], "no labels"),
        (["classify", CAT, "--labels", "cat,cat"], "more than once"),
        (["classify", CAT, "--labels", "cat", "--template", "a cat"], "{}"),
        (["classify", CAT, "--labels", "cat", "--templates", "nonsense"], "imagenet80"),
        (["classify", CAT, "--labels", "cat", "--top", "0"], "--top"),
        (["classify", CAT, "--labels", "cat", "--model", "no/such/folder"], "no/such/folder"),
        (["classify", CAT, "--labels", "cat", "--engine", "abacus"], "abacus"),
        (["classify", "absent.jpg", "--labels", "cat"], "absent.jpg"),
        (["classify", CAT, "--labels-file", "absent.txt"], "absent.txt"),
        (["encode", CAT, "--out", "v.csv"], ".npz"),
        (["encode", "--out", "v.npz"], "nothing to encode"),
        (["encode", CAT, "--out", "v.npz", "--batch-size", "0"], "--batch-size"),
        (["convert", "awase", "--to", "huggingface", "somewhere"], "awase"),
        ([], "COMMAND"),
        (["paint"], "paint"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_2(arguments: list[str], said: str) -> None:
    done = awase(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_match_says_how_well_each_fits_alone() -> None:
    done = awase("match", CAT, "a close-up of a cat", "a bus at night", "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]
    assert scores[0]["label"] == "a close-up of a cat"
    assert scores[0]["probability"] > 0.5 > scores[1]["probability"]
    assert awase("match", "absent.jpg", "a cat").returncode == 1


def test_encode_lists_every_bad_file_and_keeps_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(12):
        (folder / f"good {i}.jpg").write_bytes(Path(CAT).read_bytes())
    hostile = make_hostile(folder)
    texts = tmp_path / "texts.txt"
    texts.write_text("a cat\n猫\n")
    out = tmp_path / "v.npz"
    done = awase("encode", str(folder), *map(str, hostile), "--out", str(out), "--texts", str(texts))
    assert done.returncode == 1, done.stderr
    found = np.load(out)
    assert len(found["vectors"]) == 12
    assert all("good" in source for source in found["sources"])
    assert found["text_vectors"].shape == (2, found["vectors"].shape[1])
    for path in hostile:
        assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_killed_encoding_goes_on(tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "v.npz"
    folder.mkdir()
    content = Path(CAT).read_bytes()
    for i in range(400):
        (folder / f"{i:03}.jpg").write_bytes(content)
    command = [sys.executable, "-m", "awase", "encode", str(folder), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    lines = tmp_path / "v.npz.partial" / "rows.jsonl"
    while process.poll() is None and not (lines.exists() and lines.read_bytes().count(b"\n") >= 40):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    kept = lines.read_bytes().count(b"\n")
    assert kept >= 40
    done = awase("encode", str(folder), "--out", str(out))
    assert done.returncode == 0
    assert f"{kept} of 400 pictures were encoded by an earlier run" in done.stderr
    vectors = np.load(out)["vectors"]
    assert vectors.shape[0] == 400
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], 400, 0), atol=1e-5)
    assert not lines.exists()


def test_models_lists_the_bundled_one_first() -> None:
    done = awase("models", "--json")
    assert done.returncode == 0, done.stderr
    models = [json.loads(line) for line in done.stdout.splitlines()]
    assert models[0]["name"].startswith("awase")
    assert models[0]["languages"] == ["en", "ja"]
    assert 0 < models[0]["megabytes"] < 40
    assert any(model["name"] == "openai/clip-vit-base-patch32" for model in models)
    assert "ViT-L-14" in awase("models").stdout


def test_convert_to_our_own_layout_changes_nothing(tmp_path: Path) -> None:
    copy = str(tmp_path / "copy")
    assert awase("convert", "awase", "--to", "awase", copy).returncode == 0
    before, after = (
        json.loads(awase("classify", CAT, "--labels", "cat,dog", "--json", *model).stdout)["scores"]
        for model in ([], ["--model", copy])
    )
    assert [s["label"] for s in before] == [s["label"] for s in after]
    np.testing.assert_allclose([s["similarity"] for s in before], [s["similarity"] for s in after], atol=1e-5)
    again = awase("convert", "awase", "--to", "awase", copy)
    assert again.returncode == 2
    assert copy in again.stderr


def test_doctor_says_what_would_run() -> None:
    done = awase("doctor")
    assert done.returncode == 0, done.stderr
    for word in ("onnxruntime", "cores", "read", "decode", "resize", "tower"):
        assert word in done.stdout


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, awase.cli\n"
        "try: awase.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = [m for m in ('torch', 'numpy', 'onnxruntime', 'PIL', 'onnx', 'rich') if m in sys.modules]\n"
        "print(heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "classify" in done.stdout
    assert done.stderr.strip() == "[]"


def test_the_main_job_imports_no_torch() -> None:
    code = (
        "import sys, awase.cli\n"
        f"awase.cli.main(['classify', {CAT!r}, '--labels', 'cat,dog', '--json'])\n"
        "print([m for m in ('torch', 'transformers', 'open_clip') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().endswith("[]")


def test_output_into_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-m", "awase", "classify", CAT, "--labels", "cat,dog", "--json"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert "Traceback" not in done.stderr
