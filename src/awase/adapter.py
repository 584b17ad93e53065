"""An adapter: what was learned on top of a base model. Put on a Clip of that base it gives a Clip.

    adapter = read_adapter("parts")
    clip = adapter.on(awase.load())                 # the same as awase.load(adapter="parts")
    clip.classify("screw.jpg")                      # its classes need no labels

It holds any of a head (a closed classifier) and changes of the towers (new words, low-rank updates, tuned weights);
with changes and class names, the head is made of the names by the changed text tower. NumPy only; it knows nothing of
how any of it was learned, and files are `adapter_files`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from awase.clip import Clip
from awase.encoding.checkpoints.checkpoint import Checkpoint, Origin
from awase.encoding.checkpoints.derived import Changes, derive
from awase.encoding.engines import open_engine
from awase.encoding.families import EfficientNetLite
from awase.encoding.heads import Head, Reads
from awase.encoding.scoring import scoring_of
from awase.encoding.tokenizers import open_tokenizer
from awase.errors import CheckpointError, UsageError


@dataclass(frozen=True)
class Base:
    """The model that an adapter belongs to. name: for messages. fingerprint: of its weights and settings. tokenizer: of
    its tokenizer's rule and files."""

    name: str
    fingerprint: str
    tokenizer: str

    @classmethod
    def of(cls, clip: Clip) -> Base:
        name = f"{clip.name} with another adapter on it" if clip.checkpoint.origin else clip.name
        return cls(name, clip.checkpoint.fingerprint, clip.tokenizer.fingerprint)


@dataclass(frozen=True)
class Adapter:
    """What a method learned.

    head: a classifier that was fitted. changes: of the towers. keys, names, templates: the classes, language -> what
    each is called, and the sentences with {} that they are asked by; the first language is the one that is used.
    record: how it was made (method, settings, seed, hashes of the data, figures): told to people, used by nothing."""

    base: Base
    head: Head | None = None
    changes: Changes = field(default_factory=Changes)
    keys: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.head and (self.head.keys, dict(self.head.names)) != (self.keys, dict(self.names)):
            raise UsageError("the adapter's head has other classes than the adapter")

    def on(self, clip: Clip, alpha: float = 1.0) -> Clip:
        """The adapted Clip. alpha: how far to go, from 0 (the base) to 1 (what was learned).

        Raises CheckpointError for another base, UsageError where a part of the way means nothing: for new words, and
        for a head that does not read vectors."""
        if not 0 <= alpha <= 1:
            raise UsageError(f"alpha {alpha}: from 0, the base, to 1, all that was learned")
        self._refuse_other_base(clip)
        if alpha < 1 and self.changes.words:
            raise UsageError("a new word is there or not: alpha has to be 1")
        adapted = _with_changes(clip, self.changes, alpha) if self.changes else clip
        if self.head:
            return replace(adapted, head=self._fitted_head(clip, alpha))
        return replace(adapted, head=self.head_of_names(adapted)) if self.keys else adapted

    def head_of_names(self, clip: Clip) -> Head:
        """The classes as this Clip's text tower sees their names: zero-shot classification as a head."""
        return head_of_names(clip, self.keys, self.names, self.templates)

    def _fitted_head(self, clip: Clip, alpha: float) -> Head | None:
        """With alpha < 1 between zero-shot classification by the base and what was learned."""
        if alpha == 1 or self.head is None:
            return self.head
        if self.head.reads != "vectors":
            raise UsageError(
                f"alpha {alpha} mixes what was learned with the class names' vectors, and this head reads features, "
                "which have none; use alpha 1, or a method that reads vectors alone (clap, lp++, cache)"
            )
        return self.head.blended(self.head_of_names(clip), alpha)

    def _refuse_other_base(self, clip: Clip) -> None:
        checkpoint, origin = clip.checkpoint, clip.checkpoint.origin
        known = {checkpoint.fingerprint: True} | ({origin.fingerprint: origin.same_pictures} if origin else {})
        if self.base.fingerprint not in known:
            raise CheckpointError(
                f"this adapter was learned on {self.base.name} ({self.base.fingerprint[:12]}), and the model is "
                f"{clip.name} ({checkpoint.fingerprint[:12]}); load it on {self.base.name}, or adapt this model anew"
            )
        if self.head and (width := _width(clip, self.head.reads)) not in (None, self.head.width):
            raise CheckpointError(
                f"this adapter reads {self.head.width} numbers a picture ({self.head.reads}), and {clip.name} gives "
                f"{width}; it is damaged or was changed by hand"
            )
        if self.head and not known[self.base.fingerprint]:
            raise CheckpointError(
                "this adapter's classes were learned on the base's pictures, and another adapter has changed how "
                "pictures are seen; learn the classes on top of that one"
            )
        if clip.head and not self.keys and _changes_pictures(self.changes):
            raise CheckpointError(
                "this adapter changes how pictures are seen, and the classes of another one are there already; put "
                "this one on first"
            )
        if self.base.tokenizer != clip.tokenizer.fingerprint and checkpoint.fingerprint == self.base.fingerprint:
            raise CheckpointError(
                f"this adapter was learned on {self.base.name} with another tokenizer; use the model's own files"
            )


# ---- parts -----------------------------------------------------------------------------------------------------------


def head_of_names(
    clip: Clip, keys: Sequence[str], names: Mapping[str, tuple[str, ...]], templates: Sequence[str]
) -> Head:
    """Zero-shot classification as a head that reads vectors: scale * the classes' vectors. A sigmoid family's bias is
    the same for all classes, of which a picture has one, and is left out."""
    labels = next(iter(names.values()), tuple(keys))
    different = list(dict.fromkeys(labels))  # classes may share a name
    vectors = clip.classifier(different, templates)[[different.index(label) for label in labels]]
    return Head(tuple(keys), names, "vectors", (clip.scoring.scale * vectors.T).astype(np.float32))


def _width(clip: Clip, reads: Reads) -> int | None:
    """F of the rows; None where another library's tower does not tell beforehand."""
    architecture = clip.checkpoint.architecture
    if reads == "vectors":
        return architecture.dimension
    if isinstance(architecture.image, EfficientNetLite):
        features: int | None = architecture.image.pooled  # its twin's features too
    else:
        features = getattr(architecture.image, "features", None)
    return features if reads == "features" or features is None else features + architecture.dimension


def _with_changes(clip: Clip, changes: Changes, alpha: float) -> Clip:
    checkpoint = _derived(clip.checkpoint, changes, alpha)
    engine = clip.engine.name + (f":{clip.engine.device}" if clip.engine.name == "torch" else "")
    return replace(
        clip,
        checkpoint=checkpoint,
        engine=open_engine(checkpoint, engine, clip.engine.precision, clip.engine.told_threads),
        tokenizer=open_tokenizer(checkpoint.architecture.text_rule, checkpoint.folder),
        scoring=scoring_of(checkpoint),
    )


def _derived(base: Checkpoint, changes: Changes, alpha: float) -> Checkpoint:
    root = base.origin.fingerprint if base.origin else base.fingerprint
    same = base.origin is None or base.origin.same_pictures
    return replace(derive(base, changes, alpha), origin=Origin(root, same and not _changes_pictures(changes)))


def _changes_pictures(changes: Changes) -> bool:
    return any(name.startswith("image.") for name in (*changes.low_rank, *changes.weights))
