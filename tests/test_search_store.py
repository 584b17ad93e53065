"""The store of picture libraries: what comes back is what was put in, exactly, whatever happened in between."""

from __future__ import annotations

import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from awase.errors import LibraryError, MissingExtra, UsageError
from awase.tasks.search import ann, library, signs
from awase.tasks.search.checking import check, mend
from awase.tasks.search.entries import Details, Entry, File, Refusal
from awase.tasks.search.library import Library
from awase.tasks.search.store import Circle, Filter, Span, check_model, default_library, open_library
from awase.tasks.search.writing import Writer

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from library_crashes import crash_and_compare

D = 96  # not a multiple of 64
STAMP = {"family": "tiny", "fingerprint": "f" * 64, "engine": "onnxruntime", "precision": "fp32", "fast": False}
STAMP |= {"dimension": D}


def unit_rows(count: int, seed: int = 0, cone: float = 0.5) -> np.ndarray:
    """Clustered vectors in a cone, as encoders make them."""
    dice = np.random.default_rng(seed)
    centres = dice.standard_normal((max(1, count // 20), D)) + cone * dice.standard_normal(D)
    rows = centres[dice.integers(0, len(centres), count)] + 0.7 * dice.standard_normal((count, D))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def entry(number: int, folder: str = "/pictures") -> Entry:
    dice = random.Random(number)
    taken = f"20{number % 30:02d}-0{1 + number % 9}-15T12:00:00" if number % 3 else None
    place = (dice.uniform(-90, 90), dice.uniform(-180, 180)) if number % 2 else (None, None)
    details = Details(
        format=("JPEG", "PNG", "HEIC")[number % 3],
        width=100 + number,
        height=50,
        content=number.to_bytes(16, "little"),
        likeness=dice.getrandbits(64),
        thumbnail=b"thumbnail %d" % number,
        taken=taken,
        camera=("Canon EOS R6", "NIKON Z 6", None)[number % 3],
        latitude=place[0],
        longitude=place[1],
        caption=None,
    )
    return Entry(File(f"{folder}/{number % 4}/Ünsere {number}.jpg", 1000 * number, 1_700_000_000_000_000_000), details)


def make(folder: Path, count: int, seed: int = 0) -> np.ndarray:
    """A library of `count` rows; returns their vectors."""
    vectors = unit_rows(count, seed)
    with Writer(folder, STAMP, "tiny") as writer:
        writer.add_roots(["/pictures"])
        for at in range(0, count, 300):
            writer.add([entry(number) for number in range(at, min(at + 300, count))], vectors[at : at + 300])
    return vectors


def nearest_plainly(vectors: np.ndarray, queries: np.ndarray, k: int, ids: Sequence[int]) -> list[list[int]]:
    """In double precision, with a stable sort: an independent answer."""
    numbers = np.array(ids)
    cosines = queries.astype(float) @ vectors[numbers].astype(float).T
    return [numbers[np.argsort(-row, kind="stable")[:k]].tolist() for row in cosines]


# ---- what was put in comes back --------------------------------------------------------------------------------------


def test_rows_vectors_and_thumbnails_come_back(tmp_path: Path) -> None:
    vectors = make(tmp_path / "db", 50)
    with open_library(tmp_path / "db") as store:
        assert len(store) == 50
        assert (store.dimension, store.model, dict(store.stamp)) == (D, "tiny", STAMP)
        assert store.roots() == ["/pictures"]
        ids = np.array([7, 3, 49])
        assert np.array_equal(store.vectors(ids), vectors[ids])
        for row, number in zip(store.rows(ids), ids.tolist(), strict=True):
            its = entry(number)
            assert (row.id, row.path, row.root, row.size) == (number, its.file.path, "/pictures", its.file.size)
            for name in (
                "format",
                "width",
                "height",
                "content",
                "likeness",
                "taken",
                "camera",
                "latitude",
                "longitude",
            ):
                assert getattr(row, name) == getattr(its.details, name), name
            assert row.moment == (its.details.taken or row.moment)
            assert row.time == 1_700_000_000
        assert store.thumbnails([3, 7]) == [b"thumbnail 3", b"thumbnail 7"]
        assert store.find(entry(7).file.path) == 7
        assert store.find("/pictures/absent.jpg") is None


def test_names_of_files_can_be_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"/pictures/\xff\xfe'; DROP TABLE picture; --\n.jpg")
    with Writer(tmp_path / "db", STAMP, "tiny") as writer:
        writer.add([Entry(File(name, 1, 1), entry(1).details)], unit_rows(1))
    with open_library(tmp_path / "db") as store:
        assert store.rows([0])[0].path == name
        assert store.find(name) == 0
        assert store.select([Filter("folder", "pictures")]).tolist() == [0]


@pytest.mark.parametrize("limits", [(300_000, 4000), (50, 4000), (50, 20)], ids=["exact", "signs", "signs, filtered"])
def test_nearest_is_exact_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int]) -> None:
    monkeypatch.setattr(library, "EXACT_ROWS", limits[0])
    monkeypatch.setattr(library, "EXACT_AMONG", limits[1])
    dice = np.random.default_rng(1)
    vectors = make(tmp_path / "db", 700)
    vectors[600:610] = vectors[600]  # equal ones come back by id
    with Writer(tmp_path / "db") as writer:
        writer.add([entry(number) for number in range(600, 610)], vectors[600:610])  # ids 700 to 709
        dead = dice.choice(600, 150, replace=False)
        writer.delete([entry(number).file.path for number in dead.tolist()])
    vectors = np.concatenate([vectors, vectors[600:610]])
    living = sorted(set(range(710)) - set(dead.tolist()) - set(range(600, 610)))
    with open_library(tmp_path / "db") as store:
        assert store.select([]).tolist() == living
        for case in range(40):
            queries = vectors[dice.integers(0, 710, dice.integers(1, 40))] * 3 + 0.1 * unit_rows(1, case)
            k = int(dice.choice([1, 3, 10, 100, 9999]))
            among = None if case % 2 else dice.choice(living, int(dice.integers(1, 500)), replace=False)
            ids, cosines = store.nearest(queries, k, among)
            considered = living if among is None else sorted(among.tolist())
            queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
            assert ids.shape == cosines.shape == (len(queries), min(k, len(considered)))
            assert np.allclose(np.take_along_axis(queries @ vectors.T, ids, 1), cosines, atol=1e-6)
            expected = nearest_plainly(vectors, queries, k, considered)
            exact = np.take_along_axis(queries @ vectors.T, np.array(expected), 1)
            assert np.allclose(exact, cosines, atol=1e-6)  # the same rows, but for equal cosines
            assert all(len(set(row)) == len(row) for row in ids.tolist())
        ties = store.nearest(vectors[700:701], 10)[0][0]
        assert ties.tolist() == list(range(700, 710))


def test_a_sidecar_may_be_older_than_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "EXACT_ROWS", 100)
    monkeypatch.setattr("awase.tasks.search.writing.EXACT_ROWS", 100)
    vectors = make(tmp_path / "db", 2000)
    more = unit_rows(40, seed=3)
    with Writer(tmp_path / "db") as writer:
        writer.write_signs()
        writer.add([entry(number) for number in range(2000, 2040)], more)
        writer.delete([entry(number).file.path for number in (5, 2001)])
        writer.write_signs()  # too few are new
    with open_library(tmp_path / "db") as store:
        found = signs.read(signs.path_of(tmp_path / "db", 0), D, 2040)
        assert found is not None
        assert found.covers == 2000
        vectors = np.concatenate([vectors, more])
        living = [number for number in range(2040) if number not in (5, 2001)]
        queries = vectors[[5, 17, 2001, 2039]]
        assert store.nearest(queries, 10)[0].tolist() == nearest_plainly(vectors, queries, 10, living)
    (tmp_path / "db" / "signs-0.npy").write_bytes(b"damaged")
    with open_library(tmp_path / "db") as store:
        assert store.nearest(queries, 10)[0].tolist() == nearest_plainly(vectors, queries, 10, living)


def test_ann_measures_itself_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(library, "EXACT_ROWS", 100)
    monkeypatch.setattr(ann, "FEWEST", 1000)
    vectors = make(tmp_path / "db", 4000)
    with Writer(tmp_path / "db") as writer:
        writer.delete([entry(number).file.path for number in range(0, 4000, 10)])
        measured = writer.build_ann(unit_rows(20, seed=8))
        assert measured.recall_of_pictures >= 0.98
        writer.add([entry(0)], vectors[:1])
    living = [number for number in range(4000) if number % 10]
    with open_library(tmp_path / "db") as store:
        assert store._ann is not None
        found, _ = store.nearest(vectors[1:100:2], 10)
        expected = nearest_plainly(vectors, vectors[1:100:2], 10, living)
        assert np.mean([len({*a} & {*b}) for a, b in zip(found.tolist(), expected, strict=True)]) >= 9.8
        assert store.nearest(vectors[:1], 1)[0].item() == 4000  # added after the build


def test_what_is_left_out_is_no_candidate_however_few_are_left(tmp_path: Path) -> None:
    vectors = make(tmp_path / "db", 700)
    with Writer(tmp_path / "db") as writer:
        sidecar = signs.derive(writer._rows())
    dead = np.arange(600)
    for count in (50, 300, 700, 1000):
        found = sidecar.candidates(vectors[650], count, dead)
        assert len(found) >= min(count, 100)
        assert not np.isin(found, dead).any(), count


def test_signs_that_a_reader_holds_can_be_made_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where no file takes the place of one that is mapped."""
    make(tmp_path / "db", 100)

    def refused(source: object, to: object) -> None:
        raise PermissionError(13, "Access is denied")

    with Writer(tmp_path / "db") as writer:
        monkeypatch.setattr("awase.tasks.search.writing.EXACT_ROWS", 50)
        with monkeypatch.context() as held:
            held.setattr("os.replace", refused)
            writer.write_signs()
        assert not signs.path_of(tmp_path / "db", 0).exists()
        writer.write_signs()
    assert [its.name for its in (tmp_path / "db").glob("signs*")] == ["signs-0.npy"]


def test_ann_needs_its_extra_and_enough_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "db", 600)
    with Writer(tmp_path / "db") as writer:
        with pytest.raises(LibraryError, match="exact search is as fast"):
            writer.build_ann()
        monkeypatch.setattr(ann, "FEWEST", 10)
        monkeypatch.setitem(sys.modules, "faiss", None)
        with pytest.raises(MissingExtra, match=r"awase\[ann\]"):
            writer.build_ann()


# ---- filters ---------------------------------------------------------------------------------------------------------


def distance_plainly(a: tuple[float, float], b: tuple[float, float]) -> float:
    """By the angle between unit vectors: independent of the haversine."""
    points = [
        (
            math.cos(math.radians(lat)) * math.cos(math.radians(lon)),
            math.cos(math.radians(lat)) * math.sin(math.radians(lon)),
            math.sin(math.radians(lat)),
        )
        for lat, lon in (a, b)
    ]
    return 6371 * math.acos(max(-1.0, min(1.0, sum(x * y for x, y in zip(*points, strict=True)))))


def meets(its: Entry, one: Filter) -> bool:
    d, value = its.details, one.value
    moment = d.taken or "2023-11-1"  # 1_700_000_000 is in the night to the 15th somewhere
    if one.kind == "near" and isinstance(value, Circle):
        place = (value.latitude, value.longitude)
        return d.latitude is not None and distance_plainly((d.latitude, d.longitude or 0), place) <= value.kilometres
    if one.kind == "size" and isinstance(value, Span):
        measure = {"bytes": its.file.size, "pixels": d.width * d.height, "side": max(d.width, d.height)}[value.of]
        return (value.least is None or measure >= value.least) and (value.most is None or measure <= value.most)
    assert isinstance(value, str)
    return {
        "folder": f"/{value.strip('/').lower()}/" in f"{os.path.dirname(its.file.path)}/".lower(),
        "after": moment >= value,
        "before": moment < value,
        "camera": value.lower() in (d.camera or "").lower(),
        "type": d.format.lower() == {"jpg": "jpeg"}.get(value, value),
    }[one.kind]


FILTERS = [
    Filter("folder", "3"),
    Filter("folder", "/Pictures/1"),
    Filter("folder", "PICTURES/2/"),
    Filter("folder", "icture"),
    Filter("after", "2015"),
    Filter("after", "2015-06"),
    Filter("before", "2010-03-15T12:00"),
    Filter("camera", "canon"),
    Filter("camera", "z 6"),
    Filter("type", "jpg"),
    Filter("type", "png"),
    Filter("type", "\udcff"),  # what a terminal can send, and SQLite cannot take
    Filter("camera", "\udcff"),
    Filter("size", Span("bytes", least=30_000)),
    Filter("size", Span("pixels", most=6_000)),
    Filter("size", Span("side", 120, 150)),
    Filter("near", Circle(35.0, 139.0, 5000)),
    Filter("near", Circle(89.0, 0.0, 2500)),
]


def test_filters_alone_in_pairs_and_turned_round(tmp_path: Path) -> None:
    make(tmp_path / "db", 120)
    entries = [entry(number) for number in range(120)]
    turned = FILTERS + [replace(one, without=True) for one in FILTERS]
    dice = random.Random(0)
    with open_library(tmp_path / "db") as store:
        for chosen in [[one] for one in turned] + [dice.sample(turned, 2) for _ in range(30)]:
            expected = [n for n, its in enumerate(entries) if all(meets(its, one) != one.without for one in chosen)]
            assert store.select(chosen).tolist() == expected, chosen
        assert {len(store.select([one])) for one in FILTERS} - {0, 120} != set()


@pytest.mark.parametrize(
    ("kind", "value"),
    [("after", "May"), ("after", "2024-13"), ("near", "Tokyo"), ("size", "2MB"), ("folder", Span("side"))],
)
def test_a_filter_that_makes_no_sense_is_refused(kind: str, value: object) -> None:
    with pytest.raises(UsageError, match=kind):
        Filter(kind, value)  # type: ignore[arg-type]


def test_folder_forms(tmp_path: Path) -> None:
    """Letter case and composed or decomposed Unicode do not matter; signs of patterns are only characters."""
    paths = ["/p/Été 100%_[1]/a.jpg", "/p/E\u0301te\u0301 2/b.jpg", "/p/東京/c.jpg"]
    with Writer(tmp_path / "db", STAMP, "tiny") as writer:
        writer.add([Entry(File(path, 1, 1), entry(n).details) for n, path in enumerate(paths)], unit_rows(3))
    with open_library(tmp_path / "db") as store:
        for value, expected in (("été 2", [1]), ("ÉTÉ 100%_[1]", [0]), ("東京", [2]), ("%", []), ("_", []), ("t", [])):
            assert store.select([Filter("folder", value)]).tolist() == expected, value
        with pytest.raises(UsageError, match="folder"):
            store.select([Filter("folder", "/")])


# ---- snapshots, updates, compacting ----------------------------------------------------------------------------------


def test_a_reader_sees_one_state_until_it_refreshes(tmp_path: Path) -> None:
    vectors = make(tmp_path / "db", 100)
    with open_library(tmp_path / "db") as store:
        assert not store.refresh()
        with Writer(tmp_path / "db") as writer:
            writer.delete([entry(number).file.path for number in range(50)])
            writer.compact()
            writer.add([entry(1000)], unit_rows(1, seed=5))
            assert len(store) == 100
            assert store.rows([3])[0].path == entry(3).file.path
            assert store.nearest(vectors[3:4], 1)[0].item() == 3
        assert store.generation == 0
        assert store.refresh()
        assert (len(store), store.generation) == (51, 1)
        assert store.rows([0])[0].path == entry(50).file.path
        assert np.array_equal(store.vectors(np.arange(50)), vectors[50:])
        assert store.find(entry(1000).file.path) == 50
    assert not (tmp_path / "db" / "vectors-0.f32").exists()
    assert check(tmp_path / "db").pictures == 51


def test_a_reader_who_may_not_write_sees_what_was_written_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "db", 20)
    writable, access = [False], os.access
    monkeypatch.setattr(os, "access", lambda place, mode: access(place, mode) and (mode != os.W_OK or writable[0]))
    with open_library(tmp_path / "db") as store:
        assert not store.refresh()
        writable[0] = True
        with Writer(tmp_path / "db") as writer:
            writer.add([entry(20)], unit_rows(1, seed=5))
        writable[0] = False
        assert len(store) == 20
        assert store.refresh()
        assert len(store) == 21
        assert store.rows([20])[0].path == entry(20).file.path
        assert not store.refresh()


def test_a_library_that_has_no_identity_is_opened(tmp_path: Path) -> None:
    """One that an earlier version made."""
    for name in ("one", "other"):
        make(tmp_path / name, 3)
    with open_library(tmp_path / "one") as one, open_library(tmp_path / "other") as other:
        assert one.identity != other.identity
    with sqlite3.connect(tmp_path / "one" / "library.sqlite") as database:
        database.execute("DELETE FROM fact WHERE name = 'identity'")
    with open_library(tmp_path / "one") as store:
        assert (store.identity, len(store)) == ("", 3)
    with Writer(tmp_path / "one", STAMP) as writer:
        assert writer.size() == (3, 0)


def test_a_path_has_one_row_whatever_is_written(tmp_path: Path) -> None:
    vectors = make(tmp_path / "db", 10)
    with Writer(tmp_path / "db") as writer:
        file = entry(3).file
        writer.add([Entry(file, entry(33).details)], unit_rows(1, seed=9))
        kept = writer.kept(entry(4).details.content, entry(4).file.path)
        assert kept is not None
        assert np.array_equal(kept.vector, vectors[4])
        moved = Entry(File(entry(5).file.path, 7, 7), kept.details)  # over what was there
        assert writer.move([(kept, moved)]) == []
        assert writer.move([(kept, moved)]) == [(kept, moved)]  # it is no longer at its old path
        assert writer.size() == (9, 2)
        writer.refuse([Refusal(File("/pictures/bad.jpg", 1, 2), 3, "is bad", "make it good")])
        assert writer.refusals()["/pictures/bad.jpg"].reason == "is bad"
        writer.add([Entry(File("/pictures/bad.jpg", 9, 9), entry(77).details)], unit_rows(1))
        assert writer.refusals() == {}
        assert writer.forget_root("/pictures") == 10
        assert writer.size()[0] == 0
        writer.compact()
    with open_library(tmp_path / "db") as store:
        assert (len(store), store.roots()) == (0, [])
        assert store.nearest(vectors, 5)[0].shape == (10, 0)
        assert store.sample(5).tolist() == []
    assert check(tmp_path / "db").faults == []


def test_samples_are_the_same_for_a_seed(tmp_path: Path) -> None:
    make(tmp_path / "db", 200)
    with Writer(tmp_path / "db") as writer:
        writer.delete([entry(number).file.path for number in range(100)])
    with open_library(tmp_path / "db") as store:
        assert store.sample(30, 1).tolist() == store.sample(30, 1).tolist() != store.sample(30, 2).tolist()
        assert set(store.sample(999).tolist()) == set(range(100, 200))


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_another_model_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    make(tmp_path / "db", 5)
    with open_library(tmp_path / "db") as store:
        check_model(store, STAMP)
        with pytest.raises(
            LibraryError,
            match=r"--model tiny --engine onnxruntime --precision fp32, or none;.*awase index FOLDER --db NEW",
        ):
            check_model(store, STAMP | {"fingerprint": "0" * 64})
    with pytest.raises(LibraryError, match="precision fp32, not int8"):
        Writer(tmp_path / "db", STAMP | {"precision": "int8"}, "tiny")


def test_ids_and_queries_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    vectors = make(tmp_path / "db", 5)
    with Writer(tmp_path / "db") as writer:
        writer.delete([entry(2).file.path])
    with open_library(tmp_path / "db") as store:
        for ids in ([5], [-1], [2]):
            for ask in (store.rows, store.thumbnails, store.vectors):
                with pytest.raises(LibraryError, match="no picture"):
                    ask(np.array(ids))
            with pytest.raises(LibraryError, match="no picture"):
                store.nearest(vectors, 1, np.array(ids))
        for queries in (vectors[0], vectors[:, :5], vectors * np.nan):
            with pytest.raises(UsageError, match="queries"):
                store.nearest(queries, 1)
        with pytest.raises(UsageError, match="k=0"):
            store.nearest(vectors, 0)


def test_one_writer_at_a_time_and_it_says_who(tmp_path: Path) -> None:
    with Writer(tmp_path / "db", STAMP, "tiny"), pytest.raises(UsageError, match=f"process {os.getpid()}"):
        Writer(tmp_path / "db")
    Writer(tmp_path / "db").close()


def test_a_folder_with_other_things_becomes_no_library(tmp_path: Path) -> None:
    (tmp_path / "holiday.new").write_text("mine")
    with pytest.raises(LibraryError, match=r"holiday\.new"):
        Writer(tmp_path, STAMP, "tiny")
    assert [its.name for its in tmp_path.iterdir()] == ["holiday.new"]
    with pytest.raises(LibraryError, match="awase index"):
        open_library(tmp_path)
    with pytest.raises(LibraryError, match="awase index"):
        Writer(tmp_path)


def test_where_libraries_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWASE_LIBRARY", str(tmp_path / "mine"))
    assert default_library() == tmp_path / "mine"
    monkeypatch.delenv("AWASE_LIBRARY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert default_library() == tmp_path / "awase" / "library"


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs another user, or none that may do everything")
def test_a_folder_that_may_not_be_written_can_be_read() -> None:
    script = (
        "import os, sys\n"
        "from awase.tasks.search.library import Library\n"
        "from awase.tasks.search.store import open_library\n"
        "os.setuid(65534) if os.getuid() == 0 else None\n"
        "store = open_library(sys.argv[1]); print(len(store), store.nearest(store.vectors([3]), 1)[0].item())"
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "db"
        make(folder, 20)
        Path(place).chmod(0o755)
        folder.chmod(0o555)
        done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True)
        folder.chmod(0o755)
    assert done.stdout == "20 3\n", done.stderr


# ---- damage ----------------------------------------------------------------------------------------------------------


def damaged_copy(folder: Path, name: str, change: object) -> Path:
    copy = folder.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    data = bytearray((copy / name).read_bytes())
    assert callable(change)
    (copy / name).write_bytes(change(data))
    return copy


def flip(place: int) -> object:
    def change(data: bytearray) -> bytearray:
        data[place] ^= 1 << random.Random(place).randrange(8)
        return data

    return change


def test_every_flipped_bit_of_the_vectors_is_noticed_and_mended(tmp_path: Path) -> None:
    make(tmp_path / "db", 40)
    dice = random.Random(4)
    for _ in range(20):
        place = dice.randrange(40 * 4 * D)
        copy = damaged_copy(tmp_path / "db", "vectors-0.f32", flip(place))
        found = check(copy)
        assert found.damaged == [entry(place // (4 * D)).file.path]
    mend(copy, found)
    assert check(copy).damaged == []
    assert check(copy).pictures == 39
    assert len(open_library(copy)) == 39


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e30])
def test_numbers_that_no_unit_vector_has_are_refused(tmp_path: Path, number: float) -> None:
    make(tmp_path / "db", 40)
    bad = np.full(D, number, np.float32).tobytes()
    copy = damaged_copy(tmp_path / "db", "vectors-0.f32", lambda data: data[: 4 * D] + bad + data[8 * D :])
    query = np.ones((1, D), np.float32)
    with open_library(copy) as library:
        for among in (None, np.array([0, 1, 5])):
            with pytest.raises(LibraryError, match="damaged; `awase library check --mend"):
                library.nearest(query, 3, among)
        assert library.nearest(query, 3, np.array([0, 2, 5]))[0].shape == (1, 3)
    mend(copy, check(copy))
    with open_library(copy) as library:
        assert 1 not in library.nearest(query, 40)[0]


def test_flipped_bits_of_the_rows_give_no_wrong_answer(tmp_path: Path) -> None:
    """Noticed by opening or by `check`, or without any consequence for what is answered."""
    make(tmp_path / "db", 60)
    with open_library(tmp_path / "db") as store:
        rows, thumbnails = store.rows(range(60)), store.thumbnails(range(60))
    size = (tmp_path / "db" / "library.sqlite").stat().st_size
    dice, noticed = random.Random(5), 0
    for _ in range(60):
        copy = damaged_copy(tmp_path / "db", "library.sqlite", flip(dice.randrange(size)))
        try:
            found = check(copy)
            if found.damaged or found.faults:
                noticed += 1
                continue
            with open_library(copy) as store:
                assert store.rows(range(60)) == rows
                assert store.thumbnails(range(60)) == thumbnails
        except LibraryError:
            noticed += 1
    assert noticed > 10  # the others hit free space


@pytest.mark.parametrize("keep", [0, 1000, 20 * 4 * D])
def test_a_file_of_vectors_cut_short(tmp_path: Path, keep: int) -> None:
    make(tmp_path / "db", 40)
    copy = damaged_copy(tmp_path / "db", "vectors-0.f32", lambda data: data[:keep])
    with pytest.raises(LibraryError, match=r"cut short .*check --mend --db"):
        open_library(copy)
    found = check(copy)
    assert len(found.damaged) == 40 - keep // (4 * D)
    mend(copy, found)
    assert len(open_library(copy)) == keep // (4 * D)


def test_a_missing_file_and_what_is_no_database(tmp_path: Path) -> None:
    make(tmp_path / "db", 10)
    copy = damaged_copy(tmp_path / "db", "library.sqlite", lambda data: b"not a database at all" * 300)
    with pytest.raises(LibraryError, match=r"damaged .*index again"):
        open_library(copy)
    copy = damaged_copy(tmp_path / "db", "library.sqlite", lambda data: data[:3000])
    with pytest.raises(LibraryError, match=r"damaged|is no library"):
        open_library(copy)
    (tmp_path / "db" / "vectors-0.f32").unlink()
    with pytest.raises(LibraryError, match="missing; put it back"):
        open_library(tmp_path / "db")
    assert len(check(tmp_path / "db").damaged) == 10


def test_a_library_of_the_future_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "db", 3)
    database = sqlite3.connect(tmp_path / "db" / "library.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(LibraryError, match="format 99"):
        open_library(tmp_path / "db")


# ---- no space, and kills ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX's")
@pytest.mark.parametrize("limit", [20_000, 60_000, 100_000, 200_000])
def test_no_space_leaves_the_library_as_it_was(tmp_path: Path, limit: int) -> None:
    """A limit on the length of files stands for a full disk: it fails the same calls, and needs no root."""
    make(tmp_path / "db", 30)
    before = check(tmp_path / "db")
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_search_store import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = Writer(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    for at in range(100, 2000, 100):
        writer.add([entry(n) for n in range(at, at + 100)], unit_rows(100))
        print("kept", flush=True)
except LibraryError as problem:
    print(problem)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "db")], capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert any(word in said[-1] for word in ("not enough space", "check the disk and the space")), said
    found = check(tmp_path / "db")
    assert (found.damaged, found.faults) == ([], [])
    assert found.pictures == before.pictures + 100 * (len(said) - 1)
    with Writer(tmp_path / "db") as writer:
        writer.add([entry(5000)], unit_rows(1))
    assert check(tmp_path / "db").pictures == found.pictures + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    crash_and_compare(tmp_path / "db", rounds=12, seed=1)


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_many_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    crash_and_compare(tmp_path / "db", rounds=200, seed=2)


def test_opening_is_light() -> None:
    code = (
        "import sys, awase.tasks.search.store, awase.tasks.search.library\n"
        "print([m for m in ('torch', 'onnxruntime', 'PIL', 'onnx', 'faiss', 'rich') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    assert Library is not None
