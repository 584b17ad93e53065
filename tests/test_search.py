"""Searching a small library with the bundled model: scores, pages, near-duplicates, the command line."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import awase
from awase.cli import main
from awase.errors import LibraryError, PictureError, UsageError
from awase.tasks.search import scoring
from awase.tasks.search.answer import Answer
from awase.tasks.search.copying import copy_into
from awase.tasks.search.searching import Searcher, bank_of

REPOSITORY = Path(__file__).parents[1]
PHOTOGRAPHS = [REPOSITORY / "examples" / "cat.jpg", *sorted((REPOSITORY / "src/awase/encoding/samples").glob("*.jpg"))]
COLOURS = {"red": (220, 30, 30), "green": (30, 170, 50), "blue": (40, 60, 220), "yellow": (240, 220, 40)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs, a smaller cat, the coffee twice, and circles and squares of four colours."""
    folder = tmp_path_factory.mktemp("pictures")
    for photograph in PHOTOGRAPHS:
        shutil.copy(photograph, folder / photograph.name)
    (folder / "copies").mkdir()
    shutil.copy(folder / "coffee.jpg", folder / "copies" / "same.jpg")
    with Image.open(folder / "cat.jpg") as cat:
        cat.resize((cat.width * 3 // 4, cat.height * 3 // 4)).save(folder / "copies" / "smaller.jpg", quality=88)
    for name, colour in COLOURS.items():
        for size in (60, 80, 100):
            for shape in ("ellipse", "rectangle"):
                drawn = Image.new("RGB", (224, 224), "white")
                getattr(ImageDraw.Draw(drawn), shape)((112 - size, 112 - size, 112 + size, 112 + size), fill=colour)
                drawn.save(folder / f"{name}_{shape}_{size}.png")
    return folder


@pytest.fixture(scope="module")
def library(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made") / "library"
    assert main(["index", str(pictures), "--db", str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def searcher(library: Path) -> Iterator[Searcher]:
    found = Searcher(library)
    yield found
    found.store.close()


def names(answer: Answer) -> list[str]:
    return [Path(hit.path).name for hit in answer]


# ---- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "first"), [("a cat", "cat.jpg"), ("猫", "cat.jpg"), ("a cup of coffee", "coffee.jpg")]
)
def test_finds_what_is_there(searcher: Searcher, query: str, first: str) -> None:
    answer = searcher.search(query, top=5)
    assert names(answer)[0] == first or Path(answer[0].duplicates[0].path).name == first
    assert answer[0].relevance == "relevant"
    assert answer.relevant >= 1
    scores = [hit.score for hit in answer]
    assert scores == sorted(scores, reverse=True)


def test_what_is_not_there_is_weak_and_still_shown(searcher: Searcher) -> None:
    answer = searcher.search("a crowded train station", top=3)
    assert len(answer) == 3
    assert {hit.relevance for hit in answer} == {"weak"}
    assert answer.relevant == 0


def test_negation_takes_away(searcher: Searcher) -> None:
    plain, without = (
        {Path(hit.path).name: hit for hit in searcher.search(query, top=60)} for query in ("a circle", "a circle -red")
    )
    kept = {name: hit.score / plain[name].score for name, hit in without.items() if name in plain}
    red = [share for name, share in kept.items() if name.startswith("red_")]
    others = [share for name, share in kept.items() if not name.startswith("red_")]
    assert 0 < np.mean(red) < np.mean(others) <= 1
    assert [its.clause.negative for its in without["cat.jpg" if "cat.jpg" in without else "smaller.jpg"].clauses] == [
        False,
        True,
    ]


def test_weights_move_results(searcher: Searcher) -> None:
    cats, coffees = (
        [
            max(hit.score for hit in searcher.search(query, top=60) if Path(hit.path).name in names)
            for query in ('3:"a cat" + "a cup of coffee"', '"a cat" + 3:"a cup of coffee"')
        ]
        for names in ({"cat.jpg", "smaller.jpg"}, {"coffee.jpg", "same.jpg"})  # either stands for its group
    )
    assert cats[0] > cats[1]
    assert coffees[0] < coffees[1]


def test_scores_are_those_of_the_formula(searcher: Searcher) -> None:
    hit = searcher.search('"a cat" -"a rocket"', top=1)[0]
    wanted, unwanted = hit.clauses
    assert hit.score == pytest.approx(wanted.probability * (1 - unwanted.probability), rel=1e-6)
    vectors = searcher.store.vectors(np.array([hit.id]))
    cosines = searcher.clip.encode_texts(["a cat", "a rocket"]) @ vectors[0]
    assert [wanted.similarity, unwanted.similarity] == pytest.approx(cosines.tolist(), abs=1e-6)


def test_filters(searcher: Searcher) -> None:
    answer = searcher.search("a cat type:png", top=60)
    assert answer.among == 24
    assert all(hit.path.endswith(".png") for hit in answer)
    assert all("copies" in hit.path for hit in searcher.search("a cat folder:copies"))
    nothing = searcher.search("a cat camera:nonesuch")
    assert (len(nothing), nothing.among, nothing.cursor) == (0, 0, None)


def test_a_picture_as_query(searcher: Searcher, pictures: Path) -> None:
    assert {"cat.jpg", "smaller.jpg"} & set(names(searcher.search(f'picture:"{pictures}/cat.jpg"', top=1)))
    alone = searcher.search(f'picture:"{pictures}/red_ellipse_80.png"', top=60)
    both = searcher.search(f'picture:"{pictures}/red_ellipse_80.png" but a cat', top=60)
    places = [[hit.path.endswith(".jpg") for hit in answer].index(True) for answer in (alone, both)]
    assert places[1] < places[0] or "copies" in both[0].path or places == [0, 0]
    with pytest.raises(PictureError, match="does not exist"):
        searcher.search("./nonesuch.jpg")


def test_more_like_a_result(searcher: Searcher) -> None:
    first = searcher.search("a cup of coffee", top=3)
    more = searcher.search("#1 but red", top=5, results=first)
    assert first[0].id not in [hit.id for hit in more]
    assert names(more) == names(searcher.search(f"id:{first[0].id} but red", top=5))
    with pytest.raises(UsageError, match="no result #7"):
        searcher.search("#7", results=first)
    with pytest.raises(UsageError, match="no search before"):
        searcher.search("#1")
    with pytest.raises(LibraryError):
        searcher.search("id:99999")


def test_near_duplicates_are_one_hit(searcher: Searcher) -> None:
    answer = searcher.search("a cat", top=60)
    cat = next(hit for hit in answer if Path(hit.path).name in ("cat.jpg", "smaller.jpg"))
    assert {Path(row.path).name for row in cat.duplicates} == {"cat.jpg", "smaller.jpg"} - {Path(cat.path).name}
    coffee = next(hit for hit in answer if Path(hit.path).name in ("coffee.jpg", "same.jpg"))
    assert len(coffee.duplicates) == 1
    shown = [hit.path for hit in answer] + [row.path for hit in answer for row in hit.duplicates]
    assert len(shown) == len(set(shown)) == len(searcher.store)


# ---- pages ----------------------------------------------------------------------------------------------------------


def test_pages_are_the_whole_answer(searcher: Searcher) -> None:
    whole = searcher.search("something red -circle", top=100)
    paged, cursor = [], None
    while True:
        page = searcher.search("something red -circle", top=5, cursor=cursor)
        assert page.before == len(paged)
        paged += list(page)
        cursor = page.cursor
        if cursor is None:
            break
    assert [(hit.id, hit.score) for hit in paged] == [(hit.id, hit.score) for hit in whole]


def test_a_cursor_outlives_new_pictures(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "growing"
    shutil.copytree(pictures, folder)
    made = tmp_path / "library"
    main(["index", str(folder), "--db", str(made)])
    searcher = Searcher(made)
    whole = [hit.path for hit in searcher.search("red", top=100)]
    page = searcher.search("red", top=6)
    Image.new("RGB", (224, 224), (250, 0, 0)).save(folder / "new.png")
    main(["index", "--db", str(made)])
    assert searcher.refresh()
    rest = searcher.search("red", top=100, cursor=page.cursor)
    assert [hit.path for hit in page] + [hit.path for hit in rest] == whole
    assert "new.png" in names(searcher.search("red", top=100))
    searcher.store.close()


@pytest.mark.parametrize("cursor", ["", "abc", "eJwDAAAAAAE", "🐈", "A" * 5000])
def test_bad_cursors(searcher: Searcher, cursor: str) -> None:
    with pytest.raises(UsageError, match="cursor"):
        searcher.search("red", cursor=cursor)


@pytest.mark.parametrize(
    "change",
    [
        {"newest": 10**400},
        {"score": 10**400},
        {"background": [0, 1e-300]},
        {"score": None},
        {"background": [0, 0]},
        {"yardsticks": []},
        {"more": 1},
        {"id": -1},
    ],
)
def test_changed_cursors(searcher: Searcher, change: dict[str, object]) -> None:
    cursor = str(searcher.search("red", top=2).cursor)
    inside = json.loads(zlib.decompress(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))))
    changed = base64.urlsafe_b64encode(zlib.compress(json.dumps(inside | change).encode())).decode()
    with pytest.raises(UsageError, match="no cursor"):
        searcher.search("red", cursor=changed)


def test_a_cursor_belongs_to_its_query(searcher: Searcher) -> None:
    with pytest.raises(UsageError, match="another query"):
        searcher.search("blue", cursor=searcher.search("red", top=2).cursor)


# ---- scoring --------------------------------------------------------------------------------------------------------


def test_an_empty_bank_and_no_share_change_nothing(searcher: Searcher) -> None:
    vectors = searcher.store.vectors(searcher.store.sample(20))
    cosines = searcher.clip.encode_texts(["a cat", "red"]) @ vectors.T
    bank = bank_of(searcher.clip)
    empty = scoring.background_of(vectors, bank[:0])
    assert np.array_equal(empty.tame(cosines, vectors), cosines)
    assert np.array_equal(scoring.background_of(vectors, bank).tame(cosines, vectors, share=0.0), cosines)
    odds = scoring.of_sentence(4, empty).odds(cosines[0])
    assert np.array_equal(np.argsort(odds), np.argsort(cosines[0]))


def test_taming_takes_a_hub_down() -> None:
    rng = np.random.default_rng(0)
    bank = rng.standard_normal((50, 16)).astype(np.float32) + 2
    vectors = rng.standard_normal((40, 16)).astype(np.float32)
    vectors[7] = 2  # near to whatever is asked
    bank, vectors = (its / np.linalg.norm(its, axis=1, keepdims=True) for its in (bank, vectors))
    query = bank[:1]
    seen = scoring.background_of(vectors, bank)
    plain = query @ vectors.T
    tamed = seen.tame(plain, vectors, share=1.0)
    assert plain.argmax() == 7
    assert (plain[0, 7] - plain[0]).max() > (tamed[0, 7] - tamed[0]).max()


def test_combining() -> None:
    odds = np.array([[2.0, 0.0], [0.0, 2.0], [-3.0, -3.0]])
    p = scoring.probability
    alone = scoring.combine(odds[:1], [5.0], [False])
    assert alone == pytest.approx(p(odds[0]))  # the weight of a single clause changes nothing
    both = scoring.combine(odds[:2], [1.0, 3.0], [False, False])
    assert both == pytest.approx((p(odds[0]) * p(odds[1]) ** 3) ** 0.25)
    without = scoring.combine(odds[[0, 2]], [1.0, 1.0], [False, True])
    assert without == pytest.approx(p(odds[0]) * (1 - p(odds[2])))


def test_a_query_in_a_language_that_is_not_read(searcher: Searcher) -> None:
    with pytest.warns(awase.LanguageWarning, match="another language"):
        searcher.search("красная машина")


def test_another_model_is_refused(library: Path) -> None:
    clip = awase.load(fast=True)
    with pytest.raises(LibraryError, match="another model"):
        Searcher(library, clip)


# ---- the command line -----------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert main(["search", *arguments]) == code
    return capsys.readouterr()


def test_listing(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "a cat -rocket", "--db", str(library), "--top", "4")
    assert "without rocket" in out
    assert "cat.jpg" in out or "smaller.jpg" in out
    assert "+1 alike" in out
    assert 'read as "a cat" -"rocket"' in out
    out, _ = run(capsys, "cat -cat", "--db", str(library), "--top", "1")
    shown = [int(number) for number in re.findall(r"(\d+) %", out)]
    assert sum(shown) in (99, 100, 101)  # the shares of "cat" and of "without cat"
    out, _ = run(capsys, "a crowded train station", "--db", str(library), "--top", "2")
    assert "nothing relevant; nearest to it" in out


def test_json_lines(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, "a", "cat", "--db", str(library), "--top", "3", "--json")
    hits = [json.loads(line) for line in out.splitlines()]
    assert [set(hit) for hit in hits] == [{"path", "score", "relevance", "clauses", "duplicates", "id", "moment"}] * 3
    assert hits[0]["relevance"] == "relevant"
    assert hits[0]["clauses"][0]["clause"] == '"a cat"'
    cursor = err.strip().rsplit(" ", 1)[1]
    out, _ = run(capsys, "a cat", "--db", str(library), "--top", "3", "--json", "--cursor", cursor)
    assert len(out.splitlines()) == 3
    assert not {hit["path"] for hit in hits} & {json.loads(line)["path"] for line in out.splitlines()}


def test_next_page_and_numbers_of_results(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--db", str(library), "--json"]
    first, _ = run(capsys, "red", "--top", "4", *where)
    second, _ = run(capsys, "--cursor", "next", "--top", "4", *where)
    fifth = json.loads(second.splitlines()[0])["id"]
    assert fifth not in [json.loads(line)["id"] for line in first.splitlines()]
    by_number, _ = run(capsys, "#5", "--top", "1", *where)
    by_id, _ = run(capsys, f"id:{fifth}", "--top", "1", *where)
    assert by_number.replace("#5", f"id:{fifth}") == by_id
    _, err = run(capsys, "blue", "--cursor", "next", *where, code=2)
    assert "no next page of that query" in err


def test_another_library_of_the_same_name_knows_nothing_of_the_search_before(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        assert main(["index", str(pictures / "copies"), "--db", "library"]) == 0
    monkeypatch.chdir(tmp_path / "one")
    _, err = run(capsys, "red", "--db", "library", "--top", "1", "--json")
    cursor = err.strip().rsplit(" ", 1)[1]
    run(capsys, "#1", "--db", "library", "--json")
    run(capsys, "red", "--db", "library", "--json")
    monkeypatch.chdir(tmp_path / "other")
    assert "no search before" in run(capsys, "#1", "--db", "library", code=2).err
    assert "another library" in run(capsys, "red", "--db", "library", "--cursor", cursor, code=2).err
    monkeypatch.chdir(tmp_path / "one")
    shutil.rmtree("library")
    assert main(["index", str(pictures / "copies"), "--db", "library"]) == 0
    assert "no search before" in run(capsys, "#1", "--db", "library", code=2).err


def test_paths_for_other_programs(library: Path, pictures: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["search", "a cat", "--db", str(library), "--files"]) == 0
    out, err = capfdbinary.readouterr()
    relevant = out.decode().splitlines()
    assert relevant[0] in (str(pictures / "cat.jpg"), str(pictures / "copies" / "smaller.jpg"))
    assert b"weak result" in err
    assert main(["search", "a cat", "--db", str(library), "-0", "--weak", "--top", "100"]) == 0
    everything = capfdbinary.readouterr().out.split(b"\0")
    assert len(everything) > len(relevant) + 1
    assert everything[-1] == b""


def test_copies_write_nothing_over(library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "copies"
    to.mkdir()
    mine = to / "coffee.jpg"
    mine.write_bytes(b"mine")
    where = ["a cup of coffee folder:nonesuch -folder:copies", "--db", str(library)]
    run(capsys, *where, "--copy-to", str(to))
    copied = list(copy_into(to, [str(PHOTOGRAPHS[2]), str(PHOTOGRAPHS[2]), "/nonesuch.jpg"]))
    assert mine.read_bytes() == b"mine"
    assert PHOTOGRAPHS[2].name == "coffee.jpg"
    assert copied[0].to == copied[1].to == to / "coffee (2).jpg"
    assert (to / "coffee (2).jpg").read_bytes() == PHOTOGRAPHS[2].read_bytes()
    assert copied[2].error
    assert "could not be copied" in str(copied[2].error)
    _, err = run(capsys, "a cup of coffee", "--top", "1", "--db", str(library), "--copy-to", str(mine), code=2)
    assert "cannot be made one" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["two -", "--db", "nonesuch"], "no library here"),
        ([" -people"], "only what should not be there"),
        (["colour:red"], "there is no filter colour:"),
        ([""], "say what to look for"),
        (["dog", "--precision", "int8"], "int8"),
        (["dog", "--fast"], "another model"),
        (["dog", "--preview"], "--preview draws in a terminal"),
    ],
)
def test_wrong_use(library: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    where = [] if "--db" in arguments else ["--db", str(library)]
    _, err = run(capsys, *arguments, *where, code=2)
    assert told in err
    assert err.count("\n") == 1


def test_an_empty_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nothing").mkdir()
    made = tmp_path / "library"
    main(["index", str(tmp_path / "nothing"), "--db", str(made)])
    capsys.readouterr()
    _, err = run(capsys, "dog", "--db", str(made), code=2)
    assert "no pictures yet" in err or "no library" in err
