"""Sentences through a tower in batches and as packed prefixes: in order, each as if it had been run alone."""

from __future__ import annotations

import itertools
import random
import time

import numpy as np
import pytest

from awase.encoding.packing import Packs, pack_prefixes
from awase.encoding.prompts import class_prompts, templates
from awase.encoding.sentences import encode_prefixes_once, encode_sentences
from awase.encoding.tokenizers import Tokens

PAD = 0


class CausalTower:
    """A small causal tower in NumPy, of whole numbers so that no order of sums can matter: two layers, in each of which
    a token takes up, squared, what it sees of the layer before. Counts what passes through it."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.words = draw.integers(1, 1000, (600, 4))
        self.places = draw.integers(1, 1000, (80, 4))
        self.shapes: list[tuple[int, int]] = []

    def hidden(self, ids: np.ndarray, positions: np.ndarray, mask: np.ndarray) -> np.ndarray:
        assert {array.dtype for array in (ids, positions)} == {np.dtype(np.int64)}
        self.shapes.append(ids.shape)
        states = self.words[ids] * self.places[positions] % 9973
        for _ in range(2):
            states = (states * states + mask.astype(np.int64) @ states * 31 + positions[..., None]) % 9973
        return states

    def run(self, ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
        count, length = ids.shape
        positions = np.broadcast_to(np.arange(length, dtype=np.int64), ids.shape)
        mask = np.broadcast_to(np.tri(length, dtype=bool), (count, length, length))
        return self.hidden(ids, positions, mask)[np.arange(count), ends].astype(np.float32)

    def run_packed(
        self, ids: np.ndarray, positions: np.ndarray, mask: np.ndarray, rows: np.ndarray, nodes: np.ndarray
    ) -> np.ndarray:
        return self.hidden(ids, positions, mask)[rows, nodes].astype(np.float32)

    def alone(self, tokens: Tokens) -> np.ndarray:
        rows = [self.run(np.array([row]), np.array([end])) for row, end in zip(tokens.ids, tokens.ends, strict=True)]
        self.shapes.clear()
        return np.concatenate(rows)

    @property
    def passed(self) -> int:
        return sum(count * length for count, length in self.shapes)


def sentences(count: int, seed: int = 0) -> Tokens:
    """Sentences over few words, so that they share beginnings, some are equal and some the beginning of another."""
    draw = random.Random(seed)
    rows = [[500, *(draw.randint(1, 4) for _ in range(draw.randint(0, 12))), 501] for _ in range(count)]
    rows += [[500, 1, 2, 501, 3, 501], [500, 1, 2, 501, 4, 4, 501]]  # an end token spelled out in the middle
    draw.shuffle(rows)
    return Tokens(rows, [row.index(501) for row in rows])


def up_to_the_end(tokens: Tokens) -> list[list[int]]:
    return [row[: end + 1] for row, end in zip(tokens.ids, tokens.ends, strict=True)]


@pytest.mark.parametrize("tokens_per_batch", [1, 7, 64, 2048])
def test_each_as_if_alone(tokens_per_batch: int) -> None:
    tower, tokens = CausalTower(), sentences(300)
    expected = tower.alone(tokens)
    np.testing.assert_array_equal(encode_sentences(tokens, tower.run, PAD, tokens_per_batch), expected)
    assert all(count == 1 or count * length <= tokens_per_batch for count, length in tower.shapes)


@pytest.mark.parametrize("nodes_per_row", [1, 16, 40, 10_000])
@pytest.mark.parametrize("tokens_per_batch", [1, 100, 2048])
def test_prefixes_once_as_if_alone(nodes_per_row: int, tokens_per_batch: int) -> None:
    tower, tokens = CausalTower(), sentences(300)
    expected = tower.alone(tokens)
    found = encode_prefixes_once(tokens, tower.run_packed, PAD, tokens_per_batch, nodes_per_row)
    np.testing.assert_array_equal(found, expected)
    if nodes_per_row >= 40:
        assert tower.passed < 0.8 * sum(end + 1 for end in tokens.ends)


def test_equal_sentences_pass_once() -> None:
    tower = CausalTower()
    tokens = Tokens([[500, 1, 501]] * 50, [2] * 50)
    assert len(encode_sentences(tokens, tower.run, PAD)) == 50
    assert tower.shapes == [(1, 3)]


def test_fixed_length_rows_keep_their_padding_wherever_they_are_pooled() -> None:
    tower = CausalTower()
    encode_sentences(Tokens([[5, 1, 1, 1], [6, 7, 1, 1]], [3, 1]), tower.run, 1)
    assert tower.shapes == [(2, 4)]


def test_many_sentences_are_hardly_filled_up_and_few_share_a_batch() -> None:
    tower, many = CausalTower(), sentences(5000)
    encode_sentences(many, tower.run, PAD, 1024)
    wanted = sum(map(len, set(map(tuple, up_to_the_end(many)))))
    assert wanted <= tower.passed < 1.05 * wanted
    few = CausalTower()
    encode_sentences(Tokens([[500, *[1] * n, 501] for n in (1, 2, 3, 5)], [2, 3, 4, 6]), few.run, PAD)
    assert few.shapes == [(4, 7)]


def test_no_sentences() -> None:
    tower = CausalTower()
    assert encode_sentences(Tokens([], []), tower.run, PAD).shape[0] == 0
    assert encode_prefixes_once(Tokens([], []), tower.run_packed, PAD).shape[0] == 0
    assert tower.shapes == []


# ---- packing -------------------------------------------------------------------------------------------------------


def paths(packs: Packs) -> dict[int, list[int]]:
    """Sentence -> the ids on the way from the root to its end."""
    found = {}
    for sentence, row, node in zip(packs.sentences, packs.rows, packs.nodes, strict=True):
        path = [int(node)]
        while packs.positions[row, path[-1]] > 0:
            path.append(int(packs.parents[row, path[-1]]))
        found[int(sentence)] = packs.ids[row, path[::-1]].tolist()
    return found


@pytest.mark.parametrize("nodes_per_row", [1, 20, 64, 100_000])
def test_every_path_spells_its_sentence(nodes_per_row: int) -> None:
    rows = up_to_the_end(sentences(500))
    packs = pack_prefixes(rows, nodes_per_row, PAD)
    assert paths(packs) == dict(enumerate(rows))
    gathered: dict[int, list[int]] = {}
    for batch in packs.batches(3):
        assert len(batch.ids) <= 3
        gathered |= paths(batch)
    assert gathered == dict(enumerate(rows))


def test_one_row_holds_every_beginning_once() -> None:
    rows = up_to_the_end(sentences(500))
    beginnings = {tuple(row[:n]) for row in rows for n in range(1, len(row) + 1)}
    assert pack_prefixes(rows, 100_000, PAD).ids.shape == (1, len(beginnings))


def test_the_mask_shows_ancestors_and_self_alone() -> None:
    packs = pack_prefixes([[1, 2, 3, 9], [1, 2, 4, 9], [1, 9]], 20, PAD)
    mask = packs.mask()
    assert packs.ids.tolist() == [[1, 2, 3, 9, 4, 9, 9]]
    assert [np.flatnonzero(row).tolist() for row in mask[0]] == [
        [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [0, 1, 4, 5], [0, 6],
    ]  # fmt: skip
    filled = pack_prefixes([[1, 2], [3, 4, 5]], 3, PAD)
    assert filled.ids.tolist() == [[1, 2, PAD], [3, 4, 5]]
    assert filled.mask()[0, 2].tolist() == [False, False, True], "no row of the mask is empty"


def test_eighty_thousand_prompts_pack_in_seconds() -> None:
    draw = random.Random(0)
    names = [" ".join(draw.choice("abcdefghijklmnop") for _ in range(draw.randint(1, 3))) for _ in range(20_000)]
    names = list(dict.fromkeys(names))[:1000]
    words = itertools.count(1)
    number: dict[str, int] = {}
    rows = [
        [0, *(number.setdefault(w, next(words)) for w in prompt.replace(".", " .").split()), 0]
        for prompts in class_prompts(names, templates("imagenet80"))
        for prompt in prompts
    ]
    started = time.process_time()
    packs = pack_prefixes(rows, 64, PAD)
    assert time.process_time() - started < 5
    assert packs.ids.size < 0.5 * sum(map(len, rows))
