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

from awase.cli import main
from awase.cli.options import MOST_BYTES
from awase.cli.output import visible
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
        (["classify", CAT, "--labels-file", "absent.txt"], "absent.txt' does not exist"),
        (["classify", CAT, "--labels-file", ""], "cannot be read"),
        (["classify", CAT, "--labels-file", str(EXAMPLES)], "a folder"),
        (["classify", CAT, "--labels-file", CAT], "not UTF-8"),
        (["classify", CAT, "--labels", "cat", "--threads", "0"], "--threads"),
        (["classify", CAT, "--labels", "cat", "--threads", "99999999999999999999"], "--threads"),
        (["classify", CAT, "--labels", "cat", "--max-pixels", "0"], "--max-pixels"),
        (["classify", CAT, "--labels", "cat", "--max-bytes", "-1"], "--max-bytes"),
        (["classify", CAT, "--labels", "cat", "--model", ""], "bundled model"),
        (["classify", CAT, "--labels", "cat,none of these", "--none-of-these"], "none of these"),
        (["classify", str(EXAMPLES / "*.txt"), "--labels", "cat"], "no pictures found"),
        (["match", CAT, " "], "at least one letter"),
        (["encode", CAT, "--out", "v.csv"], ".npz"),
        (["encode", CAT, "--out", str(EXAMPLES / "x.npz" / "v.npz")], "no such folder"),
        (["encode", "--out", "v.npz"], "nothing to encode"),
        (["encode", CAT, "--out", "v.npz", "--batch-size", "0"], "--batch-size"),
        (["convert", "awase", "--to", "huggingface", "somewhere"], "awase"),
        ([], "COMMAND"),
        (["paint"], "paint"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: an exception that escapes fails the test as it is."""
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert said in capsys.readouterr().err


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


def test_two_encodings_to_one_file_do_not_mix(tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "v.npz"
    folder.mkdir()
    for i in range(100):
        (folder / f"{i:03}.jpg").write_bytes(Path(CAT).read_bytes())
    command = [sys.executable, "-m", "awase", "encode", str(folder), "--out", str(out)]
    first, second = (subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2))
    said = {first.communicate()[1]: first.returncode, second.communicate()[1]: second.returncode}
    assert sorted(said.values()) == [0, 2], said
    refused = next(text for text, code in said.items() if code == 2)
    assert "is writing here; wait until it ends" in refused
    assert len(refused.splitlines()) == 1
    assert len(np.load(out)["vectors"]) == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "v.npz"]


def test_encoding_nothing_leaves_a_good_file_alone(tmp_path: Path) -> None:
    out, empty, bad, blank = (tmp_path / name for name in ("v.npz", "empty", "bad.jpg", "blank.txt"))
    done = awase("encode", CAT, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "1 picture and 0 sentences -> " in done.stderr
    good = out.read_bytes()
    empty.mkdir()
    bad.write_text("not a picture")
    blank.write_text("\n\n")
    for arguments, code, said in (
        ([str(empty)], 2, "no pictures found in"),
        (["--texts", str(blank)], 2, "no sentences in"),
        ([str(bad)], 1, "every picture failed (1)"),
    ):
        done = awase("encode", *arguments, "--out", str(out))
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert out.read_bytes() == good
    assert sorted(tmp_path.iterdir()) == sorted([out, empty, bad, blank])


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
    assert f"an earlier run encoded {kept} of 400 pictures" in done.stderr
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


def test_doctor_says_what_would_run_and_names_a_bad_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("not a picture")
    engines = {"onnxruntime": "1.0", "openvino": "not installed: pip install 'awase[openvino]'"}
    monkeypatch.setattr("awase.encoding.engines.available_engines", lambda: engines)
    assert main(["doctor", str(bad), CAT]) == 1
    said = capsys.readouterr()
    assert f"{bad}: is of no known picture format" in said.err
    for word in ("onnxruntime", "awase[openvino]", "core", "From 1 file", "read", "decode", "resize", "tower"):
        assert word in said.out


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


def shell(line: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    """A line of POSIX shell in which "$awase" is the command and "$cat" the picture."""
    command = f'awase() {{ "{sys.executable}" -m awase "$@"; }}; cat="{CAT}"; {line}'
    return subprocess.run(["sh", "-c", command], capture_output=True, env=os.environ | settings)


posix = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")


@posix
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("awase models >/dev/full", 1, b"No space left"),
        ("awase models --json >/dev/full", 1, b"No space left"),
        ("awase models --json >&-", 0, b""),
        ('awase classify "$cat" --labels-file /dev/zero', 2, b"device"),
        ('awase classify "$cat" --labels-file - <&-', 2, b"standard input"),
    ],
)
def test_odd_inputs_and_outputs_are_one_line_at_most(line: str, code: int, said: bytes) -> None:
    if "/dev/full" in line and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    done = shell(line)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count(b"\n") <= 1


@posix
@pytest.mark.parametrize("encoding", ["ascii", "cp437", "shift_jis", "utf-8"])
def test_tables_on_terminals_that_lack_characters(encoding: str) -> None:
    labels = "猫,🐶,[b]x :cat: \x1b[31m\u202e"
    done = shell(f"awase classify \"$cat\" --labels '{labels}'", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding)
    assert "[b]x :cat: [31m" in shown
    assert not set("\x1b\u202e") & set(shown)
    assert ("🐶" in shown) == (encoding == "utf-8")


def test_what_steers_a_terminal_is_not_shown() -> None:
    assert visible("a\x1b[0m\u2066猫\u200d\x9b\n") == "a[0m猫\u200d\n"


def test_a_missing_picture_stops_no_other_and_other_files_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pdf").touch()
    (tmp_path / "b.jpg").write_bytes(Path(CAT).read_bytes())
    assert main(["classify", "absent.jpg", str(tmp_path), "--labels", "cat,dog", "--json"]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1
    assert "absent.jpg: does not exist" in said.err
    assert "1 other file passed over" in said.err
    assert main(["classify", "absent.jpg", "--labels", "cat"]) == 1


def test_too_long_a_file_of_labels_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "labels.txt").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    assert main(["classify", CAT, "--labels-file", str(tmp_path / "labels.txt")]) == 2
    assert "over 64 MiB" in capsys.readouterr().err


@pytest.mark.parametrize("columns", [80, 200])
def test_models_keep_their_names_whole(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("awase.cli.models.width", lambda: columns)
    monkeypatch.setattr("awase.cli.output.width", lambda: columns)
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("hf-hub:laion/CLIP-ViT-bigG-14-laion2B-39B-b160k " in line for line in lines)
    assert ("parameters" in lines[1]) == (columns > 80)


@posix
@pytest.mark.parametrize("form", ["", "--json"])
def test_a_reader_that_has_gone_is_no_error(form: str) -> None:
    done = shell(f"{{ awase models {form}; echo $? >&2; }} | true")
    assert done.stderr.split() == [b"0"]
