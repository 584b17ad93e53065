"""Pictures with sentences: what every layout of captioned pictures is read into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from awase.encoding.pictures import Picture
from awase.errors import DataError, PictureError


@dataclass(frozen=True)
class Captioned:
    """N pictures with M sentences. Raises DataError where its parts do not fit together.

    captions: M sentences. owners: (M,) int64, the picture that each sentence describes. column: where they came from
    ("captions", "captions_ja"). A picture without a sentence stays in the gallery, as in retrieval it should.
    groups: attribute -> its value for each picture. notes: what was left out and why, a line each.
    unusable: samples that were left out because they are damaged, each named."""

    name: str
    split: str
    pictures: Sequence[Picture]
    captions: Sequence[str]
    owners: np.ndarray
    column: str = "captions"
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())
    unusable: tuple[PictureError, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.owners.shape != (len(self.captions),):
            raise DataError(f"{self.name}: {len(self.captions)} captions have owners of shape {self.owners.shape}")
        if len(self.captions) and not 0 <= self.owners.min() <= self.owners.max() < len(self.pictures):
            raise DataError(f"{self.name}: a caption belongs to a picture outside the {len(self.pictures)}")

    def __len__(self) -> int:
        return len(self.pictures)
