"""CLIPScore and RefCLIPScore: the published formula and example, identities, and files of pairs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import awase
from awase import Clip, DataError
from awase.evaluation.captions import Pair, clip_score, read_pairs, ref_clip_score, score_pairs
from awase.evaluation.words import task_name, variant_of

CAT = Path(__file__).parents[1] / "examples" / "cat.jpg"


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


def test_the_published_examples_follow_the_formula() -> None:
    """The authors' example prints 0.8584 and 0.8450: what the nearest reference's cosine must then have been gives back
    the second from the first."""
    for score, ref_score in ((0.8584, 0.8450), (0.7153, 0.7253)):
        assert clip_score(np.array([score / 2.5]))[0] == pytest.approx(score)
        near = ref_score * score / (2 * score - ref_score)
        assert 0 < near < 1
        assert ref_clip_score(np.array([score]), np.array([near]))[0] == pytest.approx(ref_score)


def test_identities() -> None:
    rng = np.random.default_rng(0)
    scores, near = clip_score(rng.uniform(-1, 1, 1000)), rng.uniform(-1, 1, 1000)
    both = ref_clip_score(scores, near)
    assert scores.min() == 0
    assert scores.max() <= 2.5
    assert (both <= np.maximum(scores, np.maximum(near, 0)) + 1e-12).all()
    assert (both >= np.minimum(scores, np.maximum(near, 0)) - 1e-12).all()
    assert ref_clip_score(np.zeros(1), np.zeros(1))[0] == 0


def test_pairs_are_scored_as_by_hand(clip: Clip) -> None:
    pairs = [
        Pair(CAT, "a cat", ("a kitten", "a steam engine")),
        Pair(CAT, "a steam engine", ("a cat",)),
        Pair(str(CAT), "猫", ("a cat",)),
    ]
    result = score_pairs(clip, pairs)
    picture = clip.encode_images([CAT])[0]
    words = clip.encode_texts(
        ["A photo depicts a cat", "A photo depicts a steam engine", "猫", "A photo depicts a kitten"]
    )
    expected = 2.5 * np.maximum(words[:3] @ picture, 0)
    np.testing.assert_allclose(result.items["clip_score"], expected, atol=1e-5)
    near = np.array([max(words[0] @ words[3], words[0] @ words[1]), words[1] @ words[0], words[2] @ words[0]])
    by_hand = 2 * expected * near.clip(0) / (expected + near.clip(0)).clip(1e-9)  # 0 where both are below 0
    np.testing.assert_allclose(result.items["ref_clip_score"], by_hand, atol=1e-5)
    assert result.figures["clip_score"].value == pytest.approx(expected.mean(), abs=1e-5)
    assert expected[0] > expected[1]
    assert (task_name(result.task), variant_of(result)) == ("Caption scores", "Pairs")
    assert any("Japanese" in note for note in result.notes)


def test_missing_references_and_pictures_are_told(clip: Clip, tmp_path: Path) -> None:
    pairs = [Pair(CAT, "a cat", ("a kitten",)), Pair(CAT, "a dog"), Pair(tmp_path / "none.jpg", "a dog")]
    result = score_pairs(clip, pairs)
    assert set(result.figures) == {"clip_score"}
    assert result.items["pair"].tolist() == [0, 1]
    assert any("2 of 3 lack references" in note for note in result.notes)
    assert any("none.jpg" in note for note in result.notes)
    with pytest.raises(DataError):
        score_pairs(clip, pairs[2:])
    with pytest.raises(DataError, match="no pairs"):
        score_pairs(clip, [])


def test_every_layout_of_pairs(tmp_path: Path) -> None:
    expected = [
        Pair(tmp_path / "a, b.jpg", 'a "quoted" cat', ("one", "two")),
        Pair("https://example.org/c.jpg", "犬が走っている", ()),
    ]
    csv, tsv, jsonl = (tmp_path / f"pairs.{end}" for end in ("csv", "tsv", "jsonl"))
    csv.write_text(
        '\ufeffpicture,caption,references\n"a, b.jpg","a ""quoted"" cat",one | two\n'
        "https://example.org/c.jpg,犬が走っている,\n",
        "utf-8",
    )
    tsv.write_text(
        'caption\tpicture\treferences\n"a ""quoted"" cat"\ta, b.jpg\tone|two\n犬が走っている\thttps://example.org/c.jpg\t\n',
        "utf-8",
    )
    rows = [
        {"picture": "a, b.jpg", "caption": 'a "quoted" cat', "references": ["one", "two"]},
        {"picture": "https://example.org/c.jpg", "caption": "犬が走っている"},
    ]
    jsonl.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", "utf-8")
    assert read_pairs(csv) == read_pairs(tsv) == read_pairs(str(jsonl)) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "picture,text\nx.jpg,hello\n", "line 2 has no caption"),
        ("a.csv", "picture,caption\nx.jpg,\n", "line 2 has no caption"),
        ("a.csv", "picture,caption\n", "holds no pairs"),
        ("a.jsonl", '{"picture": "x.jpg", "caption": "c"}\n{oops\n', "line 2 is not JSON"),
        ("a.jsonl", '{"picture": "x.jpg", "caption": "c", "references": "one"}\n', "a list of sentences"),
        ("a.jsonl", "[1]\n", "line 1 has no picture"),
        ("a.jsonl", '{"picture": ' + "[" * 100_000 + "\n", "line 1 is not JSON"),
        ("a.xlsx", "", r"\.csv, \.tsv or \.jsonl"),
    ],
)
def test_bad_files_of_pairs(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / name)


def test_a_line_of_json_ends_at_the_end_of_the_line_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"picture": "x.jpg", "caption": "one\u2028two\x85three"}\n', "utf-8")
    (pair,) = read_pairs(tmp_path / "a.jsonl")
    assert pair.caption == "one\u2028two\x85three"


def test_unreadable_files_of_pairs(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"picture,caption\nx.jpg,caf\xe9\n")
    for name in ("latin.csv", "absent.csv"):
        with pytest.raises(DataError, match="cannot be read"):
            read_pairs(tmp_path / name)
