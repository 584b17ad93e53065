"""Other ways to ask for the same classes: templates that suit the pictures, and names that say more.

Nothing here is better than what it replaces until it was measured: `learning.adaptation.prompt_search` and the data
check-up do that. English and Japanese."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from awase.clip import Clip, unit
from awase.encoding.prompts import SLOT, background, templates

ARTICLE = re.compile(r"(an?|the)\s", re.IGNORECASE)
KINDS = 3  # of things, that the names together are most like
NAMED_SETS = ("none", "simple", "kinds", "ensemble")
_TYPED = {"en": "a photo of {}, a type of KIND.", "ja": "KINDの一種である{}の写真。"}


def guessed_kinds(clip: Clip, names: Sequence[str], language: str) -> tuple[str, ...]:
    """What kind of thing all classes together are, the likeliest first: "bird", "vehicle", "document". From the names
    alone, by the mean of their vectors."""
    kinds = background("kinds", language)
    together = unit(clip.encode_texts(list(names)).mean(axis=0))
    return tuple(kinds[i] for i in np.argsort(-(clip.encode_texts(list(kinds)) @ together), kind="stable")[:KINDS])


def have_articles(names: Sequence[str]) -> bool:
    """Whether names bring their article along ("a fire hydrant"), as a template then must not."""
    return sum(bool(ARTICLE.match(name)) for name in names) > len(names) / 3


def candidate_templates(
    names: Sequence[str], language: str, own: Sequence[str] = (), kinds: Sequence[str] = ()
) -> tuple[str, ...]:
    """Shipped sentences, the data's `own`, and those that tell a kind of thing; each once, the shipped ones first."""
    found = [sentence for name in NAMED_SETS for sentence in templates(name, language)]
    if language == "en" and not have_articles(names):
        found += [sentence.replace(SLOT, f"a {SLOT}") for sentence in templates("kinds", language)]
    found += own
    found += [_TYPED[language].replace("KIND", kind) for kind in kinds]
    return tuple(dict.fromkeys(found))


def candidate_names(name: str, key: str, language: str, kinds: Sequence[str] = ()) -> tuple[str, ...]:
    """Other spellings of a class name and names that say what kind of thing it is; never the name itself."""
    bare = ARTICLE.sub("", name, count=1)
    spelled = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key.replace("_", " ").replace("-", " ")).strip()
    found = [bare.lower(), spelled.lower()] if language == "en" else [spelled]
    if language == "en":
        found += [f"{_a(bare)} {bare}", *(f"{bare} {kind}" for kind in kinds), *(f"{bare}, a {kind}" for kind in kinds)]
    else:
        found += [*(f"{name}という{kind}" for kind in kinds), *(f"{kind}の{name}" for kind in kinds)]
    return tuple(n for n in dict.fromkeys(found) if n and n != name)


def _a(word: str) -> str:
    return "an" if word[:1].lower() in "aeiou" else "a"
