"""The text tower of the bundled model: the multilingual Universal Sentence Encoder's n-gram network
(Yang et al., 2019, arXiv:1907.04307). Formulas and tensor names: `families.NgramEncoder`."""

# mypy: disable-error-code="no-any-return"
# (to the type checker, calling a torch module gives Any)

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from awase.encoding import families


class NgramBranch(nn.Module):
    """Two residual convolutions over windows of n tokens, of which `left` stand before the current one.

    `norm` holds this branch's share of a norm that is taken over all branches together."""

    def __init__(self, n: int, left: int, width: int, channels: int, epsilon: float) -> None:
        super().__init__()
        self.n, self.left = n, left
        self.reduce = nn.Linear(width, channels)
        self.norm = nn.LayerNorm(channels, epsilon)
        self.first = nn.Linear(n * channels, channels)
        self.second = nn.Linear(n * channels, channels)

    def windows(self, x: Tensor) -> Tensor:
        """(B, L, c) -> (B, L, n * c): each token beside its neighbours, zeros beyond the ends."""
        padded = F.pad(x, (0, 0, self.left, self.n - 1 - self.left))
        return torch.cat([padded[:, i : i + x.shape[1]] for i in range(self.n)], dim=-1)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        # What lies after the sentence is held at zero before each window, so that padding cannot be felt.
        x = x * inside
        x = (F.relu(self.first(self.windows(x))) + x) * inside
        return F.relu(self.second(self.windows(x))) + x


class Dense(nn.Module):
    """y = W x, plus S skipped where the layer has a skip from further back. No bias."""

    def __init__(self, inputs: int, outputs: int, skipped: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.skip = nn.Parameter(torch.empty(outputs, skipped)) if skipped else None
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor, skipped: Tensor | None = None) -> Tensor:
        y = F.linear(x, self.weight)
        return y if self.skip is None or skipped is None else y + F.linear(skipped, self.skip)


class NgramEncoder(nn.Module):
    """ids (B, L) and ends (B,), the position of the last token -> vectors (B, D). What lies after the end is unseen."""

    def __init__(self, sizes: families.NgramEncoder, dimension: int) -> None:
        super().__init__()
        w, c, epsilon = sizes.width, sizes.channels, sizes.norm_epsilon
        wide, (a, b, d) = w + len(sizes.orders) * c, sizes.hidden
        self.epsilon = epsilon
        self.tokens = nn.Embedding(sizes.vocabulary, w)
        self.ngrams = nn.ModuleDict({str(n): NgramBranch(n, left, w, c, epsilon) for n, left in sizes.orders})
        self.norm = nn.LayerNorm(wide, epsilon)
        self.mix = nn.Linear(wide, w)
        self.dense = nn.ModuleList([Dense(w, a), Dense(a, b, w), Dense(b, d), Dense(d, w, b)])
        self.projection = nn.Linear(w, dimension)

    def forward(self, ids: Tensor, ends: Tensor) -> Tensor:
        return self.forward_embeddings(self.tokens(ids), ends)

    def forward_embeddings(self, embeddings: Tensor, ends: Tensor) -> Tensor:
        """Token embeddings (B, L, w), learned ones among them if you like, -> vectors (B, D)."""
        return self.projection(self.features(embeddings, ends))

    def reduced(self, embeddings: Tensor) -> Sequence[Tensor]:
        """What each branch starts from, (B, L, c): mean and variance are those of all branches together."""
        x = torch.cat([branch.reduce(embeddings) for branch in self.branches], dim=-1)
        weight = torch.cat([branch.norm.weight for branch in self.branches])
        bias = torch.cat([branch.norm.bias for branch in self.branches])
        return F.layer_norm(x, weight.shape, weight, bias, self.epsilon).chunk(len(self.branches), dim=-1)

    @property
    def branches(self) -> list[NgramBranch]:
        return cast(list[NgramBranch], list(self.ngrams.values()))

    def features(self, embeddings: Tensor, ends: Tensor) -> Tensor:
        """The sentence encoder's own unit vectors (B, w), before the projection to the shared space."""
        return self.sentence(self.summed(embeddings, ends))

    def summed(self, embeddings: Tensor, ends: Tensor) -> Tensor:
        """(B, w + orders * c + 1): the sum over a sentence's tokens and windows divided by the root of their number,
        and that root last. It is all that the later layers know of a sentence."""
        inside = (torch.arange(embeddings.shape[1], device=ends.device) <= ends[:, None])[..., None]  # (B, L, 1)
        inside = inside.to(embeddings.dtype)
        branches = [branch(x, inside) for branch, x in zip(self.branches, self.reduced(embeddings), strict=True)]
        tokens = self.norm(torch.cat([embeddings, *branches], dim=-1)) * inside
        root = (ends + 1).to(embeddings.dtype)[:, None].sqrt()
        return torch.cat([tokens.sum(1) / root, root], dim=-1)

    def sentence(self, summed: Tensor) -> Tensor:
        """What `summed` gives -> unit vectors (..., w)."""
        # The mix is linear, so the tokens are summed before it: one row a sentence instead of one a token.
        mixed = F.linear(summed[..., :-1], self.mix.weight) + summed[..., -1:] * self.mix.bias
        first = F.relu(self.dense[0](mixed))
        second = F.relu(self.dense[1](first, mixed))
        third = F.relu(self.dense[2](second))
        sentence = torch.tanh(self.dense[3](third, second))
        return sentence * sentence.square().sum(-1, keepdim=True).clamp_min(self.epsilon).rsqrt()
