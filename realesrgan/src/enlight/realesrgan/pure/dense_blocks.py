"""The dense block of an RRDBNet with its arithmetic in another order.

As published, each of the five convolutions reads everything that came before it, so that inputs are laid side by side
again and again, and four of the five have 32 outputs, too few to fill a matrix unit. A convolution of things side by
side is the sum of the convolutions of each: here each thing is convolved once, as soon as it is there, for all that
will need it. The same products, added in another order; 192, 160, 128, 96 and 64 outputs instead of 32 and 64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

NEGATIVE_SLOPE = 0.2
RESIDUAL_SCALE = 0.2
CONVOLUTIONS = 5


class StackedDenseBlock(nn.Module):
    """Five 3x3 convolutions, of which each sees all results before it, around a skip connection.

    Args:
        weights: Of the published block: the k-th (from 0) is (O, F + k * G, 3, 3); O is G, and F for the last.
        biases: Of the same.
    """

    def __init__(self, weights: list[Tensor], biases: list[Tensor]) -> None:
        super().__init__()
        if len(weights) != CONVOLUTIONS or len(biases) != CONVOLUTIONS:
            raise ValueError(f"a dense block has {CONVOLUTIONS} convolutions")
        features, self.growth = weights[0].shape[1], weights[0].shape[0]
        bounds = [0, *(features + index * self.growth for index in range(CONVOLUTIONS))]
        for index in range(CONVOLUTIONS):
            stacked = torch.cat([weight[:, bounds[index] : bounds[index + 1]] for weight in weights[index:]])
            self.register_buffer(f"weight{index}", stacked.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", torch.cat(biases))

    def forward(self, features: Tensor) -> Tensor:
        """(N, F, H, W) to the same."""
        sums = functional.conv2d(features, self.weight0, self.bias, padding=1)
        for weight in (self.weight1, self.weight2, self.weight3, self.weight4):
            result = functional.leaky_relu(sums[:, : self.growth], NEGATIVE_SLOPE)
            sums = sums[:, self.growth :] + functional.conv2d(result, weight, padding=1)
        return torch.add(features, sums, alpha=RESIDUAL_SCALE)

    weight0: Tensor
    weight1: Tensor
    weight2: Tensor
    weight3: Tensor
    weight4: Tensor
    bias: Tensor


def stacked(dense_block: nn.Module) -> StackedDenseBlock:
    """The published block in the other order.

    Raises:
        ValueError: it has more or fewer than five convolutions.
    """
    convolutions = [module for module in dense_block.modules() if isinstance(module, nn.Conv2d)]
    biases = [convolution.bias for convolution in convolutions if convolution.bias is not None]
    return StackedDenseBlock([convolution.weight for convolution in convolutions], biases)
