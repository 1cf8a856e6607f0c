"""How fast this machine is at best: convolutions of the shapes that a resolution is made of, and a large product."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from benchmarks.timing import measured
from pggan.config.schema import NetworkConfig

SIDE_CPU, SIDE = 1024, 8192  # of the square matrices
SECONDS, REPEAT = 0.5, 5  # of each shape in each memory format, whose best window counts
FORMATS = (torch.channels_last, torch.contiguous_format)


def layers(network: NetworkConfig, res: int) -> list[tuple[int, int, int, int]]:
    """(resolution, feature maps, width, height) of the 3x3 layers that most of the work at `res` is in.

    Of those at each resolution on the way, all that have at least half the FLOPs of the largest.
    """
    every = [
        (rung, network.fmaps(network.level(rung)), *network.size(rung)) for rung in network.resolutions() if rung <= res
    ]
    most = max(map(flops, every))
    return [layer for layer in every if flops(layer) >= most / 2]


def flops(layer: tuple[int, int, int, int], batch: int = 1) -> int:
    """Of the forward pass: two for each product, 3x3 weights between as many maps."""
    _, fmaps, width, height = layer
    return 2 * batch * fmaps * fmaps * 9 * width * height


@torch.no_grad()
def convolution_rates(
    network: NetworkConfig, res: int, batch: int, dtype: torch.dtype, device: torch.device, seconds: float = SECONDS
) -> dict[int, float]:
    """{resolution of the layer: FLOP/s} of each of `layers`, forward, in the better memory format."""
    with quickest_convolutions():
        return {
            layer[0]: max(_convolution(layer, batch, dtype, device, memory, seconds) for memory in FORMATS)
            for layer in layers(network, res)
        }


def _convolution(layer, batch: int, dtype: torch.dtype, device: torch.device, memory, seconds: float) -> float:
    _, fmaps, width, height = layer
    x = torch.randn(batch, fmaps, height, width, device=device).to(dtype, memory_format=memory)
    weight = torch.randn(fmaps, fmaps, 3, 3, device=device).to(dtype, memory_format=memory)
    taken = measured(lambda: F.conv2d(x, weight, padding=1), device, seconds, REPEAT)
    return flops(layer, batch) / min(taken.windows)


@torch.no_grad()
def matmul_rate(dtype: torch.dtype, device: torch.device, seconds: float = SECONDS, side: int | None = None) -> float:
    """FLOP/s of a product of large square matrices, with torch's settings (TF32) as they are."""
    side = side or (SIDE_CPU if device.type == "cpu" else SIDE)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    taken = measured(lambda: a @ b, device, seconds, REPEAT)
    return 2 * side**3 / min(taken.windows)


@contextlib.contextmanager
def quickest_convolutions() -> Iterator[None]:
    """cuDNN tries all it has and takes the quickest."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
