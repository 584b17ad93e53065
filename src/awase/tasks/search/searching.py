"""A query and a library -> an answer.

    searcher = Searcher()                                   # the default library; or its directory
    answer = searcher.search("red car -people", top=20)
    for hit in answer:
        print(hit.path, hit.score, hit.relevance)
    searcher.search("red car -people", cursor=answer.cursor)  # the next page
    searcher.search("#1 but at night", results=answer)        # like the first hit, but ...

The model is the one that made the library, opened at the first question. Candidates come from the store's vector
search over what is wanted and are scored exactly over all clauses; `scoring` has the arithmetic.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import unicodedata
import warnings
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from awase.clip import Clip, LanguageWarning
from awase.encoding import prompts
from awase.encoding.caches import cache_folder, write_atomically
from awase.errors import UsageError
from awase.loading import BUNDLED, load
from awase.tasks.search import scoring
from awase.tasks.search.answer import Answer, ClauseScore, Cursor, Hit, fingerprint, read_cursor
from awase.tasks.search.duplicates import heads
from awase.tasks.search.query import Clause, Query, parse
from awase.tasks.search.store import Ids, Row, Store, Vectors, check_model, open_library

DEPTH = 2000  # pictures that an answer can have, on all its pages


class Searcher:
    """Asks one library. Holds its model and what scoring measures on it, so that a second question is fast."""

    def __init__(self, library: Store | str | os.PathLike[str] | None = None, clip: Clip | None = None) -> None:
        """library: a store, its directory, or None for the default one. clip: a model of the caller's; LibraryError
        unless it is the one that made the library."""
        self.store: Store = (
            open_library(library) if library is None or isinstance(library, str | os.PathLike) else library
        )
        self._given = clip
        if clip is not None:
            check_model(self.store, clip.stamp())

    @cached_property
    def clip(self) -> Clip:
        """The model that made the library."""
        if self._given is not None:
            return self._given
        stamp = self.store.stamp
        clip = load(
            self.store.model,
            engine=stamp["engine"],
            precision=stamp["precision"],
            fast=stamp["fast"],
            adapter=self.store.adapters,
        )
        check_model(self.store, clip.stamp())
        return clip

    def refresh(self) -> bool:
        """Sees pictures that were added since; True if there were any."""
        if changed := self.store.refresh():
            self.__dict__.pop("_background", None)
        return changed

    def search(
        self, query: str | Query, *, top: int = 20, cursor: str | None = None, results: Answer | Sequence[int] = ()
    ) -> Answer:
        """The best `top` pictures for a query (`query` has its language), near-duplicates grouped.

        cursor: of the answer before, for the next page. results: what #1, #2, ... in the query mean, an answer or ids.
        Raises UsageError for a query or cursor that cannot be meant, PictureError for a picture in it that cannot be
        read, LibraryError."""
        query = parse(query) if isinstance(query, str) else query
        if top < 1:
            raise UsageError(f"top={top}: ask for at least one picture")
        now = self.store.identity, self.store.generation
        after = read_cursor(cursor, query, *now) if cursor is not None else None
        allowed = self.store.select(query.filters) if query.filters else None
        among = len(self.store) if allowed is None else len(allowed)
        if not among:
            return Answer(query, (), 0, 0, self.store.generation)
        references = self._references(query, results)
        clauses = self._vectors(query, references)
        ids = self._candidates(query, clauses, allowed)
        background, yardsticks = self._measured(query, after)
        if after is not None:
            ids = ids[ids <= after.newest]
        ids = np.setdiff1d(ids, [references[c] for c in query.wanted if c.kind == "result"])
        ranked = _Ranked(query, clauses, ids, self.store.vectors(ids), background, yardsticks)
        return self._page(ranked, after, top, among)

    # ---- what is asked -----------------------------------------------------------------------------------------------

    def _references(self, query: Query, results: Answer | Sequence[int]) -> dict[Clause, int]:
        """The ids that "#3" and "id:123" stand for."""
        if isinstance(results, Answer) and results.generation != self.store.generation:
            raise UsageError("the results belong to the library before it was compacted; search again")
        listed = [hit.id for hit in results] if isinstance(results, Answer) else [int(id) for id in results]
        known = dict(enumerate(listed, results.before + 1 if isinstance(results, Answer) else 1))
        found = {}
        for clause in query.clauses:
            if clause.kind != "result":
                continue
            number = int(clause.text.lstrip("#id:"))
            if clause.text.startswith("id:"):
                found[clause] = number
            elif number in known:
                found[clause] = known[number]
            else:
                before = (
                    f"the search before gave {min(known)} to {max(known)}" if known else "there was no search before"
                )
                raise UsageError(f"there is no result {clause.text} ({before}); search first, or give id:N or a file")
        return found

    def _vectors(self, query: Query, references: dict[Clause, int]) -> Vectors:
        """(C, D) unit vectors of the clauses."""
        vectors = np.empty((len(query.clauses), self.clip.dimension), np.float32)
        for kind in ("words", "picture", "result"):
            places = [i for i, clause in enumerate(query.clauses) if clause.kind == kind]
            if not places:
                continue
            mine = [query.clauses[i] for i in places]
            if kind == "words":
                warn_of_languages(self.clip, [clause.text for clause in mine])
                vectors[places] = self.clip.encode_texts([clause.text for clause in mine])
            elif kind == "picture":
                vectors[places] = self.clip.encode_images([os.path.expanduser(clause.text) for clause in mine])
            else:
                vectors[places] = self.store.vectors(np.array([references[clause] for clause in mine], np.int64))
        return vectors

    # ---- what it is measured with ------------------------------------------------------------------------------------

    @cached_property
    def _background(self) -> scoring.Background:
        return scoring.background_of(self.store.vectors(self.store.sample(scoring.SAMPLE)), bank_of(self.clip))

    def _measured(self, query: Query, after: Cursor | None) -> tuple[scoring.Background, list[scoring.Yardstick]]:
        if after is not None:
            mean, deviation = after.background
            return scoring.Background(bank_of(self.clip), mean, deviation), list(after.yardsticks)
        seen = self._background
        words = iter(tokens_of(self.clip, [clause.text for clause in query.clauses if clause.kind == "words"]))
        return seen, [
            scoring.of_sentence(next(words), seen) if clause.kind == "words" else scoring.of_picture(seen)
            for clause in query.clauses
        ]

    # ---- who answers -------------------------------------------------------------------------------------------------

    def _candidates(self, query: Query, clauses: Vectors, allowed: Ids | None) -> Ids:
        """Ids near to anything that is wanted, and to all of it together."""
        wanted = np.array([not clause.negative for clause in query.clauses])
        weights = np.array([clause.weight for clause in query.clauses], np.float32)[wanted, None]
        queries = clauses[wanted]
        if len(queries) > 1:
            queries = np.concatenate([queries, (weights * queries).sum(axis=0, keepdims=True)])
        ids, _ = self.store.nearest(queries, DEPTH, allowed)
        return np.unique(ids)

    def _page(self, ranked: _Ranked, after: Cursor | None, top: int, among: int) -> Answer:
        rows = self.store.rows(ranked.ids)
        head = heads(rows, ranked.vectors)
        first = np.flatnonzero(head == np.arange(len(head)))  # places of the hits, best first
        begin = ranked.beyond(after, first) if after else 0
        shown = first[begin : begin + top]
        hits = tuple(
            Hit(rows[i], float(ranked.scores[i]), ranked.clauses_of(i), _others(rows, head, i)) for i in shown.tolist()
        )
        generation, before, cursor = self.store.generation, after.seen if after else 0, None
        if begin + top < len(first):
            last = int(shown[-1])
            newest = after.newest if after else int(self.store.select(())[-1])
            at = float(ranked.scores[last]), int(ranked.ids[last])
            seen = before + len(shown)
            background = ranked.background.mean, ranked.background.deviation
            asked = fingerprint(ranked.query)
            cursor = str(
                Cursor(asked, self.store.identity, generation, newest, seen, *at, background, tuple(ranked.yardsticks))
            )
        relevant = int((ranked.scores[first] >= scoring.RELEVANT).sum())
        return Answer(ranked.query, hits, relevant, among, generation, before, cursor)


class _Ranked:
    """Candidates with their scores, best first, equal ones by id."""

    def __init__(
        self,
        query: Query,
        clauses: Vectors,
        ids: Ids,
        vectors: Vectors,
        background: scoring.Background,
        yardsticks: list[scoring.Yardstick],
    ) -> None:
        plain = clauses @ vectors.T  # (C, N)
        tamed = background.tame(plain, vectors)
        words = np.array([clause.kind == "words" for clause in query.clauses])
        odds = np.stack([y.odds(t if w else p) for y, t, p, w in zip(yardsticks, tamed, plain, words, strict=True)])
        negative = [clause.negative for clause in query.clauses]
        scores = scoring.combine(odds, [clause.weight for clause in query.clauses], negative)
        order = np.lexsort((ids, -scores))[:DEPTH]
        self.query, self.background, self.yardsticks = query, background, yardsticks
        self.ids, self.vectors, self.scores = ids[order], vectors[order], scores[order]
        self._odds, self._cosines = odds[:, order], plain[:, order]

    def clauses_of(self, place: int) -> tuple[ClauseScore, ...]:
        found = zip(self.query.clauses, scoring.probability(self._odds[:, place]), self._cosines[:, place], strict=True)
        return tuple(ClauseScore(clause, float(p), float(c)) for clause, p, c in found)

    def beyond(self, after: Cursor, first: np.ndarray) -> int:
        """How many hits come up to where a page ended."""
        scores, ids = self.scores[first], self.ids[first]
        return int(((scores > after.score) | ((scores == after.score) & (ids <= after.id))).sum())


def _others(rows: Sequence[Row], head: np.ndarray, place: int) -> tuple[Row, ...]:
    return tuple(rows[i] for i in np.flatnonzero(head == place).tolist() if i != place)


# ---- what a model is asked besides -----------------------------------------------------------------------------------


def bank_of(clip: Clip) -> Vectors:
    """(B, D) unit vectors of everyday sentences and things in the model's languages; kept in the cache."""
    languages = [language for language in ("en", "ja") if language in clip.languages] or ["en"]
    sentences = [s for kind in ("sentences", "things") for its in languages for s in prompts.background(kind, its)]
    name = hashlib.sha256(json.dumps([clip.stamp(), sentences]).encode()).hexdigest()[:32]
    remembered = cache_folder() / "bank" / f"{name}.npy"
    try:
        found = np.load(remembered, allow_pickle=False)
        if found.shape == (len(sentences), clip.dimension) and found.dtype == np.float32:
            return np.asarray(found)
    except (OSError, ValueError, EOFError):
        pass
    bank = clip.encode_texts(sentences)
    file = io.BytesIO()
    np.save(file, bank)
    write_atomically(remembered, file.getvalue())
    return bank


def tokens_of(clip: Clip, sentences: Sequence[str]) -> list[int]:
    """How many tokens each sentence has, start and end included."""
    return [max(1, sum(id != clip.tokenizer.pad for id in ids)) for ids in clip.tokenizer(sentences).ids]


def warn_of_languages(clip: Clip, sentences: Sequence[str]) -> None:
    """A LanguageWarning for the first sentence that the model cannot read, by its letters."""
    for sentence in sentences:
        japanese = prompts.language_of(sentence) == "ja"
        strange = any(_script(letter) not in ("LATIN", None) for letter in sentence) and not japanese
        if (japanese and "ja" not in clip.languages) or (strange and not _reads_many(clip)):
            languages = ", ".join(clip.languages)
            warnings.warn(
                f"{clip.name} reads {languages}, and {sentence[:60]!r} is in another language: what it finds is near "
                "chance; ask in one of these, or index with a model that reads it",
                LanguageWarning,
                stacklevel=4,
            )
            return


def _reads_many(clip: Clip) -> bool:
    """Whether a model of other people's, with a large vocabulary, which may read what awase has no prompts for."""
    return "ja" in clip.languages and clip.name != BUNDLED


def _script(letter: str) -> str | None:
    """ "LATIN", "CYRILLIC", "HANGUL", ...; None for what is no letter."""
    return unicodedata.name(letter, "?").split()[0] if letter.isalpha() else None
