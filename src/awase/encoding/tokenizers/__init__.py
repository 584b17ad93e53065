"""Sentences -> ids, token for token as each family's own tokenizer has it.

    tokenizer = open_tokenizer(architecture.text_rule, checkpoint.folder)
    tokens = tokenizer(["a photo of a cat", "猫の写真"])         # ids, where to pool, which sentences were cut

`byte_pairs` is CLIP's own encoding, `published` reads the files of other families, `cleaning` is what happens to a
sentence before. Start and end tokens, length and padding are `tokens`. A sentence that spells out a special token gets
that token where the original code does so: CLIP's kinds and those with a tokenizer.json. `words` adds words that were
learned later."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from awase.encoding.families import TextRule
from awase.encoding.tokenizers import cleaning, published
from awase.encoding.tokenizers.byte_pairs import BUILT_IN
from awase.encoding.tokenizers.tokens import Subwords, Tokenizer, Tokens
from awase.encoding.tokenizers.words import add_words, with_words
from awase.errors import CheckpointError

__all__ = ["Subwords", "Tokenizer", "Tokens", "add_words", "open_tokenizer"]

GEMMA_PAD, GEMMA_END, T5_END = 0, 1, 1
_CLIP_FILES = (("vocab.json", "merges.txt"), ("tokenizer.json",))


def open_tokenizer(rule: TextRule, folder: Path | None) -> Tokenizer:
    """The tokenizer of a family; `folder` holds the checkpoint's own files, where the kind needs any.

    Raises CheckpointError where they are missing, and at the first use where they are damaged."""
    tokenizer = _published(rule, folder)
    if rule.words:
        return Tokenizer(rule, tokenizer.files, partial(_with_words, tokenizer.read, rule.words))
    return tokenizer


def _with_words(read: Callable[[], Subwords], words: tuple[tuple[str, int, int], ...]) -> Subwords:
    return with_words(read(), words)


def _published(rule: TextRule, folder: Path | None) -> Tokenizer:
    kind = rule.kind
    if kind == "clip":
        return Tokenizer(rule, (BUILT_IN,), partial(published.openai_clip, published.START, published.END))
    if kind == "open_clip":
        return Tokenizer(rule, (BUILT_IN,), partial(published.openai_clip, "<start_of_text>", "<end_of_text>"))
    if kind == "clip_hf":
        files = _first_present(folder, _CLIP_FILES)
        return Tokenizer(rule, files or (BUILT_IN,), partial(published.huggingface_clip, files))
    files = _first_present(folder, tuple((name,) for name in _READERS[kind]))
    if not files:
        raise CheckpointError(
            f"{folder or 'this checkpoint'} has no {' or '.join(_READERS[kind])}, which its text tower needs; "
            "copy it from the place that published the model"
        )
    return Tokenizer(rule, files, partial(_READERS[kind][files[0].name], files[0]))


def _first_present(folder: Path | None, choices: tuple[tuple[str, ...], ...]) -> tuple[Path, ...]:
    if folder is None:
        return ()
    for names in choices:
        files = tuple(folder / name for name in names)
        if all(path.is_file() for path in files):
            return files
    return ()


# For each kind that reads one file: its names, the best first, and what reads it.
_READERS: dict[str, dict[str, Callable[[Path], Subwords]]] = {
    "siglip": {
        "spiece.model": published.siglip,
        "tokenizer.json": partial(
            published.cleaned_huggingface, clean=cleaning.huggingface_siglip, end=T5_END, pad=T5_END
        ),
    },
    "siglip_open_clip": {
        "tokenizer.json": partial(published.cleaned_huggingface, clean=cleaning.canonical, end=T5_END, pad=T5_END),
        "spiece.model": partial(published.cleaned_sentencepiece, clean=cleaning.canonical, end=T5_END, pad=T5_END),
    },
    "siglip2": {
        "tokenizer.json": partial(published.cleaned_huggingface, clean=None, end=GEMMA_END, pad=GEMMA_PAD, lower=True),
        "tokenizer.model": partial(published.cleaned_sentencepiece, clean=str.lower, end=GEMMA_END, pad=GEMMA_PAD),
    },
    "siglip2_open_clip": {
        "tokenizer.json": partial(
            published.cleaned_huggingface, clean=cleaning.canonical, end=GEMMA_END, pad=GEMMA_PAD
        ),
        "tokenizer.model": partial(
            published.cleaned_sentencepiece, clean=cleaning.canonical, end=GEMMA_END, pad=GEMMA_PAD
        ),
    },
    "sentencepiece": {"tokenizer.model": published.sentencepiece},
    "huggingface": {"tokenizer.json": published.huggingface},
}
