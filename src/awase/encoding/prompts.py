"""Class names -> sentences, and the sentences of a class -> one vector. Templates are data files, English and Japanese.

It knows nothing of models: what encodes the sentences is given to it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from awase.encoding.wordings import Wording, is_file_of_wording, read_wording
from awase.errors import UsageError

SLOT = "{}"
_DATA = Path(__file__).parent / "data"
_LANGUAGES = ("en", "ja")
# Hiragana and katakana (half-width too), kanji with the mark 々.
_JAPANESE = re.compile(
    "[\u3005\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]"
)


def templates(name: str, language: str = "en") -> tuple[str, ...]:
    """A named set of sentences with {} where a class name goes, or those of a file (`encoding.wordings`).

    English: "simple" (one), "imagenet7", "imagenet80" (OpenAI's, openai/CLIP, MIT). Japanese: "simple",
    "japanese37" (rinnakk/japanese-clip, Apache-2.0). Both: "ensemble", the published one, "kinds", one for each kind of
    picture (from above, drawn, scanned, in a shop), for names with their article, and "none", the name as it is. Raises
    UsageError that lists the names."""
    sets = _read(f"templates_{_known(language)}")
    if name not in sets and is_file_of_wording(name):
        return read_wording(name, language)
    if name not in sets:
        raise UsageError(f"no templates are called {name!r} for language {language!r}; there are {', '.join(sets)}")
    found = sets[name]
    return tuple(sets[found] if isinstance(found, str) else found)


def background(kind: Literal["sentences", "things", "kinds"], language: str = "en") -> tuple[str, ...]:
    """Everyday sentences, names of common things, or of kinds of things ("bird", "tool"), that have nothing to do with
    the user's: to judge against."""
    return tuple(_read("background")[kind][_known(language)])


def language_of(text: str) -> str:
    """ "ja" where a kana or a kanji occurs, else "en". Chinese counts as Japanese, and French as English: this chooses
    between the two sets of templates and no more."""
    return "ja" if _JAPANESE.search(text) else "en"


def class_prompts(names: Iterable[str], templates: Iterable[str]) -> list[list[str]]:
    """For each of C names its K sentences, in the order of the templates. Raises UsageError for a name that is empty or
    occurs twice and for a template without {}."""
    names, templates = check_labels(names), check_words(templates, "template")
    if not templates:
        raise UsageError("at least one template is needed; {} alone is the class name as it is")
    for template in templates:
        if SLOT not in template:
            raise UsageError(f"the template {template!r} has no {SLOT} where the class name goes")
    return [[template.replace(SLOT, name) for template in templates] for name in names]


def check_labels(names: Iterable[str]) -> list[str]:
    """The labels as a list. Raises UsageError for none at all, an empty one or one that occurs twice."""
    listed = check_words(names, "label")
    if not listed:
        raise UsageError("no labels were given; at least one is needed")
    twice = [name for name, count in Counter(name.strip() for name in listed).items() if count > 1]
    if twice:
        raise UsageError(f"labels occur more than once: {', '.join(twice[:5])}; give each once")
    return listed


def check_words(words: Iterable[str], what: str) -> list[str]:
    """Words or sentences as a list; `what` is what messages call one. Raises UsageError for a single string, for what
    is no list, and for one among them that is empty or no string."""
    listed = as_list(words, what)
    for index, word in enumerate(listed):
        if not isinstance(word, str) or not word.strip():
            raise UsageError(f"{what} {index} is {word!r}; a {what} is a string with at least one letter")
    return listed


def as_list(words: Iterable[str], what: str) -> list[str]:
    """Any iterable of strings as a list; what stands in it is not looked at."""
    if isinstance(words, str | bytes):
        raise UsageError(f"a list of {what}s is expected, and one string was given: {words!r}; put it in a list")
    try:
        return list(words)
    except TypeError as problem:
        raise UsageError(f"a list of {what}s is expected, and {words!r} was given") from problem


def classifier(names: Iterable[str], templates: Iterable[str], encode: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    """(C, D) float32 unit vectors: for each name the mean of its prompts' unit vectors, of unit length again.

    encode: M sentences -> (M, D) unit vectors; every prompt once however often it occurs. Radford et al., 2021
    (arXiv:2103.00020), section 3.1.4. A `Wording` mixes in the sentences that some classes have of their own (Menon &
    Vondrick, 2023, arXiv:2210.07183)."""
    names = as_list(names, "label")
    if isinstance(templates, Wording) and (described := [name for name in names if name in templates.sentences]):
        return _described(names, templates, described, encode)
    prompts = class_prompts(names, templates)
    place = {prompt: i for i, prompt in enumerate(dict.fromkeys(p for row in prompts for p in row))}
    vectors = encode(list(place))
    rows = np.array([[place[prompt] for prompt in row] for row in prompts])  # (C, K)
    total = np.zeros((len(rows), vectors.shape[1]), np.float32)
    for k in range(rows.shape[1]):  # one template at a time: (C, K, D) at once would be a copy of everything
        total += vectors[rows[:, k]]
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12), np.float32)


def _described(
    names: list[str], wording: Wording, described: list[str], encode: Callable[[list[str]], np.ndarray]
) -> np.ndarray:
    """The classifier where some classes have sentences of their own."""
    check_labels(names)
    by_name = classifier(names, tuple(wording), encode) if wording.share < 1 or len(described) < len(names) else None
    own = _means(encode, [wording.sentences[name] for name in described])
    if by_name is None:
        return own
    mine = [names.index(name) for name in described]
    by_name[mine] = (1 - wording.share) * by_name[mine] + wording.share * own
    return np.asarray(by_name / np.maximum(np.linalg.norm(by_name, axis=1, keepdims=True), 1e-12), np.float32)


def _means(encode: Callable[[list[str]], np.ndarray], sentences: list[tuple[str, ...]]) -> np.ndarray:
    """One unit vector for each class: the mean of those of its sentences."""
    vectors = encode([sentence for mine in sentences for sentence in mine])
    ends = np.cumsum([len(mine) for mine in sentences])
    means = np.stack([part.mean(axis=0) for part in np.split(vectors, ends[:-1])])
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12), np.float32)


def _known(language: str) -> str:
    if language not in _LANGUAGES:
        raise UsageError(f"there is no language {language!r} here; there are {', '.join(_LANGUAGES)}")
    return language


@cache
def _read(name: str) -> Any:
    return json.loads((_DATA / f"{name}.json").read_text("utf-8"))
