"""Retrieval: is a caption's picture among the first K pictures, and one of a picture's captions among the first K?

Ranks are counted, not sorted: one product of blocks of captions and pictures serves both directions and is thrown away,
so memory does not grow with captions x pictures. Candidates whose cosine differs from the right one's by less than TIE
(a picture that occurs twice, say) tie with it. The rank that is reported is the mean of the best and the worst that the
order among ties allows; R@K is the share of queries whose rank is at most K.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from awase.clip import Clip
from awase.datasets.captioned import Captioned
from awase.errors import DataError
from awase.evaluation.fairness import group_figures
from awase.evaluation.intervals import bootstrap, clustered_proportion, proportion
from awase.evaluation.provenance import provenance
from awase.evaluation.results import Figure, Result
from awase.evaluation.vectors import left_out, picture_vectors, sentence_vectors

TIE = np.float32(1e-6)  # what float32 rounding does to a cosine of some hundred dimensions
BLOCK = 4096  # captions by pictures of one product: 64 MB, and large enough to multiply at full speed
COUNTABLE = 255  # rows whose outcomes are added up in one byte
KS = (1, 5, 10)


@dataclass(frozen=True)
class Ranks:
    """Ranks from 1, int64. text_to_picture: (M,) of each caption's picture. picture_to_text: (N,) of each picture's
    best caption, 0 for a picture without one. Each as `best` and `worst` that the order among ties allows."""

    text_to_picture_best: np.ndarray
    text_to_picture_worst: np.ndarray
    picture_to_text_best: np.ndarray
    picture_to_text_worst: np.ndarray

    @property
    def text_to_picture(self) -> np.ndarray:
        """(M,) float64: the mean of best and worst."""
        return np.asarray((self.text_to_picture_best + self.text_to_picture_worst) / 2)

    @property
    def picture_to_text(self) -> np.ndarray:
        """(N,) float64: the mean of best and worst."""
        return np.asarray((self.picture_to_text_best + self.picture_to_text_worst) / 2)


def ranks(
    captions: np.ndarray,
    pictures: np.ndarray,
    owners: np.ndarray,
    block: int = BLOCK,
    progress: Callable[[int, int], None] | None = None,
) -> Ranks:
    """(M, D) and (N, D) float32 unit vectors, (M,) the picture of each caption -> ranks both ways.

    Working memory is one product of block x block numbers, whatever M and N. Raises DataError for NaN, to which nothing
    compares, so that every rank would be 1."""
    own = _own_cosines(captions, pictures, owners, block)
    if len(strange := np.flatnonzero(~np.isfinite(own))):
        raise DataError(f"caption {strange[0]} or its picture has a vector with NaN or infinity")
    best_own = np.full(len(pictures), np.inf, np.float32)  # nothing is above infinity: no caption, no rank
    best_own[owners] = -np.inf
    np.maximum.at(best_own, owners, own)
    above_own = np.zeros((2, len(captions)), np.int64)  # pictures at least, and more than, TIE above each caption's own
    above_best = np.zeros((2, len(pictures)), np.int64)
    products = np.empty((min(block, len(captions)), min(block, len(pictures))), np.float32)
    with ThreadPoolExecutor() as pool:
        for top in range(0, len(captions), block):
            rows = slice(top, min(top + block, len(captions)))
            for left in range(0, len(pictures), block):
                columns = slice(left, min(left + block, len(pictures)))
                product = products[: rows.stop - top, : columns.stop - left]
                np.matmul(captions[rows], pictures[columns].T, out=product)
                _count(product, own[rows], best_own[columns], above_own[:, rows], above_best[:, columns], pool)
            if progress:
                progress(rows.stop, len(captions))
    tied_own = np.bincount(owners, own >= best_own[owners] - TIE, minlength=len(pictures)).astype(np.int64)
    has_caption = np.bincount(owners, minlength=len(pictures)) > 0
    best, worst = 1 + above_own[1], np.maximum(above_own[0], 1 + above_own[1])  # a caption's own picture is in [0]
    picture_best = has_caption * (1 + above_best[1])
    picture_worst = has_caption * np.maximum(1 + above_best[0] - tied_own, picture_best)
    return Ranks(best, worst, picture_best, picture_worst)


def _own_cosines(captions: np.ndarray, pictures: np.ndarray, owners: np.ndarray, block: int) -> np.ndarray:
    """(M,) cosine of each caption with its own picture."""
    own = np.empty(len(captions), np.float32)
    for start in range(0, len(captions), block):
        rows = slice(start, start + block)
        np.einsum("md,md->m", captions[rows], pictures[owners[rows]], out=own[rows])
    return own


def _count(
    product: np.ndarray,
    own: np.ndarray,
    best_own: np.ndarray,
    above_own: np.ndarray,
    above_best: np.ndarray,
    pool: ThreadPoolExecutor,
) -> None:
    """Adds to `above_own` (2, rows) and `above_best` (2, columns) how many numbers of a product lie above each row's
    and each column's threshold, once TIE below it and once TIE above it."""

    def of_rows(start: int) -> np.ndarray:
        """Counts of COUNTABLE rows; returns the (2, columns) counts of columns."""
        part = product[start : start + COUNTABLE]
        mask = np.empty(part.shape, bool)
        columns = np.empty((2, part.shape[1]), np.uint8)
        for level, margin in enumerate((-TIE, TIE)):
            np.greater(part, (own[start : start + COUNTABLE] + margin)[:, None], out=mask)
            above_own[level, start : start + COUNTABLE] += [np.count_nonzero(row) for row in mask]
            np.greater(part, best_own + margin, out=mask)
            np.add.reduce(mask.view(np.uint8), axis=0, dtype=np.uint8, out=columns[level])
        return columns

    for columns in pool.map(of_rows, range(0, len(product), COUNTABLE)):
        above_best += columns


def retrieval(clip: Clip, data: Captioned, progress: Callable[[int, int], None] | None = None) -> Result:
    """Recall at 1, 5 and 10, their mean and the median rank, from captions to pictures and back.

    A picture that cannot be read is left out together with its captions, and named in the notes; a picture without a
    caption stays among the candidates. Intervals regard the pictures as the sample: captions of one picture are one
    cluster. items: rank_text_to_picture and caption_owner, one per caption; rank_picture_to_text and picture, one per
    picture with a caption (indices are the data's). Raises DataError where no caption is left."""
    images = picture_vectors(clip, data, progress=progress)
    place = np.full(len(data), -1)
    place[images.kept] = np.arange(len(images.kept))
    kept = np.flatnonzero(place[data.owners] >= 0) if len(data.captions) else np.empty(0, np.int64)
    if not len(kept):
        raise DataError(f"{data.name}: no picture that can be read has a caption; retrieval needs at least one")
    sentences, remarks = sentence_vectors(clip, [data.captions[i] for i in kept.tolist()])
    owners = place[data.owners[kept]]
    found = ranks(sentences, images.rows, owners)
    captioned = np.unique(owners)
    items = {
        "rank_text_to_picture": found.text_to_picture,
        "caption_owner": data.owners[kept],
        "rank_picture_to_text": found.picture_to_text[captioned],
        "picture": images.kept[captioned],
    }
    figures = retrieval_figures(items["rank_text_to_picture"], owners, items["rank_picture_to_text"])
    if data.groups:
        first_ten = {"correct": items["rank_picture_to_text"] <= 10, "picture": items["picture"]}
        figures |= group_figures(first_ten, data.groups, "image_to_text_r10")
    return Result(
        task="retrieval",
        data=data.name,
        split=data.split,
        model=clip.name,
        n=len(captioned),
        figures=figures,
        settings={"column": data.column, "ties": "mean of the best and the worst rank"},
        items=items,
        notes=[
            *data.notes,
            *left_out(images.errors),
            *remarks,
            *_notes(found, captioned),
        ],
        provenance=provenance(clip, data),
    )


def retrieval_figures(
    text_to_picture: np.ndarray, owners: np.ndarray, picture_to_text: np.ndarray
) -> dict[str, Figure]:
    """(M,) ranks of captions, (M,) their pictures and the ranks of the pictures that have captions, in the order of
    their numbers -> figures. Median ranks and the mean recall get bootstrap intervals, the rest Wilson's."""
    figures: dict[str, Figure] = {}
    for k in KS:
        hits = text_to_picture <= k
        figures[f"text_to_image_r{k}"] = Figure(float(hits.mean()), clustered_proportion(hits, owners), len(hits))
    for k in KS:
        hits = picture_to_text <= k
        figures[f"image_to_text_r{k}"] = Figure(float(hits.mean()), proportion(int(hits.sum()), len(hits)), len(hits))
    mean = float(np.mean([figure.value for figure in figures.values()]))
    figures["mean_recall"] = Figure(mean, _mean_recall_interval(text_to_picture, owners, picture_to_text), len(hits))
    for name, values, clusters in (
        ("text_to_image_median_rank", text_to_picture, owners),
        ("image_to_text_median_rank", picture_to_text, None),
    ):
        interval = bootstrap(values, lambda rows: float(np.median(rows)), clusters, draws=1000)
        figures[name] = Figure(float(np.median(values)), interval, len(values))
    return figures


def _mean_recall_interval(
    text_to_picture: np.ndarray, owners: np.ndarray, picture_to_text: np.ndarray
) -> tuple[float, float]:
    """Pictures are drawn with their captions, so that both directions of a draw rest on the same pictures."""
    _, places = np.unique(owners, return_inverse=True)
    hits = sum((text_to_picture <= k).astype(np.float64) for k in KS) / len(KS)
    rows = np.stack(
        [
            np.bincount(places, hits),
            np.bincount(places),
            sum((picture_to_text <= k).astype(np.float64) for k in KS) / len(KS),
        ],
        axis=1,
    )

    def statistic(drawn: np.ndarray) -> float:
        sums = drawn.sum(axis=0)
        return float(sums[0] / sums[1] + sums[2] / len(drawn)) / 2

    return bootstrap(rows, statistic, draws=1000)


def _notes(found: Ranks, captioned: np.ndarray) -> list[str]:
    captions, pictures = len(found.text_to_picture_best), len(found.picture_to_text_best)
    there = f"among {pictures:,}, of which those without one are never asked for" if pictures > len(captioned) else ""
    notes = [f"{captions:,} captions of {len(captioned):,} pictures{', ' if there else ''}{there}"]
    for way, best, worst in (
        ("text to picture", found.text_to_picture_best, found.text_to_picture_worst),
        ("picture to text", found.picture_to_text_best[captioned], found.picture_to_text_worst[captioned]),
    ):
        if tied := int((best < worst).sum()):
            low, high = (worst <= 1).mean(), (best <= 1).mean()
            notes.append(f"{way}: {tied:,} ranks have ties; R@1 is {low:.4f} with all lost, {high:.4f} with all won")
    return notes
