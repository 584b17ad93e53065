"""Classes by what they look like: a classifier of descriptions alone or mixed with names, and which sentence does what.

"Like a horse, with black and white stripes" is a class that nobody has a picture of (Menon & Vondrick, 2023,
arXiv:2210.07183). What a sentence is worth shows in the answers that change when it is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from awase.clip import Clip
from awase.encoding.wordings import Wording
from awase.errors import UsageError
from awase.evaluation.probes import Features
from awase.learning.adaptation.prompt_search import knowledge, likelihood

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a class's vector that comes from its descriptions


@dataclass(frozen=True)
class Effect:
    """What one sentence does to the answers of N pictures, against the same descriptions without it. moved: pictures
    that are answered otherwise. towards: (from, to) -> how many. gained: right answers more (less, below 0) with it,
    None without labels. reads_like: another class whose name the sentence is nearer to than to its own, or ""."""

    name: str
    sentence: str
    moved: int
    towards: Mapping[tuple[str, str], int]
    gained: int | None
    reads_like: str


def match_classes(
    descriptions: Mapping[str, Sequence[str]], keys: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """(class name -> its sentences, names of classes that the data have not got and no picture shows).

    A description belongs to a class by its key or its name, whatever the case. Raises UsageError where none does."""
    place = {
        word.strip().lower(): name for word, name in [*zip(keys, names, strict=True), *zip(names, names, strict=True)]
    }
    matched = {place.get(word.strip().lower(), word.strip()): tuple(mine) for word, mine in descriptions.items()}
    if not any(name in names for name in matched):
        raise UsageError(
            f"descriptions are of {', '.join(list(descriptions)[:5])}, and classes are {', '.join(list(names)[:5])}: "
            "none is the same; use the classes' keys or names"
        )
    return matched, tuple(name for name in matched if name not in names)


def shares(
    clip: Clip,
    names: Sequence[str],
    templates: Sequence[str],
    descriptions: Mapping[str, tuple[str, ...]],
    pictures: np.ndarray,
    labelled: Features | None,
    balance: float,
) -> list[tuple[float, float]]:
    """(share, how good) of each of `SHARES`, the best first: by the labels of a few pictures, else by knowledge. Of
    equals the one with less of the descriptions."""
    found = []
    for share in SHARES:
        classes = clip.classifier(names, Wording(templates, descriptions, share))
        score = knowledge(clip.scoring, pictures, classes, balance)
        found.append((share, score if labelled is None else likelihood(clip.scoring, labelled, classes)))
    return sorted(found, key=lambda entry: (-entry[1], entry[0]))


def effects(
    clip: Clip,
    names: Sequence[str],
    wording: Wording,
    pictures: np.ndarray,
    targets: np.ndarray | None = None,
) -> list[Effect]:
    """Of every sentence, those that move the most first. targets: (N,) classes, where they are known."""
    whole = clip.classifier(names, wording)
    answers = (pictures @ whole.T).argmax(axis=1)
    bare = clip.classifier(names, tuple(wording))
    found = []
    for name, sentences in wording.sentences.items():
        place = list(names).index(name)
        nearest = clip.encode_texts(list(sentences)) @ bare.T
        for index, sentence in enumerate(sentences):
            others = sentences[:index] + sentences[index + 1 :]
            changed = whole.copy()
            changed[place] = _without(clip, name, wording, others)
            without = (pictures @ changed.T).argmax(axis=1)
            rival = int(nearest[index].argmax())
            found.append(
                _effect(names, name, sentence, without, answers, targets, "" if rival == place else names[rival])
            )
    return sorted(found, key=lambda effect: (-effect.moved, effect.name))


def _without(clip: Clip, name: str, wording: Wording, others: tuple[str, ...]) -> np.ndarray:
    """The class's vector with the other sentences alone, or, where there is none, by its name."""
    kept = {name: others} if others else {}
    return np.asarray(clip.classifier([name], Wording(tuple(wording), kept, wording.share))[0])


def _effect(
    names: Sequence[str],
    name: str,
    sentence: str,
    without: np.ndarray,
    answers: np.ndarray,
    targets: np.ndarray | None,
    rival: str,
) -> Effect:
    moved = without != answers
    pairs = Counter(zip(without[moved].tolist(), answers[moved].tolist(), strict=True))
    gained = None if targets is None else int((answers == targets).sum()) - int((without == targets).sum())
    towards = {(names[a], names[b]): count for (a, b), count in pairs.most_common()}
    return Effect(name, sentence, int(moved.sum()), towards, gained, rival)
