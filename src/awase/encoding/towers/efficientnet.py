"""EfficientNet-lite (Tan & Le, 2019, arXiv:1905.11946, in its ReLU6 form without squeeze-and-excitation) under a CLIP
projection and a mixture of concept vectors. Batch norms are already folded into the convolutions.

Formulas and tensor names: `families.EfficientNetLite`."""

# mypy: disable-error-code="no-any-return"
# (to the type checker, calling a torch module gives Any)

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from awase.encoding import families


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: an odd pixel of padding goes to the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:])
        if height == width and height % 2 == 0:
            return F.conv2d(x, self.weight, self.bias, self.stride, height // 2, 1, self.groups)
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class InvertedResidual(nn.Module):
    """Widen (1x1), convolve each channel alone, narrow (1x1); added to its input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = SameConv(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = SameConv(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """`forward` gives, of "vectors" (B, D), "features" (B, F) and "patches" (B, N, D), what `outputs` names.

    A patch here is a cell of the last feature map, sent through the same projection and concepts as the mean."""

    def __init__(self, sizes: families.EfficientNetLite, dimension: int) -> None:
        super().__init__()
        self.stem = SameConv(3, sizes.stem, 3, 2)
        rows = list(sizes.blocks())
        self.blocks = nn.ModuleList(InvertedResidual(*row) for row in rows)
        self.top = SameConv(sizes.stages[-1][-1], sizes.features, 1)
        self.twins = sizes.twins
        self.tuned = nn.ModuleDict({str(i): InvertedResidual(*rows[i]) for i in sizes.tuned()})
        self.tuned_top = SameConv(sizes.stages[-1][-1], sizes.features, 1) if sizes.twins else None
        self.projection = nn.Linear(sizes.pooled, dimension)
        self.classifier = nn.Linear(sizes.features, sizes.concepts)
        self.concepts = nn.Parameter(torch.zeros(sizes.concepts, dimension))
        self.concept_gain = nn.Parameter(torch.ones(()))

    def feature_map(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) -> (B, F, S/32, S/32), twice as many features where there are twins."""
        x = shared = F.relu6(self.stem(pixels))
        for i, block in enumerate(self.blocks):
            shared = x if i == self.twins else shared
            x = block(x)
        own = F.relu6(self.top(x))
        if self.tuned_top is None:
            return own
        for block in self.tuned.values():
            shared = block(shared)
        return torch.cat([own, F.relu6(self.tuned_top(shared))], dim=1)

    def project(self, features: Tensor) -> Tensor:
        """Features (..., F) -> vectors (..., D): a free unit direction plus a mixture of concepts."""
        free = F.normalize(self.projection(features), dim=-1)
        each = features.reshape(*features.shape[:-1], -1, self.classifier.in_features)
        return free + self.concept_gain * (self.classifier(each.mean(-2)).softmax(-1) @ self.concepts)

    def forward(self, pixels: Tensor, outputs: Sequence[str] = ("vectors",)) -> dict[str, Tensor]:
        cells = self.feature_map(pixels)
        found: dict[str, Tensor] = {"features": cells.mean((2, 3))}
        if "vectors" in outputs:
            found["vectors"] = self.project(found["features"])
        if "patches" in outputs:
            found["patches"] = self.project(cells.flatten(2).transpose(1, 2))
        return {name: found[name] for name in outputs}
