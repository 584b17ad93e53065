"""CLIP's ResNet (Radford et al., 2021, section 2.4): a stem of three convolutions, every stride an average pooling,
attention pooling at the end. Module names are OpenAI's."""

# mypy: disable-error-code="no-any-return"
# (to the type checker, calling a torch module gives Any)

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from awase.encoding import families


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int, first: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, planes * 4, 1, bias=False), nn.BatchNorm2d(planes * 4)) if first else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(self.pool(y)))
        shortcut = x if self.downsample is None else self.downsample(self.pool(x))
        return F.relu(y + shortcut)


def stage(inputs: int, planes: int, stride: int, count: int) -> nn.Sequential:
    """`count` bottlenecks, of which the first changes size and width."""
    first = Bottleneck(inputs, planes, stride, first=True)
    return nn.Sequential(first, *(Bottleneck(planes * 4, planes, 1, first=False) for _ in range(count - 1)))


class AttentionPool(nn.Module):
    """The mean of all cells asks all cells (and itself): one layer of attention with a single query."""

    def __init__(self, cells: int, width: int, heads: int, dimension: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.zeros(cells + 1, width))
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, dimension)

    def forward(self, cells: Tensor) -> Tensor:
        """Cells (B, N, C) -> features (B, C); `c_proj` then maps them to the shared space."""
        x = torch.cat([cells.mean(1, keepdim=True), cells], dim=1) + self.positional_embedding
        q, k, v = self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x)
        q, k, v = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).flatten(1)  # (B, H, 1, C/H) -> (B, C)

    def each(self, cells: Tensor) -> Tensor:
        """Every cell alone in the shared space (B, N, D), by the value path without positions, as MaskCLIP does
        (Zhou et al., 2022, arXiv:2112.01071)."""
        return self.c_proj(self.v_proj(cells))


class ModifiedResNet(nn.Module):
    """`forward` gives, of "vectors" (B, D), "features" (B, C) and "patches" (B, N, D), what `outputs` names."""

    def __init__(self, sizes: families.ModifiedResNet, dimension: int) -> None:
        super().__init__()
        w = sizes.width
        self.conv1 = nn.Conv2d(3, w // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(w // 2)
        self.conv2 = nn.Conv2d(w // 2, w // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(w // 2)
        self.conv3 = nn.Conv2d(w // 2, w, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(w)
        a, b, c, d = sizes.blocks
        self.layer1 = stage(w, w, 1, a)
        self.layer2 = stage(w * 4, w * 2, 2, b)
        self.layer3 = stage(w * 8, w * 4, 2, c)
        self.layer4 = stage(w * 16, w * 8, 2, d)
        self.attnpool = AttentionPool(sizes.grid**2, sizes.features, sizes.heads, dimension)

    def feature_map(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) -> (B, C, S/32, S/32)."""
        x = F.relu(self.bn1(self.conv1(pixels)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.avg_pool2d(x, 2)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x

    def forward(self, pixels: Tensor, outputs: Sequence[str] = ("vectors",)) -> dict[str, Tensor]:
        cells = self.feature_map(pixels).flatten(2).transpose(1, 2)  # (B, N, C)
        found: dict[str, Tensor] = {}
        if "vectors" in outputs or "features" in outputs:
            found["features"] = self.attnpool(cells)
        if "vectors" in outputs:
            found["vectors"] = self.attnpool.c_proj(found["features"])
        if "patches" in outputs:
            found["patches"] = self.attnpool.each(cells)
        return {name: found[name] for name in outputs}
