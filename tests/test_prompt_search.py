"""Better prompts: files of wording, the search without and with labels, and what descriptions do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import awase
from awase.cli import main
from awase.cli.prompts import _show
from awase.clip import Clip
from awase.datasets import Labelled
from awase.encoding import prompts
from awase.encoding.scoring import Scoring
from awase.encoding.wordings import Wording, read_descriptions, read_wording, write_wording
from awase.errors import DataError, UsageError
from awase.evaluation.candidates import candidate_names, candidate_templates, guessed_kinds, have_articles
from awase.evaluation.probes import Features
from awase.learning.adaptation.better_prompts import better_prompts
from awase.learning.adaptation.descriptions import effects, match_classes, shares
from awase.learning.adaptation.prompt_search import (
    PromptSearch,
    Proposal,
    _best_first,
    each_template,
    ensemble,
    few,
    grow,
    knowledge,
    likelihood,
    search,
)
from colours import coloured
from test_suite import make_data

SOFTMAX = Scoring("softmax", 5.0)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


# ---- wording ---------------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    wording = Wording(("a photo of {}.", "{}"), {"a zebra": ("like a horse, striped",)}, 0.25)
    write_wording(tmp_path / "new" / "w.json", wording, "en", {"model": "m"})
    read = read_wording(str(tmp_path / "new" / "w.json"), "en")
    assert (tuple(read), read.sentences, read.share) == (tuple(wording), wording.sentences, 0.25)
    with pytest.raises(UsageError, match="templates in en, not in 'ja'"):
        read_wording(str(tmp_path / "new" / "w.json"), "ja")


def test_templates_are_a_name_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a drawing of {}.\n\n{} の絵\n", "utf-8")
    assert prompts.templates(str(tmp_path / "mine.txt"), "en") == ("a drawing of {}.", "{} の絵")
    assert prompts.templates("simple") == ("a photo of a {}.",)
    with pytest.raises(UsageError, match=r"nowhere\.json does not exist"):
        prompts.templates(str(tmp_path / "nowhere.json"))
    with pytest.raises(UsageError, match="no templates are called 'no such'"):
        prompts.templates("no such")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.json", "[1, 2]", "no object"),
        ("a.json", "{", "mend it"),
        ("a.json", '{"templates": "a {}"}', "list of sentences"),
        ("a.json", '{"templates": []}', "list of sentences"),
        ("a.json", '{"templates": ["{}"], "share": 2}', "from 0 to 1"),
        ("a.json", '{"templates": ["{}"], "descriptions": ["x"]}', "object of classes"),
        ("a.json", '{"templates": ["{}"], "descriptions": {"x": [" "]}}', "none of them empty"),
        ("a.txt", b"\xff\xfe\xff", "UTF-8"),
    ],
)
def test_damaged_wording_is_refused(name: str, content: str | bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=match) as told:
        read_wording(str(tmp_path / name), "en")
    assert name in str(told.value)


def test_descriptions_in_three_formats(tmp_path: Path) -> None:
    expected = {"zebra": ("striped", "like a horse"), "cat": ("whiskers",)}
    (tmp_path / "a.json").write_text(json.dumps({"zebra": ["striped", "like a horse"], "cat": "whiskers"}))
    (tmp_path / "a.toml").write_text('zebra = ["striped", "like a horse"]\ncat = "whiskers"\n')
    (tmp_path / "a.tsv").write_text("zebra\tstriped\ncat\twhiskers\n\nzebra\tlike a horse\n")
    for name in ("a.json", "a.toml", "a.tsv"):
        assert read_descriptions(str(tmp_path / name)) == expected
    (tmp_path / "bad.tsv").write_text("zebra\tstriped\nno tab here\n")
    with pytest.raises(UsageError, match=r"bad\.tsv, line 2"):
        read_descriptions(str(tmp_path / "bad.tsv"))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_class_with_sentences_is_a_mixture(share: float) -> None:
    chance, table = np.random.default_rng(0), {}

    def encode(sentences: list[str]) -> np.ndarray:
        return np.stack([table.setdefault(s, unit(chance.normal(size=5))) for s in sentences])

    wording = Wording(("a {}", "the {}"), {"b": ("striped", "like a")}, share)
    found = prompts.classifier(["a", "b"], wording, encode)
    by_name = {n: unit(table.get(f"a {n}", np.ones(5)) + table.get(f"the {n}", np.ones(5))) for n in "ab"}
    own = unit(table["striped"] + table["like a"])
    assert found[0] == pytest.approx(by_name["a"], abs=1e-6)
    assert found[1] == pytest.approx(unit((1 - share) * by_name["b"] + share * own), abs=1e-6)


def test_descriptions_alone_are_a_classifier(clip: Clip) -> None:
    wording = Wording((), {"x": ("a photo of a cat",), "y": ("a photo of a rocket", "a rocket in the sky")})
    found = clip.classifier(["x", "y"], wording)
    assert found[0] == pytest.approx(clip.encode_texts(["a photo of a cat"])[0], abs=1e-6)
    assert found[1] == pytest.approx(unit(clip.encode_texts(list(wording.sentences["y"])).sum(axis=0)), abs=1e-6)
    with pytest.raises(UsageError, match="template is needed"):
        clip.classifier(["x", "z"], wording)


# ---- candidates ------------------------------------------------------------------------------------------------------


def test_candidates_bring_an_article_where_names_have_none() -> None:
    bare, told = candidate_templates(["cat", "dog"], "en"), candidate_templates(["a cat", "a dog"], "en")
    assert "a close-up of a {}." in bare
    assert "a close-up of a {}." not in told
    assert "a close-up of {}." in told
    assert len(set(bare)) == len(bare)
    assert {"{}", "a photo of a {}.", "itap of a {}."} <= set(bare)
    own = candidate_templates(["猫"], "ja", ["{}を描いた絵"], ["動物"])
    assert {"{}を描いた絵", "動物の一種である{}の写真。", "{}のスケッチ"} <= set(own)
    assert have_articles(["a cat", "an ape", "rice"])


def test_the_kind_of_thing_is_guessed_from_names(clip: Clip) -> None:
    assert "bird" in guessed_kinds(clip, ["a barn swallow", "a Baltimore oriole", "a blue jay"], "en")
    assert guessed_kinds(clip, ["ラーメン", "カレーライス", "天ぷら"], "ja")[0] in ("料理", "食べ物")


def test_other_names_are_never_the_name() -> None:
    found = candidate_names("long-sleeved top", "longSleeve", "en", ["garment"])
    assert {"long sleeve", "a long-sleeved top", "long-sleeved top, a garment"} <= set(found)
    assert "long-sleeved top" not in found
    assert "猫という動物" in candidate_names("猫", "cat", "ja", ["動物"])


# ---- the search ------------------------------------------------------------------------------------------------------


def test_knowledge_is_evenness_less_doubt() -> None:
    chance = np.random.default_rng(0)
    pictures, classes = unit(chance.normal(size=(40, 6))), unit(chance.normal(size=(3, 6)))
    logits = 5.0 * pictures.astype(np.float64) @ classes.T
    answers = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    mean = answers.mean(0)
    expected = -2.0 * (mean * np.log(mean)).sum() + (answers * np.log(answers)).sum(1).mean()
    assert knowledge(SOFTMAX, pictures, classes, 2.0) == pytest.approx(expected, abs=1e-5)
    targets = chance.integers(0, 3, 40)
    own = np.log(answers[np.arange(40), targets]).mean()
    assert likelihood(SOFTMAX, Features(pictures, targets), classes) == pytest.approx(own, abs=1e-5)
    one = np.repeat(classes[:1], 3, axis=0)  # names that say the same know nothing
    assert knowledge(SOFTMAX, pictures, one, 1.0) == pytest.approx(0, abs=1e-6)


def test_growing_takes_the_best_each_round_and_stops() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(6, 3, 8)))
    wanted = ensemble(vectors, [4, 1])

    def objective(classes: np.ndarray) -> float:
        return float((classes * wanted).sum())

    chosen = grow(vectors, objective, 8)
    assert set(chosen) == {1, 4}
    assert chosen[0] == int(np.argmax([objective(one) for one in vectors]))
    assert len(grow(vectors, objective, 1)) == 1
    assert ensemble(vectors, [2]) == pytest.approx(vectors[2], abs=1e-6)


def test_the_good_template_is_found_without_labels(clip: Clip) -> None:
    """One candidate asks for the classes, the others ask for one thing whatever the class."""
    data = coloured("train", each=8)
    pictures, names = clip.encode_images(data.pictures), data.names["en"]
    candidates = ["a fish {}", "a picture of something {}.", "{} 猫猫猫猫猫猫猫猫猫猫猫猫猫猫"]
    found = search(clip, names, candidates, {"simple": ("a photo of a {}.",)}, pictures)
    grown = next(p for p in found if p.name == "found without labels")
    singles = [knowledge(clip.scoring, pictures, v, 1.5) for v in each_template(clip, names, candidates)]
    assert grown.templates[0] == candidates[int(np.argmax(singles))]
    assert grown.knowledge >= max(singles) - 1e-6
    assert [p.knowledge for p in found] == sorted((p.knowledge for p in found), reverse=True)


def test_what_knowledge_chooses_stays_unless_another_is_surely_better() -> None:
    def proposal(name: str, knows: float, right: list[int]) -> Proposal:
        return Proposal(name, ("{}",), np.zeros((1, 1)), knows, np.array(right, bool))

    leader = proposal("found without labels", 2.0, [1, 0] * 10)
    lucky = proposal("found with labels", 1.0, [1, 0] * 8 + [1, 1, 0, 1])
    better = proposal("found with labels", 1.0, [1, 1] * 8 + [1, 0] * 2)
    assert _best_first([leader, lucky])[0] is leader
    assert _best_first([leader, better])[0] is better


def test_labels_do_not_choose_without_shots(clip: Clip) -> None:
    train, val = coloured("train", each=8), coloured("val")
    found = better_prompts(clip, train, val)
    shuffled = replace(train, targets=np.random.default_rng(0).permutation(train.targets))
    assert better_prompts(clip, shuffled, val).wording == found.wording
    assert found.judged_on == "val pictures"
    assert {row.n for row in found.rows} == {24}
    assert {"simple", "ensemble", "kinds", "found without labels"} == {row.name for row in found.rows}
    assert found.gains["simple"].interval[0] <= found.gains["simple"].value <= found.gains["simple"].interval[1]


@pytest.mark.parametrize("descriptions", [None, {"red": ("a blue sky",), "zebra": ("like a striped horse",)}])
def test_what_is_surely_worse_than_a_baseline_is_not_recommended(
    descriptions: dict[str, tuple[str, ...]] | None, clip: Clip, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = coloured("train", each=8), coloured("val", each=20)
    simple = clip.classifier(val.names["en"], prompts.templates("simple"))
    as_simple_says = (clip.encode_images(val.pictures) @ simple.T).argmax(axis=1)
    found = better_prompts(clip, train, replace(val, targets=as_simple_says), descriptions=descriptions)
    assert (found.chosen, tuple(found.wording), found.wording.sentences) == ("simple", prompts.templates("simple"), {})
    assert found.rows[0].name == "found without labels"
    assert "surely worse than simple (-" in found.note
    assert found.note.endswith("simple is kept")
    assert found.gains["simple"].value == 0
    assert (found.record["chosen"], found.to_json()["note"], found.unseen) == ("simple", found.note, {})
    _show(found, clip.runs_on)
    assert f"{found.note}\nChosen, simple: " in capsys.readouterr().out
    assert better_prompts(clip, train, val).note == ""


def test_shots_are_held_out_and_not_judged_on(clip: Clip) -> None:
    train = coloured("train", each=8)
    found = better_prompts(clip, train, shots=4, language="ja", settings=PromptSearch(most=3))
    assert {row.n for row in found.rows} == {16}
    assert all(row.held_out is not None for row in found.rows)
    assert "found with labels" in {row.name for row in found.rows}
    assert len(found.wording) <= 37
    with pytest.raises(DataError, match="none is left to judge on"):
        better_prompts(clip, train, shots=8)


def test_a_test_split_and_odd_data_are_refused(clip: Clip) -> None:
    train = coloured("train")
    with pytest.raises(UsageError, match="for testing"):
        better_prompts(clip, replace(train, split="test"))
    with pytest.raises(UsageError, match="for testing"):
        better_prompts(clip, train, coloured("test"))
    with pytest.raises(DataError, match="train cannot be chosen on and judged on"):
        better_prompts(clip, train, coloured("train"))
    shared = replace(train, names={**train.names, "ja": ("x", "x", "y", "z")})
    with pytest.raises(DataError, match="one name in 'ja'"):
        better_prompts(clip, shared, language="ja")
    assert better_prompts(clip, shared, language="en").language == "en"
    several = np.eye(4, dtype=bool)[train.targets]
    with pytest.raises(DataError, match="several classes"):
        better_prompts(clip, replace(train, targets=several))
    with pytest.raises(UsageError, match="most=0"):
        PromptSearch(most=0)
    with pytest.raises(UsageError, match="balance"):
        PromptSearch(balance=float("nan"))
    with pytest.raises(UsageError, match="seed -1"):
        PromptSearch(seed=-1)


def test_few_are_drawn_where_there_are_many() -> None:
    rows = np.arange(4000)[:, None]
    assert len(few(rows, 2**18 // 500, 0)) == 500
    assert few(rows, 10, 0) is rows
    assert (few(rows, 10**6, 0) == few(rows, 10**6, 0)).all()


# ---- descriptions ----------------------------------------------------------------------------------------------------


def test_descriptions_find_their_class_by_key_or_name() -> None:
    told = {"T_SHIRT": ["soft"], "A Hat": ["round"], "zebra": ["striped"]}
    matched, strangers = match_classes(told, ("t_shirt", "hat"), ("a T-shirt", "a hat"))
    assert matched == {"a T-shirt": ("soft",), "a hat": ("round",), "zebra": ("striped",)}
    assert strangers == ("zebra",)
    with pytest.raises(UsageError, match="none is the same"):
        match_classes({"zebra": ["striped"]}, ("hat",), ("a hat",))


def test_effects_are_the_answers_that_change(clip: Clip) -> None:
    pictures = clip.encode_texts(["a photo of a cat", "a photo of a dog", "a photo of a horse", "a striped zebra"])
    names, wording = ["a cat", "a dog"], Wording(("{}",), {"a cat": ("a horse", "a striped zebra")}, 1.0)
    found = effects(clip, names, wording, pictures, np.array([0, 1, 0, 0]))
    assert [effect.name for effect in found] == ["a cat", "a cat"]
    for effect in found:
        others = tuple(s for s in wording.sentences["a cat"] if s != effect.sentence)
        with_it = (pictures @ clip.classifier(names, wording).T).argmax(1)
        without = (pictures @ clip.classifier(names, Wording(("{}",), {"a cat": others}, 1.0)).T).argmax(1)
        assert effect.moved == (with_it != without).sum() == sum(effect.towards.values())
        assert effect.gained == (with_it == [0, 1, 0, 0]).sum() - (without == [0, 1, 0, 0]).sum()


def test_shares_prefer_less_of_the_descriptions_of_equals(clip: Clip) -> None:
    names, pictures = ["a cat", "a dog"], clip.encode_texts(["a photo of a cat", "a photo of a dog"])
    same = {"a cat": ("a cat",), "a dog": ("a dog",)}
    assert shares(clip, names, ("{}",), same, pictures, None, 1.5)[0][0] == 0.0
    labelled = Features(pictures, np.array([0, 1]))
    wrong = {"a cat": ("a dog",), "a dog": ("a cat",)}
    assert [share for share, _ in shares(clip, names, ("{}",), wrong, pictures, labelled, 1.5)][-1] == 1.0


# ---- the command -----------------------------------------------------------------------------------------------------


def test_what_is_written_is_taken_by_the_other_commands(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, told = tmp_path / "w.json", tmp_path / "d.tsv"
    told.write_text("rocket\ta white tube that flies into space\nzebra\tlike a horse, with stripes\n")
    things = str(data / "things")
    command = ["prompts", "search", things, "--shots", "2", "--descriptions", str(told), "--out", str(file), "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["templates"] == json.loads(file.read_text())["templates"]["en"]
    assert set(found["unseen"]) == {"zebra"}
    assert {effect["name"] for effect in found["effects"]} == {"rocket", "zebra"}
    assert "descriptions alone" in {row["name"] for row in found["rows"]}
    assert main(["evaluate", "zero-shot", things, "--split", "train", "--templates", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["sentences"] == len(found["templates"])
    picture = str(next((data / "things" / "train" / "rocket").iterdir()))
    assert main(["classify", picture, "--labels", "rocket,zebra", "--templates", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"][0]["label"] == "rocket"
    assert main(["prompts", "search", things, "--language", "ja"]) == 0
    assert "found without labels" in capsys.readouterr().out
    assert main(["prompts", "search", things, "--split", "test"]) == 2
    assert main(["classify", picture, "--labels", "rocket,zebra", "--templates", str(tmp_path / "no.json")]) == 2


def test_data_in_a_language_without_sentences_are_refused(clip: Clip) -> None:
    train: Labelled = coloured("train")
    french = replace(train, names={"fr": ("rouge", "vert", "bleu", "jaune")})
    with pytest.raises(UsageError, match="'fr'"):
        better_prompts(clip, french)
