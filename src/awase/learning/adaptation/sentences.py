"""Sentences as tensors, and their vectors through a text tower that learns: learned words among the token embeddings,
changed weights in the tower. It knows nothing of what the sentences are for."""

# mypy: disable-error-code="no-any-return"
# (to the type checker, calling a torch module gives Any)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from awase.clip import Clip
from awase.encoding.checkpoints.derived import Changes, derive
from awase.encoding.tokenizers import Tokenizer, open_tokenizer
from awase.errors import UsageError


@dataclass(frozen=True)
class Sentences:
    """ids: (M, L) int64, filled up with padding. ends: (M,) where the tower pools. fixed: padding takes part."""

    ids: Tensor
    ends: Tensor
    fixed: bool

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Tensor) -> Sentences:
        """Some of them, no longer than the longest among them."""
        ids, ends = self.ids[rows], self.ends[rows]
        return Sentences(ids if self.fixed else ids[:, : int(ends.max()) + 1], ends, self.fixed)


def tokenizer_with(clip: Clip, words: Mapping[str, np.ndarray]) -> Tokenizer:
    """The model's tokenizer with new words: literal -> its (K, w) embeddings, of which only K counts here."""
    known = derive(clip.checkpoint, Changes(words))
    return open_tokenizer(known.architecture.text_rule, known.folder)


def tokenised(tokenizer: Tokenizer, sentences: Sequence[str], whole: bool = False) -> Sentences:
    """whole: raise UsageError where a sentence does not fit into the context, instead of cutting it."""
    tokens = tokenizer(sentences)
    if whole and tokens.cut:
        raise UsageError(
            f"{sentences[tokens.cut[0]]!r} does not fit into the {tokenizer.context} tokens that the text tower reads; "
            "shorten the class name, or learn fewer tokens"
        )
    ids = torch.full((len(tokens.ids), max(map(len, tokens.ids))), tokenizer.pad)
    for i, row in enumerate(tokens.ids):
        ids[i, : len(row)] = torch.tensor(row)
    return Sentences(ids, torch.tensor(tokens.ends), tokenizer.rule.fixed_length)


def sentence_vectors(tower: nn.Module, sentences: Sentences, rows: Tensor | None = None) -> Tensor:
    """(M, D) unit vectors. rows: (K, w) embeddings of the ids that follow the tower's table; they may learn."""
    text: Any = tower  # of one of three classes that share no base
    table = text.tokens
    if rows is None:
        return F.normalize(text(sentences.ids, sentences.ends), dim=-1)
    known = table.num_embeddings
    embeddings = table(sentences.ids.clamp(max=known - 1))
    learned = rows[(sentences.ids - known).clamp(min=0)]
    embeddings = torch.where((sentences.ids >= known)[..., None], learned, embeddings)
    deep = (sentences.ids,) if getattr(text, "deep", None) is not None else ()
    return F.normalize(text.forward_embeddings(embeddings, sentences.ends, *deep), dim=-1)
