"""Sentences that begin alike, packed so that a causal text tower encodes each beginning once.

In a causal tower a token's states depend on the tokens before it alone. Sentences therefore form a tree, in which a
node stands for everything from the start to it, and each node need be computed once. Here the tree is cut into rows of
at most T nodes, parents before children: the tower reads a row as it would a sentence, with each node's depth as its
position and, for the causal mask, one that lets a node see itself and its ancestors and nothing else.

    a photo of a cat       <start> a photo of a cat <end>
    a photo of a dog   ->                       dog <end>     dog sees <start> a photo of a dog
    a photo of two                          two <end>         this <end> sees <start> a photo of two <end>

Every path from the root to a sentence's end lies in one row, so a row begins with a few nodes that the last one had
too. NumPy alone; it knows nothing of what the ids mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Packs:
    """R rows of T nodes, and where each of P sentences ends.

    ids, positions, parents: (R, T) int64. positions: how many nodes lie before it on its path. parents: the node in the
    same row that comes before it; the root's, and those of the nodes that fill a row up, are the node itself.
    sentences, rows, nodes: (P,) int64: sentence `sentences[p]` ends at node `nodes[p]` of row `rows[p]`; by rows."""

    ids: np.ndarray
    positions: np.ndarray
    parents: np.ndarray
    sentences: np.ndarray
    rows: np.ndarray
    nodes: np.ndarray

    def mask(self) -> np.ndarray:
        """(R, T, T) bool: true where the row's node sees the column's, that is itself and its ancestors."""
        count, length = self.ids.shape
        sees = np.zeros((count, length, length), bool)
        every = np.arange(count)
        for node in range(length):  # a parent stands before its children
            sees[:, node] = sees[every, self.parents[:, node]]
            sees[:, node, node] = True
        return sees

    def batches(self, rows_per_batch: int) -> Iterator[Packs]:
        """The same in parts of at most so many rows, each with the sentences that end in it."""
        for first in range(0, len(self.ids), rows_per_batch):
            last = first + rows_per_batch
            inside = slice(*np.searchsorted(self.rows, [first, last]))
            yield Packs(
                self.ids[first:last],
                self.positions[first:last],
                self.parents[first:last],
                self.sentences[inside],
                self.rows[inside] - first,
                self.nodes[inside],
            )


def pack_prefixes(sentences: Sequence[Sequence[int]], nodes_per_row: int, pad: int) -> Packs:
    """Packs sentences, each a sequence of ids from its start to the end at which it is pooled, none of them empty.

    Rows have `nodes_per_row` nodes, or as many as the longest sentence if that is more, filled up with `pad`.
    Neighbours in sorted order share the most, so rows are filled in that order."""
    order, shared = _sorted_by_prefix(sentences)
    lengths = [len(sentences[i]) for i in order]
    size = min(max(nodes_per_row, *lengths), sum(lengths) - sum(shared))
    ids: list[int] = []  # of all rows, one after another
    positions: list[int] = []
    parents: list[int] = []
    rows, nodes = [], []
    path = [0] * max(lengths)  # the node at each depth of the sentence just packed
    row, used = -1, size
    for sentence, length, common in zip(order, lengths, shared, strict=True):
        if used + length - common > size:
            _fill_up(ids, positions, parents, size, used, pad)
            row, used, common = row + 1, 0, 0
        new = range(used, used + length - common)
        ids += sentences[sentence][common:]
        positions += range(common, length)
        if new:
            parents += [path[common - 1] if common else 0, *new[:-1]]
        path[common:length] = new
        used += len(new)
        rows.append(row)
        nodes.append(path[length - 1])
    _fill_up(ids, positions, parents, size, used, pad)
    table = np.array([ids, positions, parents], np.int64).reshape(3, -1, size)
    places = np.array([order, rows, nodes], np.int64)
    return Packs(table[0], table[1], table[2], places[0], places[1], places[2])


def _fill_up(ids: list[int], positions: list[int], parents: list[int], size: int, used: int, pad: int) -> None:
    ids += [pad] * (size - used)
    positions += [0] * (size - used)
    parents += range(used, size)


def _sorted_by_prefix(sentences: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """The order that brings like beginnings together, and how many ids each has in common with the one before it."""
    longest = max(map(len, sentences))
    table = np.full((len(sentences), longest), -1, np.int64)  # -1: past the end, like no id
    for i, sentence in enumerate(sentences):
        table[i, : len(sentence)] = sentence
    order = np.lexsort(table.T[::-1])
    table = table[order]
    differ = table[1:] != table[:-1]
    lengths = np.array([len(sentences[i]) for i in order[1:]], np.int64)
    shared = np.where(differ.any(axis=1), differ.argmax(axis=1), lengths)
    return order.tolist(), [0, *shared.tolist()]
