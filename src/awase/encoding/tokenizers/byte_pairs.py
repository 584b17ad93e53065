"""CLIP's byte-pair encoding (Sennrich et al., 2016, arXiv:1508.07909; GPT-2's table of bytes; a mark at a word's end).

Written in Python because that is the faster way here: the merges are one dictionary of 48,894 lines, read in a fifth of
the time in which a compiled tokenizer is built from them, and words, once merged, are remembered. It knows nothing of
cleaning, start and end tokens, or lengths."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from pathlib import Path

BUILT_IN = Path(__file__).parents[1] / "data" / "clip_merges.txt.gz"  # from openai/CLIP, MIT
BYTES, WORD_END = 256, "</w>"
START_ID, END_ID = 49406, 49407
_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
_REMEMBERED_WORDS = 65_536


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for every byte, in the order of CLIP's vocabulary: printable Latin-1 first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(BYTES + i) for i in range(BYTES - len(printable))]


def _bytes_to_symbols() -> dict[int, str]:
    symbols = byte_symbols()
    own = {ord(symbol): symbol for symbol in symbols if ord(symbol) < BYTES}
    rest = iter(symbols[len(own) :])
    return {byte: own.get(byte) or next(rest) for byte in range(BYTES)}


class _Shape(dict[int, str]):
    """Characters -> a, 0 or ! as they are letters, numbers or neither, so that one ASCII pattern splits any script.

    ASCII stands for itself. Letters become z, a letter that no contraction and no special token holds. Python's
    `isalpha` is Unicode's \\p{L}, and `isnumeric` without it \\p{N}, as of the Unicode that this Python knows."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        shape = "z" if character.isalpha() else "0" if character.isnumeric() else "!"
        self[code] = character if code < 128 else shape
        return self[code]


class BytePairs:
    """Cleaned text (lower case, no white space but single spaces) -> ids, without start and end.

    merges: lines "left right", best first. made: the id of the token that each merge makes. symbols: the id of every
    single symbol, with and without the mark of a word's end; `unknown` stands for any other. whole: words that are
    not merged but have ids of their own, special tokens above all. folded: characters beyond ASCII that count as an
    ASCII letter where a contraction is looked for."""

    def __init__(
        self,
        merges: Iterable[str],
        made: Sequence[int],
        symbols: Mapping[str, int],
        whole: Mapping[str, tuple[int, ...]],
        unknown: int = END_ID,
        folded: Mapping[int, str] | None = None,
    ) -> None:
        self._ranks = {line: rank for rank, line in enumerate(merges)}
        self._made = made
        self._symbols = symbols
        self._unknown = unknown
        self._whole = whole
        self._bytes = _bytes_to_symbols()
        self._shape = _Shape(folded or {})
        literals = "|".join(re.escape(literal) for literal in whole)
        self._words = re.compile(f"{literals}|{_CONTRACTIONS}|[a-z]+|[0-9]|[^ a-z0-9]+")
        self.word = lru_cache(_REMEMBERED_WORDS)(self._word)

    def __call__(self, text: str) -> list[int]:
        shape = text if text.isascii() else text.translate(self._shape)
        ids: list[int] = []
        for found in self._words.finditer(shape):
            ids += self.word(text[found.start() : found.end()])
        return ids

    def _word(self, word: str) -> tuple[int, ...]:
        if word in self._whole:
            return self._whole[word]
        symbols = [self._bytes[byte] for byte in word.encode()]
        symbols[-1] += WORD_END
        ids = [self._symbols.get(symbol, self._unknown) for symbol in symbols]
        self._merge(symbols, ids)
        return tuple(number for symbol, number in zip(symbols, ids, strict=True) if symbol)

    def _merge(self, symbols: list[str], ids: list[int]) -> None:
        """Joins the best pair, the leftmost of equals, until none is left; what was joined to its left becomes "".

        A queue keeps a word of n bytes at O(n log n): a sentence in Japanese is one word here."""
        last = len(symbols) - 1
        after, before = list(range(1, last + 2)), list(range(-1, last))
        ranks = self._ranks

        def rank(left: int, right: int) -> int | None:
            return ranks.get(f"{symbols[left]} {symbols[right]}") if left >= 0 and right <= last else None

        queue = [(found, i) for i in range(last) if (found := rank(i, i + 1)) is not None]
        heapify(queue)
        while queue:
            best, left = heappop(queue)
            right = after[left]
            if not symbols[left] or rank(left, right) != best:
                continue  # one of the two has been joined to something else since
            symbols[left] += symbols[right]
            ids[left] = self._made[best]
            symbols[right] = ""
            after[left] = after[right]
            if after[left] <= last:
                before[after[left]] = left
            for a, b in ((before[left], left), (left, after[left])):
                if (found := rank(a, b)) is not None:
                    heappush(queue, (found, a))


def built_in(whole: Mapping[str, tuple[int, ...]], folded: Mapping[int, str] | None = None) -> BytePairs:
    """OpenAI's vocabulary: 256 bytes, the same at a word's end, 48,894 merges in order, start, end."""
    lines = zlib.decompress(BUILT_IN.read_bytes(), wbits=31).decode().split("\n")
    singles = [symbol + mark for mark in ("", WORD_END) for symbol in byte_symbols()]
    symbols = {symbol: i for i, symbol in enumerate(singles)}
    return BytePairs(lines, range(len(singles), START_ID), symbols, whole, folded=folded)
