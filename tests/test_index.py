"""`awase index`: folders become a library, again and again, and only what changed costs anything."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from awase import clip as clip_module
from awase.cli import main
from awase.cli.index import Report
from awase.encoding.pictures import open_picture, open_unread
from awase.loading import load
from awase.tasks.search import indexing
from awase.tasks.search.checking import check
from awase.tasks.search.details import content_hash, details_of, likeness_of
from awase.tasks.search.entries import File, Refusal
from awase.tasks.search.scanning import Changes
from awase.tasks.search.store import Row, open_library
from hostile import make_hostile, make_odd, photograph, saved


def make_pictures(folder: Path, count: int, first: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.jpg" for number in range(first, first + count)]
    for number, path in enumerate(paths, first):
        path.write_bytes(saved(photograph(80, 60, seed=number), "JPEG"))
    return paths


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    make_pictures(tmp_path / "pictures" / "a", 6)
    make_pictures(tmp_path / "pictures" / "b", 6, first=6)
    return tmp_path / "pictures"


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of the batches that went through the image tower."""
    sizes: list[int] = []
    original = clip_module.encode_stream

    def counting(sources: Any, prepare: Any, run: Any, *rest: Any) -> Any:
        def counted(pixels: np.ndarray) -> Any:
            sizes.append(len(pixels))
            return run(pixels)

        return original(sources, prepare, counted, *rest)

    monkeypatch.setattr(clip_module, "encode_stream", counting)
    return sizes


def index(*arguments: object, capsys: pytest.CaptureFixture[str], expect: int = 0) -> dict[str, Any]:
    code = main(["index", *map(str, arguments), "--json"])
    said = capsys.readouterr()
    assert code == expect, said.err
    return json.loads(said.out)


def rows_of(db: Path) -> dict[str, Row]:
    with open_library(db) as store:
        return {row.path: row for row in store.rows(store.select([]))}


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_vectors_are_those_of_encode(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "db"
    made = index(pictures, "--db", db, capsys=capsys)
    assert (made["pictures"], made["encoded"], made["failed"]) == (12, 12, [])
    paths = sorted(map(str, pictures.rglob("*.jpg")))
    with open_library(db) as store:
        ids = np.array([store.find(path) for path in paths])
        assert np.allclose(store.vectors(ids), load().encode_images(paths), atol=1e-6)
        assert store.roots() == [str(pictures)]
        assert {row.root for row in store.rows(ids)} == {str(pictures)}
        for path, thumbnail in zip(paths, store.thumbnails(ids), strict=True):
            assert thumbnail is not None
            assert np.asarray(open_picture(thumbnail)).shape == np.asarray(open_picture(path)).shape
    assert check(db).pictures == 12


def test_facts_of_a_photograph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x010E] = "Canon", "Canon EOS R6", "Our\x00 garden"
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9003] = "2024:05:03 14:10:59"
    exif.get_ifd(0x8825).update({1: "S", 2: (35.0, 30.0, 36.0), 3: "E", 4: (139.0, 45.0, 0.0)})
    folder = tmp_path / "p"
    folder.mkdir()
    photograph(600, 400).save(folder / "wrong-name.png", "JPEG", exif=exif)
    index(folder, "--db", tmp_path / "db", capsys=capsys)
    (row,) = rows_of(tmp_path / "db").values()
    assert (row.format, row.width, row.height) == ("JPEG", 400, 600)
    assert (row.taken, row.moment) == ("2024-05-03T14:10:59",) * 2
    assert (row.camera, row.caption) == ("Canon EOS R6", "Our")
    assert row.latitude == pytest.approx(-35.51)
    assert row.longitude == pytest.approx(139.75)
    with open_library(tmp_path / "db") as store:
        (thumbnail,) = store.thumbnails([0])
    assert thumbnail is not None
    small = open_picture(thumbnail)
    assert small.size == (171, 256)
    assert dict(small.getexif()) == {}  # the place of the owner's home does not travel with it


@pytest.mark.parametrize(
    "exif",
    [
        {0x8825: {1: "N", 2: (0, 0, 0), 3: "E", 4: (0, 0, 0)}},
        {0x8825: {1: "N", 2: (95, 0, 0), 3: "E", 4: (0, 0, 0)}},
        {0x8825: {2: (1, 0, 0)}},
        {0x8769: {0x9003: "0000:00:00 00:00:00"}},
        {0x0132: "yesterday"},
        {0x010E: "OLYMPUS DIGITAL CAMERA"},
        {0x010F: "\x1b[31m\n"},
    ],
)
def test_facts_that_mean_nothing_are_left_out(exif: dict[int, Any]) -> None:
    tags = Image.Exif()
    for tag, value in exif.items():
        tags[tag] = value
    data = saved(photograph(), "JPEG", exif=tags)
    its = details_of(open_picture(data), open_unread(data), data, content_hash(data))
    assert (its.taken, its.caption, its.latitude, its.longitude) == (None,) * 4
    assert (its.camera or "").isprintable()


def test_odd_pictures_have_details(tmp_path: Path) -> None:
    for path in make_odd(tmp_path):
        data = path.read_bytes()
        picture = open_picture(data)
        its = details_of(picture, open_unread(data), data, content_hash(data))
        assert (its.width, its.height) == picture.size, path
        assert max(open_picture(its.thumbnail).size) <= 256
        assert its.format


def test_likeness_knows_a_resized_copy_from_another_picture() -> None:
    first = photograph(400, 300, seed=1)
    smaller = open_picture(saved(first.resize((200, 150)), "JPEG", quality=60))
    turned = first.transpose(Image.Transpose.ROTATE_180)
    assert (likeness_of(first) ^ likeness_of(smaller)).bit_count() <= 6
    assert (likeness_of(first) ^ likeness_of(turned)).bit_count() > 12


# ---- only what changed -----------------------------------------------------------------------------------------------


def test_a_second_run_opens_nothing(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "db"
    index(pictures, "--db", db, capsys=capsys)
    monkeypatch.setattr(indexing, "read_file", lambda *_: pytest.fail("a file was opened"))
    again = index("--db", db, capsys=capsys)  # the folders are known
    assert (again["unchanged"], again["encoded"], again["known"]) == (12, 0, 0)


def test_renamed_copied_and_touched_pictures_are_not_encoded_again(
    pictures: Path, tmp_path: Path, encodings: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    db = tmp_path / "db"
    index(pictures, "--db", db, capsys=capsys)
    before = rows_of(db)
    assert sum(encodings) == 12
    (pictures / "a").rename(pictures / "c")
    shutil.copy(pictures / "b" / "0006.jpg", pictures / "copy.jpg")
    os.utime(pictures / "b" / "0007.jpg", (1, 1))
    done = index(pictures, "--db", db, capsys=capsys)
    after = rows_of(db)
    assert (done["encoded"], done["known"], done["unchanged"], done["pictures"]) == (0, 8, 5, 13)
    assert done["forgotten"] == 0
    assert sum(encodings) == 12
    assert sorted(map(str, pictures.rglob("*.jpg"))) == sorted(after)
    moved = before[str(pictures / "a" / "0003.jpg")]
    assert after[str(pictures / "c" / "0003.jpg")].id == moved.id  # a move touches no vector
    assert after[str(pictures / "b" / "0007.jpg")].time == 1
    with open_library(db) as store:
        assert store.nearest(store.vectors(np.array([moved.id])), 1)[0].item() == moved.id
    assert check(db).damaged == []


def test_two_pictures_that_change_places(
    pictures: Path, tmp_path: Path, encodings: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    db, one, two = tmp_path / "db", pictures / "a" / "0000.jpg", pictures / "a" / "0001.jpg"
    index(pictures, "--db", db, capsys=capsys)
    before = {path: row.content for path, row in rows_of(db).items()}
    one.rename(pictures / "x")
    two.rename(one)
    (pictures / "x").rename(two)
    for number, path in enumerate((one, two)):
        os.utime(path, (number, number))
    index(pictures, "--db", db, capsys=capsys)
    after = {path: row.content for path, row in rows_of(db).items()}
    assert (after[str(one)], after[str(two)]) == (before[str(two)], before[str(one)])
    assert len(after) == 12
    assert sum(encodings) == 12


def test_changed_and_deleted_pictures(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "db"
    index(pictures, "--db", db, capsys=capsys)
    (pictures / "a" / "0000.jpg").write_bytes(saved(photograph(90, 60, seed=99), "JPEG"))
    (pictures / "a" / "0001.jpg").write_bytes(b"no picture any more")
    (pictures / "a" / "0002.jpg").unlink()
    done = index(pictures, "--db", db, capsys=capsys, expect=1)
    assert (done["encoded"], done["forgotten"], done["pictures"], len(done["failed"])) == (1, 1, 10, 1)
    assert rows_of(db)[str(pictures / "a" / "0000.jpg")].width == 90


def test_a_folder_that_is_not_there_loses_nothing(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = tmp_path / "db"
    index(pictures / "a", pictures / "b", "--db", db, capsys=capsys)
    (pictures / "a").rename(tmp_path / "unmounted")
    for _ in range(2):
        done = index("--db", db, capsys=capsys)
        assert (done["absent"], done["forgotten"], done["pictures"]) == ({str(pictures / "a"): 6}, 0, 12)
        (pictures / "a").mkdir(exist_ok=True)  # then an empty one, as where a drive is to be mounted
    assert main(["library", "forget", str(pictures / "a"), "--db", str(db)]) == 0
    assert "6 pictures forgotten" in capsys.readouterr().err
    assert index("--db", db, capsys=capsys)["pictures"] == 6
    assert main(["library", "forget", str(pictures / "nonesuch"), "--db", str(db)]) == 2
    assert f"its folders: {pictures / 'b'}" in capsys.readouterr().err


def test_an_empty_library_keeps_its_folders(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures / "c").mkdir()
    index(pictures / "c", "--db", tmp_path / "db", capsys=capsys)
    (pictures / "a" / "0000.jpg").rename(pictures / "c" / "0000.jpg")
    assert index("--db", tmp_path / "db", capsys=capsys)["encoded"] == 1


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed_loses_nothing(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index(pictures, "--db", tmp_path / "db", capsys=capsys)
    (pictures / "a").chmod(0)
    done = index(pictures, "--db", tmp_path / "db", capsys=capsys, expect=1)
    (pictures / "a").chmod(0o755)
    assert (done["forgotten"], done["pictures"]) == (0, 12)


# ---- bad pictures ----------------------------------------------------------------------------------------------------


def test_hostile_files_are_named_and_remembered(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = [path for path in make_hostile(tmp_path / "pictures" / "hostile") if path.suffix]
    db = tmp_path / "db"
    done = index(pictures, "--db", db, capsys=capsys, expect=1)
    named = {failure["path"]: failure for failure in done["failed"]}
    assert done["pictures"] == 12
    assert len(named) >= 60
    assert set(named) <= set(map(str, bad))
    assert all(failure["reason"] and failure["remedy"] for failure in named.values())
    opened: list[str] = []
    original = indexing.open_for
    monkeypatch.setattr(indexing, "open_for", lambda read, *rest: opened.append(read.name) or original(read, *rest))
    again = index(pictures, "--db", db, capsys=capsys, expect=1)
    assert opened == []  # none was decoded; those that could not even be read were tried
    assert len(again["failed"]) == len(named)
    index(pictures, "--db", db, "--again", capsys=capsys, expect=1)
    assert len(opened) > 50
    opened.clear()
    index(pictures, "--db", db, "--max-pixels", "1000000", capsys=capsys, expect=1)
    assert len(opened) > 50  # another limit may let others in


def test_memory_that_did_not_suffice_is_no_fault_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "p", 1)

    def scarce(image: object) -> None:
        raise MemoryError

    with monkeypatch.context() as short:
        short.setattr("PIL.JpegImagePlugin.JpegImageFile.load", scarce)
        made = index(tmp_path / "p", "--db", tmp_path / "db", capsys=capsys, expect=1)
        assert "memory" in made["failed"][0]["reason"]
    assert index("--db", tmp_path / "db", capsys=capsys)["encoded"] == 1


@pytest.mark.parametrize("seconds", [10**10, -86_400])
def test_times_of_files_that_no_clock_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    (path,) = make_pictures(tmp_path / "p", 1)
    os.utime(path, (seconds, seconds))
    if os.stat(path).st_mtime != seconds:
        pytest.skip("this file system holds no such time")

    def refused(seconds: float) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(time, "localtime", refused)  # as Windows does before 1970
    assert index(tmp_path / "p", "--db", tmp_path / "db", capsys=capsys)["encoded"] == 1
    assert index("--db", tmp_path / "db", capsys=capsys)["unchanged"] == 1
    (row,) = rows_of(tmp_path / "db").values()
    assert row.moment[:4] in ("2262", "1969")


def test_what_a_person_reads(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = pictures / "a\x1b[31mb.jpg"
    bad.write_bytes(b"GIF89a, it says")
    (pictures / "notes.txt").write_text("x")
    assert main(["index", str(pictures), "--db", str(tmp_path / "db")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert "\\x1b[31mb.jpg: is damaged or cut short" in lines[0]
    assert "1 other file passed over" in lines[1]
    assert (
        lines[2] == f"awase: 12 pictures encoded, 1 failed, each named above; 12 pictures in all -> {tmp_path / 'db'}"
    )
    assert main(["index", "--db", str(tmp_path / "db")]) == 1
    assert "1 file held no picture in an earlier run" in capsys.readouterr().err


# ---- wrong use, interruptions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give folders"),
        (["no/such/folder"], "no such folder"),
        ([__file__], "is a file; give the folder"),
    ],
)
def test_wrong_use(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", *arguments, "--db", str(tmp_path / "db")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "db").exists()


def test_a_library_keeps_its_model(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "db"
    index(pictures, "--db", db, "--fast", capsys=capsys)
    make_pictures(pictures / "c", 1, first=50)
    assert index("--db", db, capsys=capsys)["encoded"] == 1  # with --fast, as it was made
    assert main(["index", "--db", str(db), "--model", "awase"]) == 2
    assert "--model awase --engine onnxruntime --precision fp32 --fast" in capsys.readouterr().err


def test_the_default_library(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWASE_LIBRARY", str(tmp_path / "mine"))
    assert index(pictures, capsys=capsys)["library"] == str(tmp_path / "mine")
    assert main(["library", "check"]) == 0
    assert "12 pictures are whole, 0 damaged" in capsys.readouterr().out


def test_check_mend_and_compact(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "db"
    index(pictures, "--db", db, capsys=capsys)
    data = bytearray((db / "vectors-0.f32").read_bytes())
    data[5000] ^= 4
    (db / "vectors-0.f32").write_bytes(data)
    assert main(["library", "check", "--db", str(db)]) == 1
    assert "0002.jpg: what the library keeps of it is damaged" in capsys.readouterr().err
    assert main(["library", "check", "--db", str(db), "--mend"]) == 0
    assert index("--db", db, capsys=capsys)["encoded"] == 1
    assert main(["library", "compact", "--db", str(db)]) == 0
    assert "12 pictures" in capsys.readouterr().err
    assert main(["library", "check", "--db", str(db), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 12


def start(*arguments: object, before: str = "pass") -> subprocess.Popen[str]:
    # A shell's background job ignores Ctrl-C, and so does all that it starts: here it is heard whoever runs the tests.
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = f"{hear}; import sys; from awase.cli import index, main; {before}; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "index", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_and_go_on(folder: Path, db: Path, rounds: int, seed: int) -> None:
    """Kills real runs at random; what was acknowledged stays, and at the end all is there, once."""
    dice = np.random.default_rng(seed)
    before: dict[str, Row] = {}
    for number in range(rounds):
        new = make_pictures(folder / str(number), 10, first=1000 + 10 * number)
        if number % 3 == 2:
            (folder / str(number - 1)).rename(folder / f"renamed {number}")
            shutil.rmtree(folder / str(number - 2))
        process = start(folder, "--db", db)
        deadline = time.monotonic() + dice.uniform(0.3, 1.5)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (db / "library.sqlite").exists():
            found = check(db)
            assert (found.damaged, found.faults) == ([], [])
            after = rows_of(db)
            lost = [path for path, row in before.items() if path not in after and Path(path).exists()]
            assert lost == []
            before = after
        assert new
    process = start(folder, "--db", db)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert sorted(rows_of(db)) == sorted(map(str, folder.rglob("*.jpg")))


def test_killed_runs_go_on(tmp_path: Path) -> None:
    kill_and_go_on(tmp_path / "p", tmp_path / "db", rounds=3, seed=0)


@pytest.mark.long
def test_many_killed_runs_go_on(tmp_path: Path) -> None:
    kill_and_go_on(tmp_path / "p", tmp_path / "db", rounds=60, seed=1)


def test_two_at_once(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from awase.tasks.search.writing import Writer

    clip = load()
    with Writer(tmp_path / "db", clip.stamp(), clip.name):
        assert main(["index", str(pictures), "--db", str(tmp_path / "db")]) == 2
    assert f"another run (process {os.getpid()}) is writing here" in capsys.readouterr().err


def test_a_file_that_can_still_not_be_read_is_no_news() -> None:
    one, other = (Refusal(File(path, 0, 0), 100, "is empty", "copy it again") for path in ("/a.jpg", "/b.jpg"))
    last = Report(Changes(), Counter(refused=1, encoded=3), [one])
    assert not Report(Changes(), Counter(refused=1), [one]).is_news_after(last)
    assert not Report(Changes()).is_news_after(last)
    assert Report(Changes(), Counter(refused=2), [one, other]).is_news_after(last)
    assert Report(Changes(), Counter(refused=1, forgotten=1), [one]).is_news_after(last)


def test_watching(pictures: Path, tmp_path: Path) -> None:
    often = "index.PAUSE = index.SETTLED = 0.2"
    process = start(pictures, "--db", tmp_path / "db", "--watch", "--json", before=often)
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["pictures"] <= 12  # settled, or some of them not yet
        make_pictures(pictures / "new", 2, first=70)
        totals = []
        for line in process.stdout:
            totals.append(json.loads(line)["pictures"])
            if totals[-1] == 14:
                break
        assert totals[-1] == 14
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
