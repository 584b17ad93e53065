"""Pictures and queries whose answers are known, for `search_queries.py` and `search_choose.py`; no command of its own.

FOLDER holds the sets unpacked (flickr8k/, fashion_attr/, domains/, coco_mini/) with captions_ja_machine.jsonl and
clip_text_anchors.npz. One half of flickr8k's dev pictures, fashion_attr's val split and every other one of the domains
choose; the other halves, fashion_attr's test split and coco_mini report. (The train splits trained the bundled model:
there its cosines are higher than for anybody's pictures.)

A picture shows a noun if one of its captions has it. People leave out what they find plain, and call a boy a child:
precisions are lower bounds, and a noun of no caption may be in a picture all the same.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from awase.clip import Clip
from awase.datasets import Captioned
from awase.evaluation.vectors import picture_vectors, sentence_vectors
from awase.tasks.search import scoring
from awase.tasks.search.query import parse
from awase.tasks.search.searching import bank_of, tokens_of

CHOOSE, REPORT = "choose", "report"
NOT_NOUNS = """watch orange swing slide fly drink ski can cover ring tie fan tank trunk train jean jeans leather animal
    stage pipe box vehicle shorts skis glasses stairs camera person"""  # verbs and things of several names
PLURALS = {"men": "man", "women": "woman", "children": "child", "people": "person", "leaves": "leaf", "feet": "foot"}


# ---- pictures and what is known of them -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Library:
    """One side's pictures. words: what the captions of a picture say, None where it has none. labels: domain/class.
    garments: (type, colour), None where it is no garment."""

    vectors: np.ndarray
    captions: list[list[str]]
    words: list[set[str] | None]
    japanese: dict[int, str]
    labels: list[tuple[str, str, str] | None]
    garments: list[tuple[str, str] | None]

    def known(self, what: Sequence[object]) -> np.ndarray:
        return np.array([value is not None for value in what])


def words_of(captions: Sequence[str]) -> set[str]:
    """Every word, and its singular, roughly."""
    found = {word for caption in captions for word in re.findall("[a-z]+", caption.lower())}
    for word in list(found):
        found |= {word.removesuffix("s"), word.removesuffix("es"), PLURALS.get(word, word)}
    return found


def metadata(folder: Path) -> dict[str, dict[str, object]]:
    lines = (folder / "metadata.jsonl").read_text("utf-8").splitlines()
    return {row["file_name"]: row for row in map(json.loads, lines)}


def library(clip: Clip, folder: Path, side: str) -> Library:
    """The pictures of one side, encoded once."""
    paths: list[Path] = []
    captions, labels, garments = [], [], []

    def add(path: Path, said: list[str], label: object = None, garment: object = None) -> None:
        paths.append(path)
        captions.append([sentence.strip(" .") for sentence in said])
        labels.append(label)
        garments.append(garment)

    flickr = metadata(folder / "flickr8k" / "dev")
    for name in sorted(flickr)[side == REPORT :: 2]:
        add(folder / "flickr8k" / "dev" / name, flickr[name]["captions"])
    if side == REPORT:
        for name, row in sorted(metadata(folder / "coco_mini" / "dev").items()):
            add(folder / "coco_mini" / "dev" / name, row.get("captions", []))
    split = "test" if side == REPORT else "val"
    for name, row in sorted(metadata(folder / "fashion_attr" / split).items()):
        add(folder / "fashion_attr" / split / name, [], garment=(row["type_en"], row["colour_en"]))
    for domain in sorted(path.parent for path in (folder / "domains").glob("*/classes.json"))[side == REPORT :: 2]:
        names = json.loads((domain / "classes.json").read_text("utf-8"))
        for path in sorted(domain.glob("val/*/*")):
            named = names[path.parent.name]
            add(path, [], label=(domain.name, named["en"], named["ja"]))
    vectors = picture_vectors(clip, Captioned(side, side, paths, [], np.empty(0, np.int64))).rows
    words = [words_of(said) if said else None for said in captions]
    machine = map(json.loads, (folder / "captions_ja_machine.jsonl").read_text("utf-8").splitlines())
    place = {path.name: i for i, path in enumerate(paths)}
    japanese = {place[row["file_name"]]: row["caption_ja"] for row in machine if row["file_name"] in place}
    return Library(vectors, captions, words, japanese, labels, garments)


def nouns(folder: Path) -> set[str]:
    """One-word names of things, from four lists of detection classes."""
    names = np.load(folder / "clip_text_anchors.npz")["names"]
    plain = (re.sub("^an? ", "", str(name).lower()) for name in names)
    return {name for name in plain if re.fullmatch("[a-z]{3,}", name)} - set(NOT_NOUNS.split())


def a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


# ---- queries whose answers are known --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Queries:
    """Q queries and, for the pictures of the library that something is known of, which answer them: (Q, N) bool."""

    what: str
    texts: list[str]
    right: np.ndarray
    judged: np.ndarray
    """(Q, N) bool: pictures of which it is known."""


def shows(its: Library, needed: Sequence[Sequence[str]]) -> np.ndarray:
    return np.array([[words is not None and all(w in words for w in need) for words in its.words] for need in needed])


def noun_queries(its: Library, things: set[str], rng: np.random.Generator, least: int) -> tuple[Queries, Queries]:
    """Nouns that `least` pictures and more show, and two hundred that no caption has."""
    counts = Counter(word for words in its.words if words for word in words & things)
    present = sorted(word for word, count in counts.items() if count >= least)
    absent = sorted(things - set(counts))
    absent = sorted(rng.choice(absent, 200, replace=False).tolist())
    judged = its.known(its.words)
    found = []
    for what, chosen in (("nouns", present), ("nouns of no caption", absent)):
        right = shows(its, [[word] for word in chosen])
        found.append(Queries(what, [a(word) for word in chosen], right, np.tile(judged, (len(chosen), 1))))
    return found[0], found[1]


def sentence_queries(its: Library, others: Library, things: set[str], language: str) -> Queries:
    """Captions of these pictures and of the other side's: right for their own picture and for those whose captions
    have all nouns of the sentence, two and more."""
    found: list[tuple[str, int, list[str]]] = []
    for of, every in ((its, 3), (others, 6)):
        for i, said in enumerate(of.captions):
            need = sorted(words_of(said[:1]) & things)
            text = said[0] if said and language == "en" else of.japanese.get(i) if language == "ja" else None
            if text and len(need) >= 2 and i % every == 0:
                found.append((text, i if of is its else -1, need))
    own = np.array([[i == owner for i in range(len(its.words))] for _, owner, _ in found])
    right = own | shows(its, [need for _, _, need in found])
    judged = np.tile(its.known(its.words), (len(found), 1))
    return Queries(f"sentences, {language}", [text for text, _, _ in found], right, judged)


def class_queries(its: Library, language: int) -> Queries:
    """Names of classes, judged on all domains: right where the class has that name in whatever set."""
    classes = sorted({label[1:] for label in its.labels if label})
    right = np.array([[label is not None and label[1] == one[0] for label in its.labels] for one in classes])
    texts = [one[language - 1] for one in classes]
    return Queries(
        f"classes, {('en', 'ja')[language - 1]}", texts, right, np.tile(its.known(its.labels), (len(texts), 1))
    )


# ---- scores as a search gives them ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asker:
    """One set of pictures and what scoring measures on it."""

    clip: Clip
    vectors: np.ndarray
    seen: scoring.Background

    def cosines(self, texts: Sequence[str], share: float = scoring.HUB_SHARE) -> np.ndarray:
        return self.seen.tame(sentence_vectors(self.clip, list(texts))[0] @ self.vectors.T, self.vectors, share)

    def odds(self, texts: Sequence[str]) -> np.ndarray:
        """(Q, N) log-odds of sentences, each one clause."""
        marks = [scoring.of_sentence(n, self.seen) for n in tokens_of(self.clip, texts)]
        return np.stack([mark.odds(row) for mark, row in zip(marks, self.cosines(texts), strict=True)])

    def scores(self, query: str) -> np.ndarray:
        """(N,) as `awase search` has them."""
        clauses = parse(query).clauses
        odds = self.odds([clause.text for clause in clauses])
        return scoring.combine(odds, [c.weight for c in clauses], [c.negative for c in clauses])


def asker(clip: Clip, vectors: np.ndarray) -> Asker:
    return Asker(clip, vectors, scoring.background_of(vectors, bank_of(clip)))


def part_of(its: Library, keep: np.ndarray) -> Library:
    """The library of some of the pictures."""
    places = np.flatnonzero(keep).tolist()
    new = {old: i for i, old in enumerate(places)}
    japanese = {new[old]: text for old, text in its.japanese.items() if old in new}
    lists = ([column[i] for i in places] for column in (its.captions, its.words, its.labels, its.garments))
    captions, words, labels, garments = lists
    return Library(its.vectors[places], captions, words, japanese, labels, garments)


def sizes(its: Library) -> dict[str, list[Library]]:
    """A side's library whole, its photographs with captions alone, and small ones drawn at random, half photographs."""
    photographs = its.known(its.words)
    found = {"all": [its], "photographs": [part_of(its, photographs)]}
    for size in (200, 40):
        found[f"{size} pictures"] = []
        for seed in range(6):
            rng = np.random.default_rng(seed)
            drawn = [
                rng.choice(np.flatnonzero(which), size // 2, replace=False) for which in (photographs, ~photographs)
            ]
            found[f"{size} pictures"].append(part_of(its, np.isin(np.arange(len(photographs)), drawn)))
    return found


def queries_of(its: Library, others: Library, things: set[str]) -> list[Queries]:
    rng = np.random.default_rng(0)
    least = 5 if len(its.words) >= 500 else 1
    found = [
        *noun_queries(its, things, rng, least),
        *(sentence_queries(its, others, things, language) for language in ("en", "ja")),
    ]
    if sum(its.known(its.labels)) >= 500:
        found += [class_queries(its, language) for language in (1, 2)]
    return [queries for queries in found if queries.texts]


# ---- what is measured of both sides ---------------------------------------------------------------------------------


def precision_at_10(scores: np.ndarray, right: np.ndarray) -> float:
    """Of the first ten, or of as many as there are right ones."""
    k = min(10, int(right.sum()))
    return float(right[np.argsort(-scores, kind="stable")[:k]].mean())


def without_pairs(its: Library, things: set[str]) -> list[tuple[str, str, np.ndarray]]:
    """(X, Y, right): nouns where 3 pictures and 5 % of those of X show Y too, and 5 pictures show X and not Y."""
    counts = Counter(word for words in its.words if words for word in words & things)
    shown = {word: shows(its, [[word]])[0] for word, count in sorted(counts.items()) if count >= 10}
    found = []
    for x, y in permutations(shown, 2):
        both, right = int((shown[x] & shown[y]).sum()), shown[x] & ~shown[y]
        if both >= 3 and both >= 0.05 * shown[x].sum() and right.sum() >= 5:
            found.append((x, y, right))
    return found


def hubs(clip: Clip, its: Library, share: float) -> list[str]:
    """Captions that find their picture among the best ten, names of classes, and how uneven the pictures found are."""
    asks = asker(clip, its.vectors)
    own = [(sentence, i) for i, said in enumerate(its.captions) for sentence in said]
    cosines = asks.cosines([sentence for sentence, _ in own], share)
    ranks = (cosines > cosines[np.arange(len(own)), [i for _, i in own]][:, None]).sum(axis=1)
    told = [f"captions R@10 {100 * (ranks < 10).mean():.1f} % of {len(own)}"]
    classes = class_queries(its, 1)
    if not classes.texts:
        return told
    named = asks.cosines(classes.texts, share)
    precision = np.mean([precision_at_10(v, r) for v, r in zip(named, classes.right, strict=True)])
    counts = np.bincount(np.argsort(-named, axis=1)[:, :10].ravel(), minlength=named.shape[1])
    skew = ((counts - counts.mean()) ** 3).mean() / counts.std() ** 3
    return [
        *told,
        f"class names P@10 {100 * precision:.1f} % of {len(classes.texts)}, skewness of N10 {skew:.2f}, "
        f"most {counts.max()}, never found {100 * (counts == 0).mean():.1f} %",
    ]
