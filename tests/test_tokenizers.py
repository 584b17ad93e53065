"""Tokenizers: token for token what each family's own gives, on lines of every kind; limits, errors, files."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from awase.encoding.families import TextRule
from awase.encoding.tokenizers import Tokenizer, open_tokenizer
from awase.encoding.tokenizers.byte_pairs import BUILT_IN, WORD_END, byte_symbols
from awase.errors import CheckpointError, TextError, UsageError
from lines import mixed_lines

LINES = mixed_lines(10_000)
LONG = 100_000  # a context that cuts nothing


def open_kind(kind: str, context: int = 77, folder: Path | None = None, fixed: bool = False) -> Tokenizer:
    return open_tokenizer(TextRule(kind, context, fixed), folder)  # type: ignore[arg-type]


def differences(ours: list[list[int]], theirs: list[list[int]], lines: list[str]) -> list[str]:
    return [line[:80] for line, a, b in zip(lines, ours, theirs, strict=True) if list(a) != list(b)][:10]


# ---- CLIP ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of a cat", [49406, 320, 1125, 539, 320, 2368, 49407]),
        ("a photo of a cat.", [49406, 320, 1125, 539, 320, 2368, 269, 49407]),
        ("a photo of a dog", [49406, 320, 1125, 539, 320, 1929, 49407]),
        ("a diagram", [49406, 320, 22697, 49407]),
        ("", [49406, 49407]),
    ],
)
@pytest.mark.parametrize("kind", ["clip", "open_clip", "clip_hf"])
def test_published_examples(kind: str, text: str, ids: list[int]) -> None:
    tokens = open_kind(kind)([text])
    assert tokens.ids == [ids]
    assert tokens.ends == [len(ids) - 1]


def simple_tokenizer(start: str, end: str) -> Any:
    """OpenCLIP's tokenizer, which is OpenAI's with other names for the special tokens."""
    module = pytest.importorskip("open_clip.tokenizer")
    regex = pytest.importorskip("regex")
    theirs = module.SimpleTokenizer()
    pattern = theirs.pat.pattern.replace("<start_of_text>", re.escape(start)).replace("<end_of_text>", re.escape(end))
    theirs.pat = regex.compile(pattern, regex.IGNORECASE)
    theirs.encoder |= {start: 49406, end: 49407}
    theirs.cache = {start: start, end: end}
    return theirs


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [("open_clip", "<start_of_text>", "<end_of_text>"), ("clip", "<|startoftext|>", "<|endoftext|>")],
)
def test_equal_to_openai_and_open_clip(kind: str, start: str, end: str) -> None:
    theirs = simple_tokenizer(start, end)
    expected = [[49406, *theirs.encode(line), 49407] for line in LINES]
    assert differences(open_kind(kind, LONG)(LINES).ids, expected, LINES) == []


def test_cut_and_padded_as_open_clip() -> None:
    theirs = simple_tokenizer("<start_of_text>", "<end_of_text>")(LINES[:2000])
    tokens = open_kind("open_clip")(LINES[:2000])
    assert differences([row + [0] * (77 - len(row)) for row in tokens.ids], theirs.tolist(), LINES[:2000]) == []
    assert tokens.ends == theirs.argmax(dim=-1).tolist()


def clip_vocabulary() -> tuple[dict[str, int], list[str]]:
    import gzip

    merges = gzip.decompress(BUILT_IN.read_bytes()).decode().split("\n")
    names = [symbol + mark for mark in ("", WORD_END) for symbol in byte_symbols()]
    names += [line.replace(" ", "") for line in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return {name: i for i, name in enumerate(names)}, merges


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    vocabulary, merges = clip_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return folder


@pytest.fixture(scope="module")
def transformers_clip(clip_folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.CLIPTokenizer.from_pretrained(str(clip_folder))


def test_equal_to_transformers(clip_folder: Path, transformers_clip: Any, tmp_path: Path) -> None:
    expected = [transformers_clip(line).input_ids for line in LINES]
    assert differences(open_kind("clip_hf", LONG)(LINES).ids, expected, LINES) == []
    assert differences(open_kind("clip_hf", LONG, clip_folder)(LINES).ids, expected, LINES) == []
    transformers_clip.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists(), "meant to test the tokenizer.json alone"
    assert differences(open_kind("clip_hf", LONG, tmp_path)(LINES).ids, expected, LINES) == []


def test_cut_as_transformers(transformers_clip: Any) -> None:
    expected = transformers_clip(LINES, truncation=True, max_length=77).input_ids
    tokens = open_kind("clip_hf")(LINES)
    assert differences(tokens.ids, expected, LINES) == []
    assert tokens.ends == [row.index(49407) for row in expected]


def test_a_folder_brings_its_own_vocabulary(tmp_path: Path) -> None:
    vocabulary = {"c": 0, "a": 1, "t</w>": 2, "at</w>": 3, "cat</w>": 4, "<|startoftext|>": 5, "<|endoftext|>": 6}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na t</w>\nc at</w>\n")
    tokenizer = open_kind("clip_hf", 77, tmp_path)
    assert tokenizer(["cat", "cad"]).ids == [[5, 4, 6], [5, 0, 1, 6, 6]]  # an unknown symbol is the end token
    assert tokenizer(["cad"]).ends == [3]  # and the first of them is where the tower pools
    assert tokenizer.vocabulary == 7


def test_a_sentence_may_spell_out_the_end_token() -> None:
    tokens = open_kind("clip")(["a<|endoftext|>b"])
    assert tokens.ids == [[49406, 320, 49407, 321, 49407]]
    assert tokens.ends == [2]


def test_a_word_of_thirty_thousand_letters_takes_no_minute() -> None:
    letters = "".join(chr(0x4E00 + i * 7919 % 20_000) for i in range(30_000))
    tokenizer = open_kind("clip")
    started = time.process_time()
    assert tokenizer([letters]).cut == (0,)
    assert time.process_time() - started < 10


def test_ascii_needs_no_mending() -> None:
    ftfy = pytest.importorskip("ftfy")
    import html

    plain = [line for line in LINES if line.isascii() and line.isprintable() and "&" not in line]
    every = [a + b for a in map(chr, range(32, 127)) for b in map(chr, range(32, 127)) if "&" not in a + b]
    assert len(plain) > 500
    for line in plain + every:
        assert html.unescape(html.unescape(ftfy.fix_text(line))) == line


# ---- lengths and errors --------------------------------------------------------------------------------------------


def test_cutting_keeps_the_end_token_and_says_so() -> None:
    tokens = open_kind("clip", 8)(["a cat", "one two three four five six", "one two three four five six seven"])
    assert [len(row) for row in tokens.ids] == [4, 8, 8]
    assert tokens.ids[2] == [*tokens.ids[1][:7], 49407]
    assert tokens.cut == (2,)


def test_too_long_can_be_an_error() -> None:
    with pytest.raises(TextError, match=r"sentence 1 has 9 tokens and the text tower takes 8.*'one two"):
        open_kind("clip", 8)(["a cat", "one two three four five six seven"], too_long="error")
    assert open_kind("clip", 9)(["one two three four five six seven"], too_long="error").cut == ()


@pytest.mark.parametrize(
    ("bad", "message"), [(None, "NoneType"), (3.5, "float"), (b"cat", "bytes"), ("\ud83d cat", "surrogate")]
)
def test_what_is_not_text_is_named(bad: Any, message: str) -> None:
    with pytest.raises(TextError, match=f"sentence 1 .*{message}"):
        open_kind("clip")(["fine", bad])


def test_one_string_is_not_a_list() -> None:
    with pytest.raises(UsageError, match="put it in a list"):
        open_kind("clip")("a cat")


def test_no_sentences() -> None:
    tokens = open_kind("clip")([])
    assert (tokens.ids, tokens.ends, tokens.cut) == ([], [], ())


def test_fingerprints_tell_rules_and_files_apart(clip_folder: Path) -> None:
    tokenizers = [
        open_kind("clip"),
        open_kind("clip", 64),
        open_kind("open_clip"),
        open_kind("clip_hf", 77, clip_folder),
    ]
    assert len({tokenizer.fingerprint for tokenizer in tokenizers}) == 4
    assert open_kind("clip").fingerprint == open_kind("clip").fingerprint
    assert (open_kind("clip").pad, open_kind("clip").vocabulary, open_kind("clip").context) == (0, 49408, 77)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    for kind, name in [
        ("siglip", "spiece.model"),
        ("siglip2", "tokenizer.json"),
        ("sentencepiece", "tokenizer.model"),
        ("huggingface", "tokenizer.json"),
    ]:
        folder = tmp_path / kind
        folder.mkdir()
        with pytest.raises(CheckpointError, match=name):
            open_kind(kind, 64, folder)
        (folder / name).write_bytes(b"\x00 not a tokenizer")
        with pytest.raises(CheckpointError, match=name):
            open_kind(kind, 64, folder)(["a"])
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    with pytest.raises(CheckpointError, match="vocabulary"):
        open_kind("clip_hf", 77, tmp_path)(["a"])


# ---- SigLIP --------------------------------------------------------------------------------------------------------

PLAIN = mixed_lines(3000, specials=False, seed=1)


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model with T5's special tokens (pad 0, end 1, unknown 2), as SigLIP's has them."""
    spm = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("siglip")
    text = iter(" ".join(line.lower().split()) for line in PLAIN if line.strip() and "\x00" not in line)
    spm.SentencePieceTrainer.train(
        sentence_iterator=text,
        model_prefix=str(folder / "spiece"),
        vocab_size=1000,
        hard_vocab_limit=False,
        character_coverage=0.98,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return folder


def test_siglip_equal_to_transformers(siglip_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("google.protobuf")
    theirs = transformers.SiglipTokenizer(str(siglip_folder / "spiece.model"))
    expected = theirs(PLAIN, padding="max_length", truncation=True, max_length=64).input_ids
    tokens = open_kind("siglip", 64, siglip_folder, fixed=True)(PLAIN)
    assert differences(tokens.ids, expected, PLAIN) == []
    assert set(tokens.ends) == {63}
    assert {tokens.ids[index][-1] for index in tokens.cut} == {1}
    assert tokens.cut


def test_siglip_as_open_clip_cleans(siglip_folder: Path) -> None:
    module = pytest.importorskip("open_clip.tokenizer")
    spm = pytest.importorskip("sentencepiece")
    model = spm.SentencePieceProcessor(model_file=str(siglip_folder / "spiece.model"))
    cleaned = [module.canonicalize_text(module.basic_clean(line)) for line in PLAIN]
    expected = [[*ids, 1] for ids in model.encode(cleaned)]
    tokens = open_kind("siglip_open_clip", LONG, siglip_folder)(PLAIN)
    assert differences(tokens.ids, expected, PLAIN) == []


@pytest.fixture(scope="module")
def gemma_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer.json of Gemma's make: byte pairs with bytes to fall back on, ▁ for a space, pad 0, end 1."""
    tk = pytest.importorskip("tokenizers")
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = tk.Tokenizer(tk.models.BPE(fuse_unk=True, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = tk.normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = tk.pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = tk.trainers.BpeTrainer(vocab_size=1500, special_tokens=specials, limit_alphabet=200, show_progress=False)
    tokenizer.train_from_iterator([line.lower() for line in PLAIN], trainer)
    described = json.loads(tokenizer.to_str())
    described["added_tokens"] = described["added_tokens"][:5]  # bytes are ordinary pieces of the vocabulary
    folder = tmp_path_factory.mktemp("gemma")
    (folder / "tokenizer.json").write_text(json.dumps(described))
    return folder


def transformers_siglip2(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return transformers.Siglip2Tokenizer(vocab=model["vocab"], merges=merges, padding_side="right")


def test_siglip2_equal_to_transformers(gemma_folder: Path) -> None:
    theirs = transformers_siglip2(gemma_folder)
    expected = [[*theirs(line, add_special_tokens=False).input_ids, 1] for line in PLAIN]
    tokens = open_kind("siglip2", LONG, gemma_folder)(PLAIN)
    assert differences(tokens.ids, expected, PLAIN) == []
    padded = open_kind("siglip2", 64, gemma_folder, fixed=True)(PLAIN)
    rows = [[*row[:63], 1] if len(row) > 64 else row + [0] * (64 - len(row)) for row in expected]
    assert differences(padded.ids, rows, PLAIN) == []


def test_siglip2_as_open_clip_cleans(gemma_folder: Path) -> None:
    module = pytest.importorskip("open_clip.tokenizer")
    theirs = transformers_siglip2(gemma_folder)
    cleaned = [module.canonicalize_text(module.basic_clean(line)) for line in PLAIN]
    expected = [[*theirs(line, add_special_tokens=False).input_ids, 1] for line in cleaned]
    assert differences(open_kind("siglip2_open_clip", LONG, gemma_folder)(PLAIN).ids, expected, PLAIN) == []


def test_siglip2_from_a_sentencepiece_model(siglip_folder: Path, tmp_path: Path) -> None:
    spm = pytest.importorskip("sentencepiece")
    (tmp_path / "tokenizer.model").write_bytes((siglip_folder / "spiece.model").read_bytes())
    model = spm.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    tokens = open_kind("siglip2", 16, tmp_path, fixed=True)(["Two Cats"])
    bare = model.encode("two cats")
    assert tokens.ids == [[*bare, 1, *[0] * (15 - len(bare))]]


# ---- other vocabularies --------------------------------------------------------------------------------------------


def test_sentencepiece_stands_between_start_and_end(tmp_path: Path) -> None:
    spm = pytest.importorskip("sentencepiece")
    text = iter(line for line in PLAIN if line.strip() and "\x00" not in line)
    spm.SentencePieceTrainer.train(
        sentence_iterator=text, model_prefix=str(tmp_path / "tokenizer"), vocab_size=800, character_coverage=0.98,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    model = spm.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    tokens = open_kind("sentencepiece", 20, tmp_path)(["two cats", "猫の写真", "", "word " * 30])
    assert tokens.ids[:3] == [[1, *model.encode(text), 2] for text in ("two cats", "猫の写真", "")]
    assert tokens.ends == [len(row) - 1 for row in tokens.ids]
    assert len(tokens.ids[3]) == 20
    assert tokens.ids[3][-1] == 2
    assert tokens.cut == (3,)


def test_huggingface_keeps_the_files_own_frame(tmp_path: Path) -> None:
    tk = pytest.importorskip("tokenizers")
    words = {name: i for i, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", "two", "cats", "a"])}
    tokenizer = tk.Tokenizer(tk.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tk.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tk.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.enable_truncation(3)  # the family's rule decides, not the file
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokens = open_kind("huggingface", 5, tmp_path)(["two cats", "two two two two", "dogs"])
    assert tokens.ids == [[0, 4, 5, 2], [0, 4, 4, 4, 2], [0, 3, 2]]
    assert tokens.cut == (1,)
    padded = open_kind("huggingface", 5, tmp_path, fixed=True)(["two cats"])
    assert (padded.ids, padded.ends) == ([[0, 4, 5, 2, 1]], [4])
