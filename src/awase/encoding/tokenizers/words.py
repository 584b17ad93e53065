"""Words that were learned after a vocabulary was made: a literal in a sentence becomes ids of its own.

    "a photo of <mug> on a desk"   ->   a photo of | 49408 | on a desk

A learned word takes the place of a whole word. What stands before it and after it becomes the ids that it would have
beside any whole word, so a learned word with the embeddings of an existing one gives that word's sentence vectors.
(In SigLIP 2 a word has another id at a sentence's beginning, so not there.) A sentence without a learned word is never
touched. It knows nothing of embeddings, and works over any vocabulary.
"""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Callable, Mapping, Sequence

from awase.encoding.families import TextRule
from awase.encoding.tokenizers.tokens import Subwords
from awase.errors import CheckpointError, UsageError

Encode = Callable[[Sequence[str]], list[list[int]]]
ANY_WORD = "thing"
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def add_words(rule: TextRule, counts: Mapping[str, int], first: int) -> TextRule:
    """The rule with more words: literal -> how many ids it stands for, given out in order from `first`.

    Upper and lower case of Latin letters are one. Raises UsageError for a literal that is empty, is known already,
    begins or ends with white space or holds a brace (which templates need), and for one that stands for no id."""
    known = {literal.translate(_LOWER) for literal, _, _ in rule.words}
    added = []
    for literal, count in counts.items():
        if not literal or literal != literal.strip() or "{" in literal or "}" in literal or count < 1:
            raise UsageError(
                f"the new word {literal!r} with {count} tokens cannot be: spell it without braces and without white "
                "space around it, and give it a token at least"
            )
        if literal.translate(_LOWER) in known:
            raise UsageError(f"the word {literal!r} was learned already; spell the new one differently")
        known.add(literal.translate(_LOWER))
        added.append((literal, first, count))
        first += count
    return dataclasses.replace(rule, words=(*rule.words, *added))


def with_words(words: Subwords, learned: Sequence[tuple[str, int, int]]) -> Subwords:
    """The vocabulary with learned words: (literal, first id, number of ids) each. Raises CheckpointError for a literal
    without a letter, which would be in every sentence."""
    ids = {literal.translate(_LOWER): range(first, first + count) for literal, first, count in learned}
    if not all(map(str.strip, ids)):
        raise CheckpointError(f"a learned word of this model is blank, of {list(ids)[:5]}; its files are damaged")
    longest_first = sorted(ids, key=len, reverse=True)
    pattern = re.compile("|".join(map(_whole, longest_first)), re.IGNORECASE | re.ASCII)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        plain = iter(words.encode([text for text in texts if not pattern.search(text)]))
        return [_encode(text, pattern, ids, words.encode) if pattern.search(text) else next(plain) for text in texts]

    vocabulary = max(words.vocabulary, *(first + count for _, first, count in learned))
    return dataclasses.replace(words, encode=encode, vocabulary=vocabulary)


def ids_after_a_word(encode: Encode, text: str) -> list[int]:
    """The ids of `text` where it follows a whole word: without the mark of a sentence's beginning, say."""
    before, both = encode([ANY_WORD, ANY_WORD + text])
    if both[: len(before)] == before:
        return both[len(before) :]
    return encode([f"{ANY_WORD} {text}"])[0][len(before) :]  # it would have run into the word


def _whole(literal: str) -> str:
    """A pattern for the literal where it is a whole word: its Latin letters touch no others. Beside Japanese, which
    has no spaces, it may stand anywhere."""
    before = r"(?<!\w)" if re.match(r"\w", literal, re.ASCII) else ""
    after = r"(?!\w)" if re.search(r"\w$", literal, re.ASCII) else ""
    return f"{before}{re.escape(literal)}{after}"


def _encode(text: str, pattern: re.Pattern[str], ids: Mapping[str, range], encode: Encode) -> list[int]:
    found: list[int] = []
    end = 0
    for match in pattern.finditer(text):
        found += [*_between(text[end : match.start()].rstrip(), end > 0, encode), *ids[match[0].translate(_LOWER)]]
        end = match.end()
    return found + _between(text[end:], end > 0, encode)


def _between(text: str, after_a_word: bool, encode: Encode) -> list[int]:
    if not text.strip():
        return []
    return ids_after_a_word(encode, text) if after_a_word else encode([text])[0]
