"""Transformer towers: CLIP's and SigLIP's ViT, their text towers, and the pre-norm block that all of them share.

Formulas: Radford et al., 2021 (arXiv:2103.00020); Zhai et al., 2023 (arXiv:2303.15343) with the attention pooling of
Zhai et al., 2022 (arXiv:2106.04560). Tensor names: `families`."""

# mypy: disable-error-code="no-any-return"
# (to the type checker, calling a torch module gives Any)

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from awase.encoding import families


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[families.Activation, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
}


class Attention(nn.Module):
    """Multi-head self-attention; `split` and `merge` are its two ends, for those who put another middle between."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, L, w) -> queries, keys and values, each (B, H, L, w/H)."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v

    def merge(self, mixed: Tensor) -> Tensor:
        """What the heads found (B, H, L, w/H) -> tokens (B, L, w)."""
        return self.out(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, causal: bool = False, mask: Tensor | None = None) -> Tensor:
        """mask: bool, broadcast to (B, H, L, L), true where the token of a row may see that of a column."""
        return self.merge(F.scaled_dot_product_attention(*self.split(x), attn_mask=mask, is_causal=causal))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, activation: families.Activation) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x))."""

    def __init__(self, sizes: families.VisionTransformer | families.TextTransformer) -> None:
        super().__init__()
        width, epsilon = sizes.width, sizes.norm_epsilon
        self.norm1 = nn.LayerNorm(width, epsilon)
        self.attention = Attention(width, sizes.heads)
        self.norm2 = nn.LayerNorm(width, epsilon)
        self.mlp = Mlp(width, sizes.mlp_width, sizes.activation)

    def forward(self, x: Tensor, causal: bool = False, mask: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), causal, mask)
        return x + self.mlp(self.norm2(x))


class AttentionPool(nn.Module):
    """SigLIP's head: one learned probe attends to all tokens, then a residual MLP."""

    def __init__(self, sizes: families.VisionTransformer) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.zeros(sizes.width))
        self.attention = Attention(sizes.width, sizes.heads)
        self.norm = nn.LayerNorm(sizes.width, sizes.norm_epsilon)
        self.mlp = Mlp(sizes.width, sizes.mlp_width, sizes.activation)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, w) -> (B, w)."""
        probe = self.probe.expand(len(tokens), 1, -1)
        query, _, _ = self.attention.split(probe)
        _, keys, values = self.attention.split(tokens)
        return self.finish(self.attention.merge(F.scaled_dot_product_attention(query, keys, values)))[:, 0]

    def each(self, tokens: Tensor) -> Tensor:
        """(B, N, w) -> (B, N, w): what the pool would give if its probe looked at one token alone."""
        _, _, values = self.attention.split(tokens)
        return self.finish(self.attention.merge(values))

    def finish(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class VisionTransformer(nn.Module):
    """`forward` gives, of "vectors" (B, D), "features" (B, w) and "patches" (B, N, D), what `outputs` names.

    Patches are in the shared space: for CLIP every token goes through the final norm and the projection, for SigLIP
    through the pooling head as if the probe looked at that token alone (SigLIP has no projection, so its features
    are its vectors).

    Pictures may be of another size than the tower's own: the positions are interpolated then. In training, the part
    `left_out` of the patches, others in each picture, is not looked at (FLIP: Li et al., 2023, arXiv:2212.00794)."""

    left_out = 0.0

    def __init__(self, sizes: families.VisionTransformer, dimension: int) -> None:
        super().__init__()
        w, p, by_class = sizes.width, sizes.patch_size, sizes.pooling == "class"
        self.patch = nn.Conv2d(3, w, p, p, bias=not by_class)
        self.class_token = nn.Parameter(torch.zeros(w)) if by_class else None
        self.positions = nn.Parameter(torch.zeros(sizes.tokens, w))
        self.prompts = nn.Parameter(torch.zeros(*sizes.prompts, w)) if any(sizes.prompts) else None
        self.pre_norm = nn.LayerNorm(w, sizes.norm_epsilon) if by_class else None
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(w, sizes.norm_epsilon)
        self.projection = nn.Linear(w, dimension, bias=False) if by_class else None
        self.pool = None if by_class else AttentionPool(sizes)

    def embed(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) -> what the first block sees (B, tokens, w)."""
        cells = self.patch(pixels)
        x = cells.flatten(2).transpose(1, 2)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)
        x = x + self.positions_for(*cells.shape[2:])
        if self.training and self.left_out:
            x = self.some_patches(x)
        return x if self.pre_norm is None else self.pre_norm(x)

    def positions_for(self, rows: int, columns: int) -> Tensor:
        """The positions of a grid of patches (tokens, w), from the tower's own grid by bicubic interpolation."""
        first = self.positions[: self.class_token is not None]
        own = self.positions[len(first) :]
        side = math.isqrt(len(own))
        if (rows, columns) == (side, side):
            return self.positions
        grid = own.T.reshape(1, -1, side, side).float()
        resized = F.interpolate(grid, (rows, columns), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([first, resized[0].flatten(1).T.to(own.dtype)])

    def some_patches(self, x: Tensor) -> Tensor:
        """The class token, if there is one, and a random choice of the patches (B, tokens, w) in each picture."""
        first = int(self.class_token is not None)
        patches = x.shape[1] - first
        kept = max(1, round(patches * (1 - self.left_out)))
        chosen = torch.rand(len(x), patches, device=x.device).topk(kept, dim=1).indices + first
        chosen = torch.cat([chosen.new_zeros(len(x), first), chosen], dim=1)
        return x.gather(1, chosen[:, :, None].expand(-1, -1, x.shape[2]))

    def forward(self, pixels: Tensor, outputs: Sequence[str] = ("vectors",)) -> dict[str, Tensor]:
        x = self.embed(pixels)
        for i, block in enumerate(self.blocks):
            x = block(self.prompted(x, i))
        return self.outputs(x[:, : len(self.positions)], outputs)

    def prompted(self, x: Tensor, layer: int) -> Tensor:
        """What a layer sees: the tokens and its own prompts, if it has any, in the place of the layer's before."""
        if self.prompts is None or layer >= len(self.prompts):
            return x
        return torch.cat([x[:, : len(self.positions)], self.prompts[layer].expand(len(x), -1, -1)], dim=1)

    def outputs(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """What the last block gave (B, tokens, w) -> the outputs named."""
        found: dict[str, Tensor] = {}
        if self.projection is not None:  # the final norm is per token: only those that are asked for pay for it
            found["features"] = self.norm(x[:, 0])
            if "vectors" in names:
                found["vectors"] = self.projection(found["features"])
            if "patches" in names:
                found["patches"] = self.projection(self.norm(x[:, 1:]))
        elif self.pool is not None:
            tokens = self.norm(x)
            found["features"] = found["vectors"] = self.pool(tokens)
            if "patches" in names:
                found["patches"] = self.pool.each(tokens)
        return {name: found[name] for name in names}


class TextTransformer(nn.Module):
    """ids (B, L) and ends (B,), the position to pool at -> vectors (B, D). L may be shorter than the context where
    the tower is causal; SigLIP's reads its padding and pools at the last position, so give it whole contexts."""

    def __init__(self, sizes: families.TextTransformer, dimension: int) -> None:
        super().__init__()
        self.causal, self.pooling = sizes.causal, sizes.pooling
        self.first = sizes.deep[1]
        self.deep = nn.Parameter(torch.zeros(sizes.deep[0], sizes.deep[2], sizes.width)) if any(sizes.deep) else None
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.positions = nn.Parameter(torch.zeros(sizes.context, sizes.width))
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width, sizes.norm_epsilon)
        bias = sizes.projection == "linear"
        self.projection = None if sizes.projection == "none" else nn.Linear(sizes.width, dimension, bias)

    def forward(self, ids: Tensor, ends: Tensor) -> Tensor:
        return self.forward_embeddings(self.tokens(ids), ends, ids)

    def forward_embeddings(self, embeddings: Tensor, ends: Tensor, ids: Tensor | None = None) -> Tensor:
        """Token embeddings (B, L, w) without positions, learned ones among them if you like, -> vectors (B, D).
        ids (B, L): needed where words are deep."""
        return self.project(self.pool(self.hidden(embeddings, ids), ends))

    def forward_packed(self, ids: Tensor, positions: Tensor, mask: Tensor, rows: Tensor, nodes: Tensor) -> Tensor:
        """Prefix trees of sentences in rows, for causal towers: what sentences share at their start is encoded once.

        ids (B, T): the nodes of a row's trees. positions (B, T): how deep each lies. mask (B, T, T), bool: true where
        the node of a row sees that of a column, itself or an ancestor. rows, nodes (M,): where the sentences end.
        Gives (M, D), what `forward` gives for the M sentences."""
        x = self.tokens(ids) + self.positions[positions]
        for i, block in enumerate(self.blocks):
            x = block(self.renewed(x, ids, i), mask=mask[:, None])
        return self.project(self.norm(x[rows, nodes]))

    def hidden(self, embeddings: Tensor, ids: Tensor | None = None) -> Tensor:
        """What the last block gives for every token (B, L, w), before the final norm."""
        x = embeddings + self.positions[: embeddings.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(self.renewed(x, ids, i), self.causal)
        return x

    def renewed(self, x: Tensor, ids: Tensor | None, layer: int) -> Tensor:
        """What a layer sees: deep words as its own rows have them."""
        if self.deep is None or ids is None or not 1 <= layer <= len(self.deep):
            return x
        rows, word = self.deep[layer - 1], ids - self.first
        ours = (word >= 0) & (word < len(rows))
        return torch.where(ours[..., None], rows[word.clamp(0, len(rows) - 1)], x)

    def pool(self, x: Tensor, ends: Tensor) -> Tensor:
        """(B, L, w) -> (B, w): the final norm is per token, so it is taken of the pooled one alone."""
        last = x[:, -1] if self.pooling == "last" else x[torch.arange(len(x), device=x.device), ends]
        return self.norm(last)

    def project(self, pooled: Tensor) -> Tensor:
        return pooled if self.projection is None else self.projection(pooled)
