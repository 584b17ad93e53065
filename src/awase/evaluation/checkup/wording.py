"""What a short caption could say: the fuller caption of this data set that suits its picture best, as an example.

People wrote it, of this picture or of one like it: a pattern to follow and not a caption to copy unread."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from awase.datasets.checks import Example, Finding, Whole
from awase.datasets.checks.captions import is_short
from awase.encoding.prompts import language_of

SHOWN = 40  # short captions that get an example


def with_patterns(finding: Finding, whole: Whole, kept: np.ndarray, rows: np.ndarray, sentences: np.ndarray) -> Finding:
    """The finding about short captions, the first of them with a fuller one in the same language. kept: (K,) which
    pictures; rows: (K, D). sentences: (M, D) vectors of all captions."""
    place = {picture: row for row, picture in enumerate(kept.tolist())}
    full = [i for i, caption in enumerate(whole.captions) if not is_short(caption)]
    told = list(finding.examples)
    for index, example in enumerate(told[:SHOWN]):
        language = language_of(example.says)
        mine = [i for i in full if language_of(whole.captions[i]) == language]
        if mine and (row := place.get(example.pictures[0])) is not None:
            best = mine[int((sentences[mine] @ rows[row]).argmax())]
            told[index] = Example(example.pictures, f"{example.says} → as full as: {whole.captions[best]}")
    remedy = finding.remedy
    if told != list(finding.examples):
        remedy += (
            " Beside the first stands the fuller caption of these data that suits their picture best, as a pattern."
        )
    return replace(finding, examples=tuple(told), remedy=remedy)
