"""Sentences in, ids out: what every tokenizer has in common. It knows no vocabulary and no file format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from awase.encoding.families import TextRule, in_words
from awase.errors import TextError, UsageError


@dataclass(frozen=True)
class Tokens:
    """Token ids of N sentences.

    ids: N lists, start and end tokens included; of different lengths, or all of the context's length where padding
    takes part in the result. ends: for each the position that the text tower pools at. cut: which sentences were
    longer than the context, by index, and lost their last words."""

    ids: list[list[int]]
    ends: list[int]
    cut: tuple[int, ...] = ()


@dataclass(frozen=True)
class Subwords:
    """What a vocabulary defines: text -> ids without start and end, what stands around them, and the padding."""

    encode: Callable[[Sequence[str]], list[list[int]]]
    start: tuple[int, ...]
    finish: tuple[int, ...]
    pad: int
    vocabulary: int


@dataclass(frozen=True)
class Tokenizer:
    """Sentences -> `Tokens`, as a family's rule has it. Its files are read at the first use, not before."""

    rule: TextRule
    files: tuple[Path, ...]
    read: Callable[[], Subwords]

    def __reduce__(self) -> tuple[type, tuple[TextRule, tuple[Path, ...], Callable[[], Subwords]]]:
        return type(self), (self.rule, self.files, self.read)  # what was read from the files is read again there

    def __call__(self, texts: Sequence[str], too_long: Literal["cut", "error"] = "cut") -> Tokens:
        """A sentence over `context` tokens, start and end included, loses its last words; with too_long="error" it
        raises TextError, as does anything that is not a string of valid Unicode."""
        check_sentences(texts)
        words, rule = self._subwords, self.rule
        room = rule.context - len(words.start) - len(words.finish)
        ids, ends, cut = [], [], []
        for index, content in enumerate(words.encode(texts)):
            if len(content) > room:
                if too_long == "error":
                    raise _too_long(index, texts[index], len(content) - room + rule.context, rule.context)
                cut.append(index)
                content = content[:room]
            row = [*words.start, *content, *words.finish]
            ends.append(self._end(row))
            ids.append(row + [words.pad] * (rule.context - len(row)) if rule.fixed_length else row)
        return Tokens(ids, ends, tuple(cut))

    def _end(self, row: list[int]) -> int:
        """Where the tower pools: CLIP's first end token, which may stand in the middle where a sentence spells it out;
        else the last position of the context where padding takes part; else the last token."""
        if self.rule.kind in ("clip", "open_clip", "clip_hf"):
            return row.index(self._subwords.finish[-1])
        return self.rule.context - 1 if self.rule.fixed_length else len(row) - 1

    def bare(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts alone: no start, no end, no padding, nothing cut."""
        return self._subwords.encode(texts)

    @property
    def context(self) -> int:
        """The most tokens that a sentence may have, start and end included."""
        return self.rule.context

    @property
    def vocabulary(self) -> int:
        """One more than the largest id."""
        return self._subwords.vocabulary

    @property
    def pad(self) -> int:
        return self._subwords.pad

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the rule and the files: equal fingerprints give equal ids."""
        digest = hashlib.sha256(in_words(self.rule).encode())
        for path in self.files:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    @cached_property
    def _subwords(self) -> Subwords:
        return self.read()


def check_sentences(texts: Sequence[str]) -> None:
    """Raises TextError that names the first sentence that is not a string or not valid Unicode."""
    if isinstance(texts, str):
        raise UsageError(
            f"a list of sentences is expected, and one string was given: {_shown(texts)}; put it in a list"
        )
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextError(
                f"sentence {index} is not a string but {type(text).__name__}; "
                "give text, and leave out what is missing or turn it into text first"
            )
        if not text.isascii() and not _is_unicode(text):
            raise TextError(
                f"sentence {index} is not valid Unicode (it holds half of a surrogate pair): {_shown(text)}; "
                'mend it first, for example text.encode("utf-8", "replace").decode()'
            )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_long(index: int, text: str, length: int, limit: int) -> TextError:
    return TextError(
        f"sentence {index} has {length} tokens and the text tower takes {limit}, start and end included: "
        f'{_shown(text)}; shorten it, or let it be cut with too_long="cut"'
    )


def _shown(text: str) -> str:
    return ascii(text[:60]) if not _is_unicode(text[:60]) else repr(text[:60]) + ("..." if len(text) > 60 else "")
