"""Does a model read, or only spot words? A picture's right caption against wrong ones of nearly the same words.

An answer is right where the right caption's cosine is strictly above that of every wrong one. With one wrong caption,
guessing is right half of the time. `choices` says where wrong captions come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from awase.clip import Clip
from awase.datasets.captioned import Captioned
from awase.encoding.pictures import Picture
from awase.errors import DataError
from awase.evaluation.choices import Choice, Crop, Twins, exchanged, kinds_of, read_published
from awase.evaluation.intervals import bootstrap, clustered_proportion, proportion
from awase.evaluation.provenance import provenance
from awase.evaluation.results import Figure, Result
from awase.evaluation.vectors import left_out, picture_vectors, sentence_vectors

EXAMPLES = 24
FEWEST = 25  # cases of a kind from which it has a figure of its own, as in ARO

Progress = Callable[[int, int], None]


def composition(clip: Clip, data: Captioned, progress: Progress | None = None) -> Result:
    """Choices made from captions by `exchanges`. Raises DataError where no caption has a word to exchange."""
    choices = exchanged(data)
    if not choices:
        raise DataError(f"{data.name}: no caption has a word that the rules exchange; English and Japanese are known")
    return score_choices(clip, choices, data.name, data.split, data.column, data.notes, progress)


def published(
    clip: Clip, path: str | PathLike[str], pictures: str | PathLike[str] | None, progress: Progress | None = None
) -> Result:
    """ARO, SugarCrepe or Winoground, from the files of their authors (`choices.read_published`), reported as they are
    there: by the mean over relations or pairs of attributes, over kinds, or by pairs of which all is right."""
    found, name = read_published(path, pictures), Path(path).stem
    if twins := [one for one in found if isinstance(one, Twins)]:
        return score_twins(clip, twins, name)
    choices = [one for one in found if isinstance(one, Choice)]
    return score_choices(clip, choices, name, metric="mean_over_kinds", progress=progress)


def score_choices(
    clip: Clip,
    choices: Sequence[Choice],
    name: str,
    split: str = "test",
    column: str = "captions",
    notes: Sequence[str] = (),
    progress: Progress | None = None,
    metric: str = "accuracy",
) -> Result:
    """Precision at 1 of all choices ("accuracy") and of each kind; in intervals a picture's choices are one cluster.
    "mean_over_kinds" counts each kind of FEWEST choices once, as does the figure of each family of kinds.

    items: "correct", "margin" (cosine of the right caption less that of the best wrong one), "choice" (its index),
    "picture". tables: "kinds". examples: the choices that went wrong by most. Raises DataError where no picture can be
    read."""
    data = _captioned(choices, name, split, column)
    pictures = picture_vectors(clip, data, "vectors", progress)
    place = np.full(len(data), -1)
    place[pictures.kept] = np.arange(len(pictures.kept))
    kept = np.flatnonzero(place[data.owners] >= 0)
    judged = [choices[i] for i in kept.tolist()]
    margins, remarks = _margins(clip, judged, pictures.rows[place[data.owners[kept]]])
    correct, owners = margins > 0, data.owners[kept]
    kinds = np.array([choice.kind for choice in judged])
    rows = [_row(kind, correct[kinds == kind], owners[kinds == kind]) for kind in kinds_of(judged)]
    figures = {
        "accuracy": Figure(float(correct.mean()), clustered_proportion(correct, owners), len(kept)),
        **_means(judged, correct, owners, [row["kind"] for row in rows if row["n"] >= FEWEST]),
        **{r["kind"]: Figure(r["accuracy"], (r["low"], r["high"]), r["n"]) for r in rows if r["n"] >= FEWEST},
    }
    return Result(
        task="composition",
        data=name,
        split=split,
        model=clip.name,
        n=len(kept),
        figures={metric: figures[metric]} | figures if metric in figures else figures,
        settings={"captions": column, "column": column, "metric": metric},
        items={"correct": correct, "margin": margins, "choice": kept, "picture": owners},
        tables={"kinds": rows},
        examples=[_example(judged[i], margins[i]) for i in np.argsort(margins)[:EXAMPLES] if margins[i] <= 0],
        notes=[*notes, *left_out(pictures.errors), *remarks, *_chance(choices)],
        provenance=provenance(clip, data),
    )


def score_twins(clip: Clip, twins: Sequence[Twins], name: str = "winoground") -> Result:
    """Winoground's three scores: "text" (each picture prefers its caption), "image" (each caption its picture), "group"
    (both). Guessing gives 1/4, 1/4 and 1/6. Raises DataError where a picture cannot be read."""
    pictures = [picture for pair in twins for picture in pair.pictures]
    captions = [caption for pair in twins for caption in pair.captions]
    if not twins:
        raise DataError(f"{name}: there are no pairs to score")
    data = Captioned(name, "test", pictures, captions, np.arange(len(captions)))
    found = picture_vectors(clip, data, "vectors")
    if found.errors:
        raise found.errors[0]
    vectors, remarks = sentence_vectors(clip, captions)
    width = vectors.shape[1]
    cosines = found.rows.reshape(-1, 2, width) @ vectors.reshape(-1, 2, width).transpose(0, 2, 1)
    scores, n = twin_scores(cosines), len(twins)
    return Result(
        task="composition",
        data=name,
        split="test",
        model=clip.name,
        n=n,
        figures={key: Figure(float(v.mean()), proportion(int(v.sum()), n), n) for key, v in scores.items()},
        settings={"metric": "group"},
        items=scores | {"correct": scores["group"], "pair": np.arange(n)},
        notes=[*remarks, "guessing gives 25.0 % for text and image and 16.7 % for group"],
        provenance=provenance(clip, data),
    )


def twin_scores(cosines: np.ndarray) -> dict[str, np.ndarray]:
    """(N, 2 pictures, 2 captions) cosines -> (N,) booleans "text", "image", "group". Thrush et al., 2022, section 3."""
    own, other = cosines[:, [0, 1], [0, 1]], cosines[:, [0, 1], [1, 0]]  # other: picture 0 with caption 1, and 1 with 0
    text = np.asarray((own > other).all(axis=1))
    image = np.asarray((own > other[:, ::-1]).all(axis=1))
    return {"text": text, "image": image, "group": text & image}


# ---- parts ----------------------------------------------------------------------------------------------------------


def _captioned(choices: Sequence[Choice], name: str, split: str, column: str) -> Captioned:
    """Each picture once, owning the right captions of its choices."""
    if not choices:
        raise DataError(f"{name}: there are no choices to score")
    place: dict[Any, int] = {}
    pictures: list[Picture] = []
    owners = []
    for choice in choices:
        key = _key(choice.picture)
        if key not in place:
            place[key] = len(pictures)
            pictures.append(choice.picture)
        owners.append(place[key])
    return Captioned(name, split, pictures, [choice.right for choice in choices], np.array(owners, np.int64), column)


def _key(picture: Picture) -> Any:
    """What two choices of one picture have in common."""
    if isinstance(picture, Crop):
        return picture
    return str(picture) if isinstance(picture, (str, PathLike)) else id(picture)


def _margins(clip: Clip, choices: Sequence[Choice], pictures: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(N,) cosine of the right caption less the largest of the wrong ones; remarks on the sentences."""
    sentences = [sentence for choice in choices for sentence in (choice.right, *choice.wrong)]
    place = {sentence: i for i, sentence in enumerate(dict.fromkeys(sentences))}
    vectors, remarks = sentence_vectors(clip, list(place))
    margins = np.empty(len(choices))
    for i, (choice, picture) in enumerate(zip(choices, pictures, strict=True)):
        cosines = vectors[[place[sentence] for sentence in (choice.right, *choice.wrong)]] @ picture
        margins[i] = cosines[0] - cosines[1:].max()
    return margins, remarks


def _row(kind: str, correct: np.ndarray, owners: np.ndarray) -> dict[str, Any]:
    low, high = clustered_proportion(correct, owners)
    return {"kind": kind, "n": len(correct), "accuracy": float(correct.mean()), "low": low, "high": high}


def _means(
    choices: Sequence[Choice], correct: np.ndarray, owners: np.ndarray, kinds: Sequence[str]
) -> dict[str, Figure]:
    """Means over kinds, of all and of each family that has several. Pictures are drawn with all their choices."""
    if len(kinds) < 2:
        return {}
    place = {kind: i for i, kind in enumerate(kinds)}
    _, pictures = np.unique(owners, return_inverse=True)
    rows = np.zeros((pictures.max() + 1, 2, len(kinds)))  # (P, right | all, K)
    for choice, right, picture in zip(choices, correct, pictures, strict=True):
        if choice.kind in place:
            rows[picture, :, place[choice.kind]] += right, 1
    families: dict[str, list[int]] = {"mean_over_kinds": list(place.values())}
    for family, kind in dict.fromkeys((choice.family, choice.kind) for choice in choices if choice.kind in place):
        if family:
            families.setdefault(family, []).append(place[kind])
    return {name: _mean_over(rows[:, :, its]) for name, its in families.items() if len(its) > 1}


def _mean_over(rows: np.ndarray) -> Figure:
    """(P pictures, right | all, K kinds) counts -> the mean of the kinds' shares."""

    def statistic(drawn: np.ndarray) -> float:
        right, every = drawn.sum(axis=0)
        return float((right[every > 0] / every[every > 0]).mean())

    return Figure(statistic(rows), bootstrap(rows, statistic, draws=1000), int(rows[:, 1].sum()))


def _example(choice: Choice, margin: float) -> dict[str, Any]:
    return {
        "picture": choice.picture,
        "true": choice.right,
        "predicted": choice.wrong[0],
        "kind": choice.kind,
        "margin": float(margin),
    }


def _chance(choices: Sequence[Choice]) -> list[str]:
    chance = float(np.mean([1 / (1 + len(choice.wrong)) for choice in choices]))
    return [f"guessing is right in {chance:.1%} of these choices"]
