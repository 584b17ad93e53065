"""Vocabularies from the files that a checkpoint brings: SentencePiece models, tokenizer.json, vocab.json + merges.txt.

Every function takes paths and gives `Subwords`; a file that cannot be used raises CheckpointError that names it. The
compiled libraries are imported when a file of theirs is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from awase.encoding.tokenizers import cleaning
from awase.encoding.tokenizers.byte_pairs import END_ID, START_ID, WORD_END, BytePairs, built_in, byte_symbols
from awase.encoding.tokenizers.tokens import Subwords
from awase.errors import CheckpointError

if TYPE_CHECKING:
    import tokenizers

Clean = Callable[[str], str]
START, END = "<|startoftext|>", "<|endoftext|>"


# ---- CLIP's byte pairs ---------------------------------------------------------------------------------------------


def openai_clip(start: str, end: str) -> Subwords:
    """OpenAI's vocabulary; a sentence that spells out `start` or `end` gets that token, as in OpenAI's own code."""
    long_s = {ord("ſ"): "s"}  # their pattern ignores case, and ſ is a case of s
    pairs = built_in({start: (START_ID,), end: (END_ID,)}, long_s)
    return Subwords(
        lambda texts: [pairs(cleaning.openai(text)) for text in texts], (START_ID,), (END_ID,), 0, END_ID + 1
    )


def huggingface_clip(files: Sequence[Path]) -> Subwords:
    """`transformers.CLIPTokenizer`: of vocab.json and merges.txt, of a tokenizer.json, or, without files, OpenAI's."""
    whole: dict[str, tuple[int, ...]] = {START: (), END: ()}
    if files:
        vocabulary, merges = _vocab_and_merges(files) if len(files) > 1 else _tokenizer_json(files[0])
        pairs, start, end = _byte_pairs(vocabulary, merges, whole, files[0])
        size = max(vocabulary.values()) + 1
    else:
        pairs, start, end, size = built_in(whole), START_ID, END_ID, END_ID + 1
    for literal in whole:  # told apart from what follows, then split again: so do the pre-tokenizers in a row
        whole[literal] = tuple(number for piece in ("<|", literal[2:-2], "|>") for number in pairs.word(piece))
    special, literals = {START: start, END: end}, re.compile(f"({re.escape(START)}|{re.escape(END)})")

    def encode(text: str) -> list[int]:
        ids: list[int] = []
        for part in literals.split(text):
            ids += [special[part]] if part in special else pairs(cleaning.huggingface_clip(part))
        return ids

    return Subwords(lambda texts: [encode(text) for text in texts], (start,), (end,), end, size)


def _byte_pairs(
    vocabulary: Mapping[str, int], merges: Sequence[str], whole: Mapping[str, tuple[int, ...]], path: Path
) -> tuple[BytePairs, int, int]:
    try:
        start, end = vocabulary[START], vocabulary[END]
        made = [vocabulary[line.replace(" ", "", 1)] for line in merges]
    except KeyError as missing:
        raise CheckpointError(f"{path}: no token {missing} in this vocabulary; it is not one of a CLIP model") from None
    singles = [symbol + mark for mark in ("", WORD_END) for symbol in byte_symbols()]
    symbols = {symbol: vocabulary[symbol] for symbol in singles if symbol in vocabulary}
    return BytePairs(merges, made, symbols, whole, unknown=end), start, end


def _vocab_and_merges(files: Sequence[Path]) -> tuple[dict[str, int], list[str]]:
    vocabulary, merges = files
    lines = merges.read_text("utf-8").split("\n")
    return _json(vocabulary), [line for line in lines if line and not line.startswith("#version")]


def _tokenizer_json(path: Path) -> tuple[dict[str, int], list[str]]:
    described = _json(path)
    model = described.get("model", {})
    if model.get("end_of_word_suffix") != WORD_END:
        raise CheckpointError(
            f"{path}: a CLIP model needs byte pairs with {WORD_END} at a word's end; this is another kind"
        )
    added = {token["content"]: token["id"] for token in described.get("added_tokens", [])}
    merges = [line if isinstance(line, str) else " ".join(line) for line in model["merges"]]
    return model["vocab"] | added, merges


def _json(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_bytes())
    except ValueError as problem:
        raise CheckpointError(f"{path} is not valid JSON ({problem}); fetch the checkpoint again") from problem
    if not isinstance(described, dict):
        raise CheckpointError(f"{path} should hold a JSON object and holds a {type(described).__name__}")
    return described


# ---- SentencePiece -------------------------------------------------------------------------------------------------


def sentencepiece(path: Path) -> Subwords:
    """The model as it is, between its own start and end tokens."""
    model = _model(path)
    return Subwords(model.encode, (model.bos_id(),), (model.eos_id(),), max(model.pad_id(), 0), model.get_piece_size())


def siglip(path: Path) -> Subwords:
    """`transformers.SiglipTokenizer`: an end token, which is the padding too."""
    model = _model(path)
    unknown = "<unk>"
    skipped = len(model.encode(unknown))

    def encode(text: str) -> list[int]:
        # A ▁ before the sentence and <unk> before that, taken off again, as there: what follows is split as if it
        # stood inside a sentence, and white space in front of it becomes a token of its own.
        cleaned = cleaning.huggingface_siglip("▁" + text.replace("▁", " "))
        return list(model.encode(unknown + cleaned)[skipped:])

    end = model.eos_id()
    return Subwords(lambda texts: [encode(text) for text in texts], (), (end,), end, model.get_piece_size())


def cleaned_sentencepiece(path: Path, clean: Clean, end: int, pad: int) -> Subwords:
    """A SentencePiece model after a cleaning, with an end token."""
    model = _model(path)
    return Subwords(
        lambda texts: model.encode([clean(text) for text in texts]), (), (end,), pad, model.get_piece_size()
    )


def _model(path: Path) -> Any:
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as problem:
        raise CheckpointError(f"{path} is not a SentencePiece model ({problem}); fetch it again") from problem


# ---- tokenizer.json ------------------------------------------------------------------------------------------------


def huggingface(path: Path) -> Subwords:
    """A tokenizer.json with its own start and end tokens and padding."""
    compiled = _compiled(path)
    pad = compiled.padding["pad_id"] if compiled.padding else _first_id(compiled, "<pad>", "[PAD]", "<|pad|>")
    whole, bare = (compiled.encode("a", add_special_tokens=special).ids for special in (True, False))
    before = next(i for i in range(len(whole) + 1) if whole[i : i + len(bare)] == bare)
    start, finish = tuple(whole[:before]), tuple(whole[before + len(bare) :])
    return Subwords(_encoder(compiled), start, finish, pad, compiled.get_vocab_size())


def cleaned_huggingface(path: Path, clean: Clean | None, end: int, pad: int, lower: bool = False) -> Subwords:
    """A tokenizer.json after a cleaning, with the end token given and no other. lower: as the library lowers, letter by
    letter, before the file's own normalisation."""
    compiled = _compiled(path)
    if lower:
        from tokenizers import normalizers

        own = [compiled.normalizer] if compiled.normalizer else []
        compiled.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    return Subwords(_encoder(compiled, clean), (), (end,), pad, compiled.get_vocab_size())


def _compiled(path: Path) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as problem:  # the library raises nothing narrower
        raise CheckpointError(f"{path} is not a tokenizer.json that can be used ({problem})") from problem


def _encoder(compiled: tokenizers.Tokenizer, clean: Clean | None = None) -> Callable[[Sequence[str]], list[list[int]]]:
    compiled.no_truncation()
    compiled.no_padding()

    def encode(texts: Sequence[str]) -> list[list[int]]:
        cleaned = [clean(text) for text in texts] if clean else list(texts)
        return [found.ids for found in compiled.encode_batch_fast(cleaned, add_special_tokens=False)]

    return encode


def _first_id(compiled: tokenizers.Tokenizer, *names: str) -> int:
    found = (compiled.token_to_id(name) for name in names)
    return next((number for number in found if number is not None), 0)
