"""A true caption -> false ones that differ in little: what a model must read with care to tell apart.

    colour, number, adjective, noun, relation   one such word is exchanged for another ("two dogs" -> "three dogs")
    swap        two colours or two nouns of the caption change places ("a red ball and a blue box" and the reverse)
    negation    the caption is denied ("a dog is running" -> "a dog is not running")

Rules over short closed lists of words (`data/exchanges.json`), no parser: few captions have all kinds, some exchanges
are clumsy, and now and then a "false" caption is true of the picture as well. A caption always gives the same ones.
English and Japanese.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from awase.encoding.prompts import language_of

KINDS = ("colour", "number", "adjective", "noun", "relation", "swap", "negation")
_DATA = Path(__file__).parent / "data" / "exchanges.json"
_JOINED = {  # between two words that mean the same when they change places
    "en": re.compile(r"[\s,-]*(and|or|&|with|,)?[\s,-]*(an?|the|another)?\s*"),
    "ja": re.compile(r"(と|や|、|・|か)?"),
}


def false_captions(caption: str) -> dict[str, str]:
    """kind -> a false caption, for each kind whose rule finds something to change. Word order and case are kept."""
    language = language_of(caption)
    rules = _rules(language)
    found = {
        "colour": _replaced(caption, rules["colour"], lambda word: _another(word, caption, language)),
        "number": _replaced(caption, rules["number"], lambda word: _next(word, language)),
        "swap": _swapped(caption, rules["colour"], language) or _swapped(caption, rules["noun"], language),
        "negation": _denied(caption, language),
    }
    for kind in ("adjective", "noun", "relation"):
        found[kind] = _replaced(caption, rules[kind], _partners(kind + "s", language).__getitem__)
    return {kind: found[kind] for kind in KINDS if found[kind] is not None and found[kind] != caption}  # type: ignore[misc]


def _replaced(caption: str, rule: re.Pattern[str], other: Callable[[str], str]) -> str | None:
    """The caption with the first word that the rule finds exchanged."""
    match = rule.search(caption)
    return match and _with(caption, [(match.span("word"), other(match["word"].lower()))])


def _swapped(caption: str, rule: re.Pattern[str], language: str) -> str | None:
    """The caption with its first two different words of a list in each other's place."""
    matches = list(rule.finditer(caption))
    for first, second in pairwise(matches):
        between = caption[first.end("word") : second.start("word")]
        if first["word"].lower() != second["word"].lower() and not _JOINED[language].fullmatch(between):
            swapped = [(first.span("word"), second["word"].lower()), (second.span("word"), first["word"].lower())]
            return _with(caption, swapped)
    return None


def _denied(caption: str, language: str) -> str | None:
    for pattern, denied in _DENIALS[language]:
        changed, times = re.subn(pattern, denied, caption, count=1)
        if times:
            return changed[:1].upper() + changed[1:] if caption[:1].isupper() else changed
    return None


_DENIALS = {
    "en": [
        (r"\b(is|are|was|were)\b(?! not)", r"\1 not"),
        (r"\bwith\b(?!out)", "without"),
        (r"\b([Aa]n?|[Tt]he|[Tt]wo|[Tt]hree|[Ss]ome)\b", "no"),
    ],
    "ja": [
        (r"([てで])います", r"\1いません"),
        (r"([てで])いる", r"\1いない"),
        (r"があります", "がありません"),
        (r"がある", "がない"),
        (r"がいます", "がいません"),
        (r"がいる", "がいない"),
    ],
}


def _with(caption: str, changes: Sequence[tuple[tuple[int, int], str]]) -> str:
    """The caption with other words at given places, from the last on; "a" and "an" before them are put right."""
    for (start, end), word in sorted(changes, reverse=True):
        if caption[start].isupper():
            word = word[0].upper() + word[1:]
        before = caption[:start]
        if article := re.search(r"\b([Aa])n? $", before):
            before = before[: article.start()] + article[1] + ("n " if word[0].lower() in "aeiou" else " ")
        caption = before + word + caption[end:]
    return caption


def _another(colour: str, caption: str, language: str) -> str:
    """A colour that the caption does not name; which one hangs on the caption alone."""
    kin = {"gray": "grey", "grey": "gray"}
    left = [c for c in _words()[language]["colours"] if c not in caption.lower() and c != kin.get(colour)]
    left = [c for c in left if c[:1] != colour[:1]] if language == "ja" else left  # 緑の is 緑色の
    return str(left[zlib.crc32(caption.encode()) % len(left)])


def _next(number: str, language: str) -> str:
    rows = _words()[language]["numbers"]
    row = rows if language == "en" else next(row for row in rows if number in row)
    return str(row[(row.index(number) + 1) % len(row)])


@cache
def _partners(group: str, language: str) -> dict[str, str]:
    """Both ways; a word that stands in two pairs goes to its first partner."""
    found: dict[str, str] = {}
    for one, other in _words()[language][group]:
        found.setdefault(one, other)
        found.setdefault(other, one)
    return found


@cache
def _rules(language: str) -> dict[str, re.Pattern[str]]:
    """kind -> what finds its words, as the group "word": whole words in English, the longest in Japanese."""
    words = _words()[language]

    def rule(found: Sequence[str], after: str = "") -> re.Pattern[str]:
        alternatives = "|".join(re.escape(word) for word in sorted(found, key=len, reverse=True))
        edges = (r"(?<![\w-])", r"(?![\w-])") if language == "en" else ("", "")
        return re.compile(f"{edges[0]}(?P<word>{alternatives}){edges[1]}{after}", re.IGNORECASE)

    not_before = "|".join(words["not before"])
    numbers = words["numbers"] if language == "en" else [number for row in words["numbers"] for number in row]
    found = {
        "colour": rule(words["colours"], rf"(?!\s*(?:{not_before}){'s?' if language == 'en' else ''}\b)"
                       if language == "en" else f"(?!{not_before})"),
        "number": rule(numbers, "" if language == "en" else f"(?=[{''.join(words['counters'])}])"),
    }  # fmt: skip
    return found | {kind: rule(list(_partners(kind + "s", language))) for kind in ("adjective", "noun", "relation")}


@cache
def _words() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return found
