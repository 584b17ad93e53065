"""Sentences: too short to teach anything, the same for many pictures, in a strange language, or no sentences at all."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from awase.datasets.checks.findings import Example, Finding, Severity, share
from awase.datasets.checks.whole import Whole
from awase.datasets.columns import language_of_column
from awase.encoding.prompts import language_of

FEW_WORDS = 4  # in English: "a dog", "brown dog outside"
FEW_CHARACTERS = 8  # in Japanese: 犬, 茶色い犬
OFTEN = 0.05  # share of captions that repeat another picture's from which it matters
_NO_SENTENCES = {
    "the name of a file": re.compile(r"[\w .()-]*\.(jpe?g|png|gif|webp|tiff?|heic)|(IMG|DSCN?|PXL)[_-]?\d+.*", re.I),
    "an address": re.compile(r"(https?://|www\.)\S+"),
    "a number": re.compile(r"[\d\W_]+"),
    "markup": re.compile(r".*(</?\w+[^>]*>|&\w+;).*", re.S),
}  # fmt: skip
_SCRIPTS = {"LATIN": "Latin letters", "CYRILLIC": "Cyrillic", "HANGUL": "Korean", "ARABIC": "Arabic", "GREEK": "Greek",
            "THAI": "Thai", "DEVANAGARI": "Devanagari", "HEBREW": "Hebrew"}  # fmt: skip
JAPANESE = "Japanese (or Chinese)"


def check_captions(whole: Whole) -> list[Finding]:
    """Nothing for labelled pictures."""
    if not whole.captions:
        return []
    return [*_short(whole), *_repeated(whole), *_scripts(whole), *_no_sentences(whole), *_silent(whole)]


def is_short(caption: str) -> bool:
    """Whether a caption names a thing and hardly more."""
    if language_of(caption) == "ja":
        return sum(character.isalnum() for character in caption) < FEW_CHARACTERS
    return len(re.findall(r"[\w'-]+", caption)) < FEW_WORDS


def script_of(text: str) -> str:
    """The script of most letters; "" where there are none. Kana and kanji count as Japanese, which Chinese shares."""
    if language_of(text) == "ja":
        return JAPANESE
    scripts = Counter(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())
    return _SCRIPTS.get(scripts.most_common(1)[0][0], "another script") if scripts else ""


def _short(whole: Whole) -> Iterator[Finding]:
    short = [i for i, caption in enumerate(whole.captions) if is_short(caption)]
    if short:
        short.sort(key=lambda i: len(whole.captions[i]))
        severity: Severity = "notable" if len(short) > len(whole.captions) / 5 else "minor"
        yield Finding(
            "short captions",
            severity,
            f"{share(len(short), len(whole.captions))} captions name a thing and hardly more.",
            len(short),
            len(whole.captions),
            '"dog" fits every picture with a dog, so in a batch it is right for several and nothing can be learned of '
            "colours, places or what is going on; and nobody will find the picture by them.",
            'Say what is seen: kind, colour, number, what it does, where. "a brown dog sitting on the lawn and looking '
            'this way" instead of "dog".',
            captions_as_examples(whole, short),
        )


def _repeated(whole: Whole) -> Iterator[Finding]:
    places: dict[str, list[int]] = defaultdict(list)
    for i, caption in enumerate(whole.captions):
        places[re.sub(r"[\W_]+", " ", caption.lower()).strip()].append(i)
    shared = {c: mine for c, mine in places.items() if len({int(whole.owners[i]) for i in mine}) > 1}
    count = sum(len(mine) for mine in shared.values())
    if count:
        order = sorted(shared.values(), key=len, reverse=True)
        examples = [
            Example(tuple(dict.fromkeys(whole.owners[mine].tolist())), f"{len(mine)} times: {whole.captions[mine[0]]}")
            for mine in order
        ]
        yield Finding(
            "repeated captions",
            "notable" if count > OFTEN * len(whole.captions) else "minor",
            f"{share(count, len(whole.captions))} captions stand at another picture too ({len(shared):,} different).",
            count,
            len(whole.captions),
            "In a batch each is right for both pictures and trained to be wrong for one; in retrieval only one of them "
            "counts as found.",
            "Write what sets each picture apart, or keep one of the pictures.",
            tuple(examples),
        )


def _scripts(whole: Whole) -> Iterator[Finding]:
    scripts = np.array([script_of(caption) for caption in whole.captions])
    counts = Counter(scripts[scripts != ""].tolist())
    if not counts:
        return
    meant = language_of_column(whole.column)
    main = {"ja": JAPANESE, "en": "Latin letters"}.get(meant, counts.most_common(1)[0][0])
    if main not in counts:
        main = counts.most_common(1)[0][0]
    others = np.flatnonzero((scripts != main) & (scripts != "")).tolist()
    if others:
        parts = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
        yield Finding(
            "mixed languages",
            "notable" if len(others) > OFTEN * len(whole.captions) else "minor",
            f"{share(len(others), len(whole.captions))} captions are not in {main}: {parts}.",
            len(others),
            len(whole.captions),
            "Sentences of one language lie nearer to each other than to their pictures, so that ranks are wrong across "
            "languages; and a model reads only those that it was trained on.",
            "Put each language into a column of its own (captions, captions_ja) and check each with --captions.",
            captions_as_examples(whole, others),
        )


def _no_sentences(whole: Whole) -> Iterator[Finding]:
    found = {
        i: what
        for i, caption in enumerate(whole.captions)
        for what, pattern in _NO_SENTENCES.items()
        if pattern.fullmatch(caption.strip())
    }
    if found:
        yield Finding(
            "captions that are no sentences",
            "serious" if len(found) > OFTEN * len(whole.captions) else "notable",
            f"{share(len(found), len(whole.captions))} captions are file names, addresses, numbers or hold markup.",
            len(found),
            len(whole.captions),
            "They say nothing of the picture, and a model is trained to believe them.",
            "Take them out or write them anew.",
            tuple(Example((int(whole.owners[i]),), f"{what}: {whole.captions[i]}") for i, what in found.items()),
        )


def _silent(whole: Whole) -> Iterator[Finding]:
    silent = np.setdiff1d(np.arange(len(whole)), whole.owners).tolist()
    if silent:
        yield Finding(
            "pictures without a caption",
            "minor",
            f"{share(len(silent), len(whole))} have no sentence in {whole.column!r}.",
            len(silent),
            len(whole),
            "They are not trained on, and stay in the gallery of a retrieval as pictures that are never right.",
            "Caption them, or leave them out.",
            tuple(Example((place,), "") for place in silent),
        )


def captions_as_examples(whole: Whole, which: Sequence[int]) -> tuple[Example, ...]:
    """Captions by their index, each with its picture."""
    return tuple(Example((int(whole.owners[i]),), whole.captions[i]) for i in which)
