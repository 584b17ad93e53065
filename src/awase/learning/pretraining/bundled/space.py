"""Both towers of the bundled model as far as they are trained, over frozen pictures and sentences."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.towers import load_towers
from awase.encoding.towers.efficientnet import EfficientNetLite
from awase.encoding.towers.ngrams import NgramEncoder
from awase.learning.pretraining.bundled.prepared import Prepared
from awase.learning.pretraining.bundled.recipe import Phase, Recipe
from awase.learning.pretraining.products import LastBlocks, twins_of

AT_A_TIME = 64  # pictures; the maps of more leave the processor's caches, and a step takes twice as long


class Space:
    """Both towers as far as they are trained here, over pictures and sentences that are frozen up to there."""

    def __init__(self, checkpoint: Checkpoint, data: Prepared, recipe: Recipe) -> None:
        towers = load_towers(checkpoint)
        self.image, self.text = cast(EfficientNetLite, towers.image), cast(NgramEncoder, towers.text)
        self.data, self.bfloat16 = data, recipe.bfloat16
        self.gain, self.whitening, self.kind_weight = 1.0, 0.0, 0.0
        self.last_blocks = LastBlocks(*twins_of(self.image), data.side)
        # The logarithms of three scales: a caption is told from hundreds, a class name from a few of its set.
        kinds = ("pairs", "names", "translations")
        self.scales = nn.ParameterDict({name: towers.logit_scale.detach().clone() for name in kinds})
        with torch.no_grad():
            self.before = torch.cat([self.text.sentence(part.float()) for part in torch.split(data.sums, 8192)])
        self.known = self.image.classifier.requires_grad_(False)
        self.learned = nn.Linear(self.known.in_features, self.known.out_features - data.known)
        nn.init.zeros_(self.learned.weight)
        nn.init.constant_(self.learned.bias, -1)

    @torch.no_grad()
    def write_learned(self) -> None:
        """Puts the rows that were learned into the tower's own classifier."""
        self.known.weight[self.data.known :] = self.learned.weight
        self.known.bias[self.data.known :] = self.learned.bias

    @torch.no_grad()
    def read_learned(self) -> None:
        """Takes them from there."""
        self.learned.weight.copy_(self.known.weight[self.data.known :])
        self.learned.bias.copy_(self.known.bias[self.data.known :])

    def set_mixture(self, phase: Phase) -> None:
        """Sets how concepts are whitened and how long their mixture is."""
        self.gain, self.whitening = phase.concept_gain, phase.whitening

    def fast(self) -> torch.autocast:
        """Where weights are trained, products may be of bfloat16; what is measured or kept is float32."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16 and torch.is_grad_enabled())

    def encoded(self, ids: Tensor) -> Tensor:
        """(..., w) unit vectors of prepared sentences as the sentence encoder has them, before the projection."""
        with self.fast():
            return self.text.sentence(self.data.sums[ids].float()).float()

    def sentences(self, ids: Tensor) -> Tensor:
        """(..., D) unit vectors of prepared sentences."""
        with self.fast():
            return F.normalize(self.text.projection(self.encoded(ids)).float(), dim=-1)

    @torch.no_grad()
    def concepts(self) -> Tensor:
        """(K, D): what the classifier can name, by its names in both languages and by what these are kinds of, in the
        space as it is now."""
        names, kinds = (
            F.normalize(torch.stack([self.sentences(ids) for ids in said.values()]).sum(0), dim=-1)
            for said in (self.data.concepts, self.data.kinds)
        )
        told = F.normalize(names + self.kind_weight * kinds, dim=-1)
        return F.normalize(told @ whitener(names, self.whitening), dim=-1)

    def tuned(self, maps: Tensor) -> Tensor:
        """Maps (B, P, C) -> (B, F) through the twins as they are now."""
        with self.fast():
            return torch.cat([cast(Tensor, self.last_blocks(part)) for part in torch.split(maps, AT_A_TIME)])

    def knows(self, features: Tensor) -> Tensor:
        """Features (B, F) -> the logits of the classifier's rows (B, 1000) that the backbone came with."""
        rows = self.data.known
        with self.fast():
            return F.linear(features, self.known.weight[:rows], self.known.bias[:rows]).float()

    def named(self, features: Tensor, dropout: float = 0.0) -> Tensor:
        """Features (B, F) -> logits of all rows of the classifier (B, K), those learned here among them."""
        with self.fast():
            learned = self.learned(F.dropout(features, dropout)).float()
        return torch.cat([self.knows(features), learned], dim=-1)

    def pictures(
        self,
        frozen: Tensor,
        tuned: Tensor,
        concepts: Tensor,
        dropout: float = 0.0,
        left_out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Features (B, F) of the frozen blocks and of their twins -> unit vectors (B, D), and the classifier's logits
        (B, K). The tower's own formula, but with concepts that follow the text tower as it learns. left_out (B,):
        which mixtures are to do without what was learned."""
        with self.fast():
            free = self.image.projection(F.dropout(torch.cat([frozen, tuned], dim=-1), dropout)).float()
        logits = self.named((frozen + tuned) / 2, dropout)
        heard = logits
        if left_out is not None:
            learned = torch.arange(logits.shape[1]) >= self.data.known
            heard = logits.masked_fill(left_out[:, None] & learned, float("-inf"))
        mixture = heard.softmax(-1) @ concepts
        return F.normalize(F.normalize(free, dim=-1) + self.gain * mixture, dim=-1), logits

    def trained(self, tower: bool) -> dict[str, nn.Parameter]:
        text = self.text
        modules: dict[str, nn.Module] = {"image.projection": self.image.projection, "text.projection": text.projection}
        modules |= {"text.mix": text.mix, "text.dense": text.dense, "learned": self.learned}
        weights = {f"{part}.{name}": w for part, module in modules.items() for name, w in module.named_parameters()}
        weights |= {f"scales.{name}": w for name, w in self.scales.items()}
        return weights | (dict(self.last_blocks.named_parameters()) if tower else {})


def whitener(vectors: Tensor, power: float) -> Tensor:
    """(D, D): by it, directions that many of the (K, D) vectors share become weaker, at power 1/2 all equally strong.
    Names that lie near one another are then told apart by more than the little in which they differ. Soft ZCA
    whitening: Diera et al., 2024 (arXiv:2411.17538), with a power in place of their large epsilon."""
    strengths, directions = torch.linalg.eigh((vectors.T @ vectors / len(vectors)).double())
    weakened = directions * (strengths.clamp_min(0) + 1e-4).pow(-power)
    return cast(Tensor, (weakened @ directions.T).float())
