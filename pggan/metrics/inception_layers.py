"""The layers of the Inception network that FID reads pictures with, under the names that its published weights have.

TensorFlow's network of 2015 (Szegedy et al., arXiv 1512.00567), which differs from torchvision's: averages leave the
padding out, and the last block takes maxima. It holds the weights as they are published; `fuse` then shortens the way
to the same values: batch norm becomes part of the convolutions, and of the 1x1 convolutions that read the same input
one is made.

Shapes here: N pictures; everything between layers is [N, channels, height, width], in channels_last.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

CLASSES = 1008  # of the classifier behind the features, which is not computed here
ACROSS, DOWN = (1, 7), (7, 1)  # kernels, height first
FORK = {"a": (1, 3), "b": (3, 1)}  # two layers that read the same


def _a(pool: int) -> dict[str, list[tuple]]:  # 35 x 35
    deep = [(64, 1), (96, 3), (96, 3)]
    return {"branch1x1": [(64, 1)], "branch5x5": [(48, 1), (64, 5)], "branch3x3dbl": deep, "branch_pool": [(pool, 1)]}


def _c(narrow: int) -> dict[str, list[tuple]]:  # 17 x 17
    short = [(narrow, 1), (narrow, ACROSS), (192, DOWN)]
    long = [(narrow, 1), (narrow, DOWN), (narrow, ACROSS), (narrow, DOWN), (192, ACROSS)]
    return {"branch1x1": [(192, 1)], "branch7x7": short, "branch7x7dbl": long, "branch_pool": [(192, 1)]}


B = {"branch3x3": [(384, 3, 2)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3, 2)]}  # 35 x 35 -> 17 x 17
D = {  # 17 x 17 -> 8 x 8
    "branch3x3": [(192, 1), (320, 3, 2)],
    "branch7x7x3": [(192, 1), (192, ACROSS), (192, DOWN), (192, 3, 2)],
}
E = {  # 8 x 8
    "branch1x1": [(320, 1)],
    "branch3x3": [(384, 1), (384, FORK)],
    "branch3x3dbl": [(448, 1), (384, 3), (384, FORK)],
    "branch_pool": [(192, 1)],
}
MIXED = {  # by name: its branches, each a list of layers (outputs, kernel, stride), and what its pool does (see Mixed)
    "Mixed_5b": (_a(32), "mean"),
    "Mixed_5c": (_a(64), "mean"),
    "Mixed_5d": (_a(64), "mean"),
    "Mixed_6a": (B, "halve"),
    "Mixed_6b": (_c(128), "mean"),
    "Mixed_6c": (_c(160), "mean"),
    "Mixed_6d": (_c(160), "mean"),
    "Mixed_6e": (_c(192), "mean"),
    "Mixed_7a": (D, "halve"),
    "Mixed_7b": (E, "mean"),
    "Mixed_7c": (E, "max"),
}


class Layer(nn.Module):
    """Convolution with an odd kernel, batch norm, ReLU. padded: the size stays, as it does by default at stride 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple, stride: int = 1, padded: bool | None = None):
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if (stride == 1 if padded is None else padded) else 0
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def fuse(self) -> None:
        self.conv, self.bn = fuse_conv_bn_eval(self.conv, self.bn), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu_()


class Mixed(nn.Module):
    """Branches side by side, joined: [N, inputs, H, W] -> [N, outputs, H, W], or about half of H and W.

    pool: `mean`, `max`: branch_pool reads 3x3 averages (of what is there: no padding) or 3x3 maxima of the input;
    `halve`: 3x3 maxima at a stride of two are joined to the rest as they are.
    """

    def __init__(self, inputs: int, branches: dict[str, list[tuple]], pool: str):
        super().__init__()
        self.pool, self.outputs = pool, inputs if pool == "halve" else 0
        self.chains: dict[str, list[list[str]]] = {}  # by branch: the names of its layers, step by step
        for branch, steps in branches.items():
            self.chains[branch], width = [], inputs
            for number, (outputs, kernel, *stride) in enumerate(steps, 1):
                kernels = kernel if isinstance(kernel, dict) else {"": kernel}
                names = [branch if len(steps) == 1 else f"{branch}_{number}{letter}" for letter in kernels]
                for name, size in zip(names, kernels.values(), strict=True):
                    self.add_module(name, Layer(width, outputs, size, *stride))
                self.chains[branch].append(names)
                width = outputs
            self.outputs += width * len(names)

    def fuse(self) -> None:
        """Makes one convolution of the 1x1 ones that read the same input; their layers must be fused already.

        Averages are linear, as convolutions are, so the two may change places; maxima may not.
        """
        first = {branch: getattr(self, chain[0][0]).conv for branch, chain in self.chains.items()}
        together = {branch: layer for branch, layer in first.items() if layer.kernel_size == (1, 1)}
        if self.pool == "max":
            del together["branch_pool"]
        self.widths = {branch: layer.out_channels for branch, layer in together.items()}
        with torch.device("meta"):  # which draws no random numbers
            self.one = nn.Conv2d(next(iter(together.values())).in_channels, sum(self.widths.values()), 1)
        for part in ("weight", "bias"):
            whole = torch.cat([getattr(layer, part) for layer in together.values()])
            setattr(self.one, part, nn.Parameter(whole, requires_grad=False))
        for branch in together:
            delattr(self, self.chains[branch].pop(0)[0])

    def forward(self, x: Tensor) -> Tensor:
        starts = dict(zip(self.widths, self.one(x).split(list(self.widths.values()), dim=1), strict=True))
        if self.pool == "mean":
            starts["branch_pool"] = F.avg_pool2d(starts["branch_pool"], 3, 1, padding=1, count_include_pad=False)
        starts = {branch: part.relu() for branch, part in starts.items()}
        if self.pool == "max":
            starts["branch_pool"] = F.max_pool2d(x, 3, 1, padding=1)
        ends = [end for branch, chain in self.chains.items() for end in self._along(chain, starts.get(branch, x))]
        return torch.cat(ends if self.pool != "halve" else [*ends, F.max_pool2d(x, 3, 2)], dim=1)

    def _along(self, chain: list[list[str]], x: Tensor) -> list[Tensor]:
        """What a branch ends in: two results where its last step is a fork."""
        ends = [x]
        for names in chain:
            ends = [getattr(self, name)(ends[0]) for name in names]
        return ends


class Inception(nn.Module):
    """[N, 3, 299, 299] about -1 to 1 -> [N, 2048]. Holds weights as they are published; runs once it is fused."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Layer(3, 32, 3, stride=2)  # (N, 32, 149, 149)
        self.Conv2d_2a_3x3 = Layer(32, 32, 3, padded=False)  # (N, 32, 147, 147)
        self.Conv2d_2b_3x3 = Layer(32, 64, 3)  # (N, 64, 147, 147)
        self.Conv2d_3b_1x1 = Layer(64, 80, 1)  # (N, 80, 73, 73)
        self.Conv2d_4a_3x3 = Layer(80, 192, 3, padded=False)  # (N, 192, 71, 71)
        width = 192
        for name, (branches, pool) in MIXED.items():
            self.add_module(name, Mixed(width, branches, pool))
            width = getattr(self, name).outputs
        self.fc = nn.Linear(width, CLASSES)

    def fuse(self) -> None:
        """In float64, so that what comes out is the exact product, rounded once."""
        self.double()
        for kind in (Layer, Mixed):
            for module in [module for module in self.modules() if isinstance(module, kind)]:
                module.fuse()
        del self.fc
        self.float()

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)  # (N, 64, 73, 73)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)  # (N, 192, 35, 35)
        for name in MIXED:
            x = getattr(self, name)(x)  # up to (N, 2048, 8, 8)
        return x.mean(dim=(2, 3))
