"""Learned words and low-rank changes of a checkpoint: what they must be equal to, in every family and engine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import awase
from awase import Clip, open_checkpoint, write_checkpoint
from awase.encoding.checkpoints import peft as peft_files
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.checkpoints.derived import TOKENS, Changes, LowRank, between, derive, part
from awase.encoding.engines import open_engine
from awase.encoding.families import TextRule
from awase.encoding.tokenizers import Tokenizer, add_words, open_tokenizer
from awase.errors import CheckpointError, UsageError
from lines import mixed_lines
from test_tokenizers import PLAIN, siglip_folder  # noqa: F401
from tiny_clips import BUNDLED, FAMILIES, tiny_checkpoint, tiny_clip

LINES = mixed_lines(1000)
# Sentences with a hole for a whole word, and what stands in it.
HOLES = [
    "a photo of {} on a desk.",
    "{}",
    "  two {}' {}, asleep ",
    "the {}'s bed!",
    "{} and {} and {}",
    "a {}-like thing",
]
EVERY_KIND = [
    "clip",
    "open_clip",
    "clip_hf",
    "sentencepiece",
    "siglip",
    "siglip_open_clip",
    "siglip2",
    "siglip2_open_clip",
]


@pytest.fixture(scope="module")
def gemma_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer.json as Gemma's is: a space is the ▁ that begins a word, and no piece reaches over one."""
    tk = pytest.importorskip("tokenizers")
    tokenizer = tk.Tokenizer(tk.models.BPE(fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = tk.normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = tk.pre_tokenizers.Split("▁", "merged_with_next")
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trainer = tk.trainers.BpeTrainer(vocab_size=1500, special_tokens=specials, limit_alphabet=200, show_progress=False)
    tokenizer.train_from_iterator([line.lower() for line in PLAIN] + ["a cat and a dog"] * 50, trainer)
    folder = tmp_path_factory.mktemp("gemma")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def tokenizers(kind: str, request: pytest.FixtureRequest) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer of a kind, and the same with the words toto (one token) and <four words> (four)."""
    folders = {"siglip": "siglip_folder", "siglip2": "gemma_folder"}
    fixture = folders.get(kind.removesuffix("_open_clip")) if kind.startswith("siglip") else None
    folder = request.getfixturevalue(fixture) if fixture else BUNDLED if kind == "sentencepiece" else None
    rule = TextRule(kind, 64, fixed_length=kind.startswith("siglip"))  # type: ignore[arg-type]
    plain = open_tokenizer(rule, folder)
    words = add_words(rule, {"toto": 1, "<four words>": 4}, plain.vocabulary)
    return plain, open_tokenizer(words, folder)


def one_token_word(tokenizer: Tokenizer) -> tuple[str, int]:
    """A word that is one token inside a sentence, and its id."""
    encode = tokenizer._subwords.encode
    for word in ("cat", "dog", "and", "the"):
        one, two = encode([word, f"{word} {word}"])
        if len(one) == 1 and len(two) == 2:
            return word, two[1]
    raise AssertionError("no word is one token")


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_word_takes_the_place_of_a_whole_word(kind: str, request: pytest.FixtureRequest) -> None:
    plain, learned = tokenizers(kind, request)
    word, number = one_token_word(plain)
    first = plain.vocabulary
    for hole in HOLES:
        if kind.startswith("siglip2") and hole.lstrip().startswith("{}"):
            continue  # there a word at the beginning has another id
        if kind.startswith("siglip") and "'s" in hole:
            continue  # there punctuation is deleted: "cats"
        expected = plain([hole.replace("{}", word)])
        found = learned([hole.replace("{}", "toto")])
        assert [number if i == first else i for i in found.ids[0]] == expected.ids[0], hole
        assert found.ends == expected.ends


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_other_sentences_stay_token_for_token(kind: str, request: pytest.FixtureRequest) -> None:
    plain, learned = tokenizers(kind, request)
    lines = [*LINES, "tototo", "atoto", "toto2", "four words", "<four  words>"]
    mixed = [line for pair in zip(lines, ["a toto"] * len(lines), strict=True) for line in pair]
    assert plain(lines).ids == learned(lines).ids == learned(mixed).ids[::2]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_several_tokens_stand_together(kind: str, request: pytest.FixtureRequest) -> None:
    plain, learned = tokenizers(kind, request)
    first = plain.vocabulary
    row = learned(["see <four words> toto, TOTO"]).ids[0]
    at = row.index(first + 1)
    assert row[at : at + 5] == [first + 1, first + 2, first + 3, first + 4, first]
    assert row.count(first) == 2
    assert learned.vocabulary == first + 5
    assert learned.fingerprint != plain.fingerprint


def test_japanese_has_no_spaces() -> None:
    rule = TextRule("sentencepiece", 64)
    tokenizer = open_tokenizer(add_words(rule, {"toto": 1, "トト": 1}, 32_000), BUNDLED)
    plain = open_tokenizer(rule, BUNDLED)
    assert tokenizer(["totoの写真"]).ids[0][1:] == [32_000, *plain(["thingの写真"]).ids[0][2:]]
    assert tokenizer(["これはトトです"]).ids[0].count(32_001) == 1


def test_case_matters_beyond_latin_letters_only() -> None:
    rule = add_words(TextRule("clip", 77), {"ÉTÉ-Mug": 1}, 49408)
    tokenizer = open_tokenizer(rule, None)
    assert [49408 in tokenizer([text]).ids[0] for text in ("an ÉTÉ-mug", "ÉTÉ-MUG", "été-mug")] == [True, True, False]
    blank = dataclasses.replace(rule, words=((" ", 49408, 1),))
    with pytest.raises(CheckpointError, match="blank"):
        open_tokenizer(blank, None)(["a"])


@pytest.mark.parametrize("literal", ["", " toto", "to{}to", "Toto"])
def test_words_that_cannot_be(literal: str) -> None:
    rule = add_words(TextRule("clip", 77), {"toto": 1}, 49408)
    with pytest.raises(UsageError, match="word"):
        add_words(rule, {literal: 1}, 49409)
    with pytest.raises(UsageError, match="token at least"):
        add_words(rule, {"other": 0}, 49409)


# ---- towers --------------------------------------------------------------------------------------------------------


def whole_word(clip: Clip) -> tuple[str, np.ndarray]:
    """A word and its (1, w) row."""
    word, number = one_token_word(clip.tokenizer)
    return word, clip.checkpoint.load()[TOKENS][[number]]


@pytest.mark.parametrize("engine", ["onnxruntime", "torch:cpu", "openvino"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_word_with_the_rows_of_another_is_that_word(name: str, engine: str, tmp_path: Path) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    base = tiny_clip(name, tmp_path, engine=engine)
    word, rows = whole_word(base)
    learned = awase.load(derive(base.checkpoint, Changes(words={"toto": rows})), engine=engine)
    filled = [[sentence.replace("{}", its) for sentence in HOLES[:3]] for its in (word, "toto")]
    np.testing.assert_array_equal(base.encode_texts(filled[0]), learned.encode_texts(filled[1]))
    others = [line for line in LINES[:50] if line.strip()]
    np.testing.assert_array_equal(base.encode_texts(others), learned.encode_texts(others))
    assert base.stamp()["fingerprint"] != learned.stamp()["fingerprint"]
    assert base.stamp()["tokenizer"] != learned.stamp()["tokenizer"]


def test_a_word_of_the_bundled_model() -> None:
    base = awase.load()
    word, rows = whole_word(base)
    learned = awase.load(derive(base.checkpoint, Changes(words={"toto": rows})))
    np.testing.assert_array_equal(base.encode_texts([f"{word} on a desk"]), learned.encode_texts(["toto on a desk"]))


def test_words_are_kept_in_a_folder_of_ours_and_refused_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    base = tiny_clip("clip", tmp_path / "base")
    changed = derive(base.checkpoint, Changes(words={"toto": whole_word(base)[1]}))
    write_checkpoint(changed, tmp_path / "model", "awase")
    read = awase.load(tmp_path / "model")
    np.testing.assert_array_equal(read.encode_texts(["my toto"]), awase.load(changed).encode_texts(["my toto"]))
    with pytest.raises(CheckpointError, match="learned words"):
        write_checkpoint(changed, tmp_path / "other", "huggingface")


def test_two_words_one_after_the_other(tmp_path: Path) -> None:
    base = tiny_clip("clip", tmp_path)
    rows = np.random.default_rng(0).normal(size=(3, 48)).astype(np.float32)
    once = derive(derive(base.checkpoint, Changes(words={"a1": rows[:1]})), Changes(words={"b1": rows[1:]}))
    both = derive(base.checkpoint, Changes(words={"a1": rows[:1], "b1": rows[1:]}))
    sentences = ["a1 beside b1", "b1"]
    np.testing.assert_array_equal(awase.load(once).encode_texts(sentences), awase.load(both).encode_texts(sentences))


# ---- low rank and weights ------------------------------------------------------------------------------------------


def changes_for(checkpoint: Checkpoint, zero: bool = False) -> dict[str, LowRank]:
    """A change of rank two of everything that can take one."""
    from awase.learning.adaptation.low_rank import matrices

    draw = np.random.default_rng(1)
    tensors = checkpoint.load()
    changes = {}
    for name in matrices(checkpoint.architecture):
        values = part(tensors[name.partition("/")[0]], name.partition("/")[2])
        a, b = draw.normal(0, 0.1, (2, values.shape[1])), draw.normal(0, 0.1, (len(values), 2))
        changes[name] = LowRank(a.astype(np.float32), (b * (not zero)).astype(np.float32), 2**-0.5)
    return changes


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_added_is_the_base_bit_for_bit(name: str, tmp_path: Path) -> None:
    base = tiny_checkpoint(name, tmp_path)
    for changed in (
        derive(base, Changes(low_rank=changes_for(base, zero=True))),
        derive(base, Changes(low_rank=changes_for(base)), alpha=0.0),
        derive(base, Changes(weights={key: value + 1 for key, value in base.load().items()}), alpha=0.0),
    ):
        assert changed.fingerprint != base.fingerprint
        for key, values in changed.load().items():
            np.testing.assert_array_equal(values, base.load()[key])


@pytest.mark.parametrize("name", FAMILIES)
def test_merged_is_unmerged_and_the_base_stays(name: str, tmp_path: Path) -> None:
    """Merged: a changed matrix. Unmerged: torch works out the product at every use, as while it learns."""
    import torch

    from awase.encoding.towers import load_towers
    from awase.learning.adaptation.low_rank import attach

    base = tiny_checkpoint(name, tmp_path)
    before = {key: values.copy() for key, values in base.load().items()}
    changes = changes_for(base)
    merged, towers = load_towers(derive(base, Changes(low_rank=changes))), load_towers(base)
    for key, change in attach(towers, list(changes), 2, 2**-0.5, 0.0, seed=0).items():
        change.a.data, change.b.data = torch.from_numpy(changes[key].a), torch.from_numpy(changes[key].b)
    with torch.no_grad():
        size = base.architecture.preprocessing.size
        pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        ids = torch.randint(3, 30_000, (2, base.architecture.text_rule.context))
        ends = torch.tensor([5, 9])
        for found, expected in (
            (towers.image(pixels)["vectors"], merged.image(pixels)["vectors"]),
            (towers.text(ids, ends), merged.text(ids, ends)),
        ):
            assert float((found - expected).abs().max() / expected.abs().max()) < 2e-6
    for key, values in base.load().items():
        np.testing.assert_array_equal(values, before[key])


def test_engines_agree_on_low_rank_changes(tmp_path: Path) -> None:
    base = tiny_checkpoint("clip", tmp_path)
    changed = derive(base, Changes(low_rank=changes_for(base)))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    found = [open_engine(changed, engine).images(pixels)["vectors"] for engine in ("onnxruntime", "torch:cpu")]
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    assert np.abs(found[0] - open_engine(base).images(pixels)["vectors"]).max() > 1e-3


def test_alpha_goes_part_of_the_way(tmp_path: Path) -> None:
    base = tiny_checkpoint("clip", tmp_path)
    name = "image.blocks.0.attention.qkv.weight"
    change = LowRank(np.ones((1, 64), np.float32), np.ones((64, 1), np.float32), 2.0)
    half = derive(base, Changes(low_rank={f"{name}/k": change}), alpha=0.5).load()[name]
    expected = base.load()[name].copy()
    expected[64:128] += 1.0
    np.testing.assert_allclose(half, expected, rtol=1e-6)
    start, end = np.zeros(3, np.float32), np.full(3, 3, np.float32)
    np.testing.assert_allclose(between(start, end, 1 / 3), 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (Changes(weights={"image.nothing": np.zeros(3, np.float32)}), "image.nothing"),
        (Changes(weights={"logit_scale": np.zeros(3, np.float32)}), "logit_scale"),
        (Changes(low_rank={"image.norm.weight": LowRank(np.zeros((1, 64)), np.zeros((64, 1)))}), "no matrix"),
        (Changes(low_rank={"image.projection.weight": LowRank(np.zeros((1, 64)), np.zeros((9, 1)))}), "learned on"),
        (Changes(words={"toto": np.zeros((1, 5), np.float32)}), "toto"),
    ],
)
def test_changes_that_do_not_fit(changes: Changes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        derive(tiny_checkpoint("clip", tmp_path), changes)


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="finite"):
        derive(tiny_checkpoint("clip", tmp_path), Changes(words={"toto": np.full((1, 48), np.nan, np.float32)}))


# ---- peft ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["CLIP", "Siglip"])
def test_peft_and_transformers_see_the_same_vectors(model: str, tmp_path: Path) -> None:
    import torch

    import references

    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    folder = tmp_path / "base"
    (references.tiny_hf_clip if model == "CLIP" else references.tiny_hf_siglip)(folder)
    base = open_checkpoint(folder)
    layers = peft_files.layers_of(base.architecture)
    changes = {name: its for name, its in changes_for(base).items() if name in layers}
    peft_files.write(tmp_path / "adapter", base.architecture, changes, str(folder))
    theirs = getattr(transformers, f"{model}Model").from_pretrained(folder)
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()

    size = base.architecture.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    rule = base.architecture.preprocessing
    prepared = (torch.from_numpy(pixels).float() / 255 - torch.tensor(rule.mean)) / torch.tensor(rule.std)
    ids = torch.randint(3, 900, (2, base.architecture.text_rule.context), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = base.architecture.text.vocabulary - 1 if model == "CLIP" else 1
    ends = torch.full((2,), ids.shape[1] - 1)
    with torch.no_grad():
        inner = theirs.base_model.model
        seen = inner.vision_model(prepared.permute(0, 3, 1, 2)).pooler_output
        read = inner.text_model(ids).pooler_output
        if model == "CLIP":
            seen, read = inner.visual_projection(seen), inner.text_projection(read)
    engine = open_engine(derive(base, Changes(low_rank=changes)))
    assert np.abs(engine.images(pixels)["vectors"] - seen.numpy()).max() < 1e-5 * max(1, float(seen.abs().max()))
    assert np.abs(engine.texts(ids.numpy(), ends.numpy()) - read.numpy()).max() < 1e-5 * max(1, float(read.abs().max()))
    assert np.abs(open_engine(base).images(pixels)["vectors"] - seen.numpy()).max() > 1e-2

    again = peft_files.read(tmp_path / "adapter", base.architecture)
    assert set(again) == set(changes)
    for name, change in again.items():
        np.testing.assert_array_equal(change.a, changes[name].a)
        assert change.factor == pytest.approx(changes[name].factor)


def test_what_peft_cannot_hold(tmp_path: Path) -> None:
    base = tiny_checkpoint("resnet", tmp_path)
    with pytest.raises(CheckpointError, match="no CLIPModel"):
        peft_files.write(tmp_path / "a", base.architecture, changes_for(base), "base")
    base = tiny_checkpoint("clip", tmp_path)
    one = dict(list(changes_for(base).items())[:2])
    mixed = {name: LowRank(its.a, its.b, i + 1.0) for i, (name, its) in enumerate(one.items())}
    with pytest.raises(UsageError, match="one rank and factor"):
        peft_files.write(tmp_path / "a", base.architecture, mixed, "base")
    peft_files.write(tmp_path / "a", base.architecture, one, "base")
    settings: dict[str, Any] = json.loads((tmp_path / "a" / peft_files.CONFIG).read_text())
    (tmp_path / "a" / peft_files.CONFIG).write_text(json.dumps(settings | {"use_dora": True}))
    with pytest.raises(CheckpointError, match="use_dora"):
        peft_files.read(tmp_path / "a", base.architecture)
