"""What the text tower does not read: captions past its context, languages it was not trained on, words in fragments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from awase.clip import Clip
from awase.datasets.checks import Example, Finding, Whole
from awase.datasets.checks.captions import captions_as_examples
from awase.datasets.checks.findings import share
from awase.datasets.naming import some
from awase.encoding.prompts import language_of

FRAGMENTS = 2.0  # letters a token, below which a word of Latin letters is spelled rather than read
SPELLED = 1.5  # tokens a character, from which Japanese is read byte by byte
SHOWN = 40  # captions whose unread rest is looked for
_CODES = {
    "a number": re.compile(r"\W*\d+\W*"),
    "a WordNet id": re.compile(r"n\d{8}"),
    "an underscore between words": re.compile(r".*\w_\w.*"),
    "words run together": re.compile(r"(?=.*[a-z][A-Z])[A-Za-z]+"),
    "an abbreviation": re.compile(r"[A-Z0-9-]{2,6}"),
    "the name of a file": re.compile(r".*\.(jpe?g|png|txt)", re.IGNORECASE),
}


def check_reading_of_captions(clip: Clip, whole: Whole) -> list[Finding]:
    return [*_too_long(clip, whole), *_strange(clip, whole)]


def _too_long(clip: Clip, whole: Whole) -> Iterator[Finding]:
    cut = clip.tokenizer(list(whole.captions)).cut
    if cut:
        worst = sorted(cut, key=lambda i: -len(whole.captions[i]))
        examples = [Example((int(whole.owners[i]),), _unread(clip, whole.captions[i])) for i in worst[:SHOWN]]
        yield Finding(
            "captions past the context",
            "notable" if len(cut) > len(whole.captions) / 20 else "minor",
            f"{share(len(cut), len(whole.captions))} captions are longer than the {clip.tokenizer.context} tokens that "
            "the model reads.",
            len(cut),
            len(whole.captions),
            "Their end is not read: what stands there is neither learned nor found.",
            "Say what matters first, or make two captions of one.",
            (*examples, *captions_as_examples(whole, worst[SHOWN:])),
        )


def _unread(clip: Clip, caption: str) -> str:
    """The caption with a mark where reading ends, found by halving."""
    words = re.findall(r"\S+\s*", caption) if language_of(caption) == "en" else list(caption)
    low, high = 0, len(words)
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if clip.tokenizer(["".join(words[:middle])]).cut else (middle, high)
    return f"{''.join(words[:low])[-80:]} ‖ not read: {''.join(words[low:])[:80]}"


def _strange(clip: Clip, whole: Whole) -> Iterator[Finding]:
    strange = [i for i, caption in enumerate(whole.captions) if language_of(caption) not in clip.languages]
    if strange:
        yield Finding(
            "captions in a language of no training",
            "serious",
            f"{share(len(strange), len(whole.captions))} captions are in a language that {clip.name} does not know.",
            len(strange),
            len(whole.captions),
            "Their vectors are near chance.",
            "Take a model that reads it (the bundled one reads English and Japanese), or translate them.",
            captions_as_examples(whole, strange),
        )


def check_reading_of_names(clip: Clip, keys: Sequence[str], names: Sequence[str], language: str) -> list[Finding]:
    """Class names that are codes, that fall into fragments, or that are in a language of no training."""
    rows = [{"class": key, "name": name, "trouble": t} for key, name in zip(keys, names, strict=True)
            if (t := _trouble(clip, name))]  # fmt: skip
    findings = []
    if rows:
        findings.append(
            Finding(
                "names that are read badly",
                "notable",
                f"{len(rows):,} of {len(names):,} class names are codes or fall into fragments: "
                f"{some([row['name'] for row in rows])}.",
                len(rows),
                len(names),
                "A text tower knows words, not codes: it reads these letter by letter and guesses.",
                'Write names as one would say them, in classes.json: {"n02123045": {"en": "a tabby cat"}}.',
                rows=tuple(rows),
            )
        )
    if language not in clip.languages:
        findings.append(
            Finding(
                "names in a language of no training",
                "serious",
                f"{clip.name} was trained on {', '.join(clip.languages)}, and the names are in {language!r}.",
                len(names),
                len(names),
                "Zero-shot figures will be near chance.",
                "Use names in a language that it reads (--language), or a model that reads this one.",
            )
        )
    return findings


def _trouble(clip: Clip, name: str) -> str:
    for what, code in _CODES.items():
        if code.fullmatch(name.strip()):
            return what
    if language_of(name) == "ja":
        tokens, characters = len(clip.tokenizer.bare([name])[0]), len("".join(name.split()))
        return f"{tokens} tokens for {characters} characters" if tokens > SPELLED * characters + 1 else ""
    for word in re.findall(r"[A-Za-z]{5,}", name):
        tokens = len(clip.tokenizer.bare([word])[0])
        if len(word) / max(tokens, 1) < FRAGMENTS:
            return f"{word} falls into {tokens} tokens"
    return ""
