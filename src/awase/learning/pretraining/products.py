"""The last blocks of an EfficientNet-lite as matrix products: the same weights and results, for training on a CPU.

torch runs a depthwise convolution forwards at full speed there, but its backward pass takes 15 times as long as all the
rest of the block. On a small map the convolution of one channel is a product with a (P, Q) matrix, P cells in and Q
out, that repeats the kernel's K numbers (a Toeplitz matrix). Products are fast both ways, most of all in bfloat16."""

# mypy: disable-error-code="no-any-return"
# (to the type checker, calling a torch module gives Any)

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from awase.encoding.towers.efficientnet import EfficientNetLite, InvertedResidual, SameConv
from awase.errors import UsageError


def taps(side: int, kernel: int, stride: int) -> Tensor:
    """(K, P, Q) of zeros and ones: which of K = kernel^2 numbers joins each cell in with each cell out, under
    TensorFlow's "SAME" padding; P = side^2, Q = ceil(side / stride)^2."""
    out = -(-side // stride)
    before = max((out - 1) * stride + kernel - side, 0) // 2
    first = torch.arange(out) * stride - before
    along = torch.arange(side)[None, :, None] == first + torch.arange(kernel)[:, None, None]  # (kernel, in, out)
    both = along[:, None, :, None, :, None] & along[None, :, None, :, None, :]  # rows and columns of each
    return both.reshape(kernel**2, side**2, out**2).float()


def pointwise(x: Tensor, conv: SameConv) -> Tensor:
    """A 1 x 1 convolution of (B, P, C)."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def depthwise(x: Tensor, conv: SameConv, joined: Tensor) -> Tensor:
    """A depthwise convolution of (B, P, C) -> (B, Q, C), given its `taps`."""
    kernels = conv.weight.flatten(1) @ joined.flatten(1)  # (C, P * Q)
    y = torch.bmm(x.permute(2, 0, 1), kernels.view(-1, *joined.shape[1:])).permute(1, 2, 0)
    return y if conv.bias is None else y + conv.bias


def twins_of(tower: EfficientNetLite) -> tuple[list[InvertedResidual], SameConv]:
    """The twins of a tower's last blocks, and of its top."""
    if tower.tuned_top is None:
        raise UsageError("this tower has no twins of its last blocks to train; see families.EfficientNetLite.twins")
    return cast(list[InvertedResidual], list(tower.tuned.values())), tower.tuned_top


class LastBlocks(nn.Module):
    """A tower's last blocks and its top, which stay the tower's own: training these trains the tower.

    Maps (B, P, C) as the first of the blocks takes them, `side` cells wide -> pooled features (B, F)."""

    def __init__(self, blocks: Sequence[InvertedResidual], top: SameConv, side: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.top = top
        for i, block in enumerate(self.rows):
            stride, kernel = block.depthwise.stride[0], block.depthwise.kernel_size[0]
            self.register_buffer(f"taps{i}", taps(side, kernel, stride), persistent=False)
            side = -(-side // stride)

    @property
    def rows(self) -> list[InvertedResidual]:
        return cast(list[InvertedResidual], list(self.blocks))

    def forward(self, maps: Tensor) -> Tensor:
        x = maps
        for i, block in enumerate(self.rows):
            y = x if block.expand is None else F.relu6(pointwise(x, block.expand))
            y = F.relu6(depthwise(y, block.depthwise, self.get_buffer(f"taps{i}").to(y.dtype)))
            y = pointwise(y, block.project)
            x = x + y if block.residual else y
        return F.relu6(pointwise(x, self.top)).float().mean(1)
