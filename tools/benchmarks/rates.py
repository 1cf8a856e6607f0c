"""How fast this machine is at best: convolutions with the shapes of a resolution, and a large matrix product."""

import torch
import torch.nn.functional as F
from benchmarks.timing import measured

from pggan.config.schema import NetworkConfig

SIDE_CPU, SIDE = 1024, 8192  # of the square matrices
SECONDS, REPEAT = 0.5, 5  # for each shape in each memory format; the best window counts
FORMATS = (torch.channels_last, torch.contiguous_format)
Layer = tuple[int, int, int, int]  # resolution, feature maps, width, height


def layers(network: NetworkConfig, res: int) -> list[Layer]:
    """The 3x3 layers with most of the work at `res`: those up to `res` with at least half the FLOPs of the largest."""
    every = [
        (each, network.fmaps(network.level(each)), *network.size(each)) for each in network.resolutions() if each <= res
    ]
    most = max(map(flops, every))
    return [layer for layer in every if flops(layer) >= most / 2]


def flops(layer: Layer, batch: int = 1) -> int:
    """FLOPs of the forward pass of a 3x3 convolution between equally many maps; a multiply-add is two."""
    _, fmaps, width, height = layer
    return 2 * batch * fmaps * fmaps * 9 * width * height


@torch.no_grad()
def convolution_rates(
    network: NetworkConfig, res: int, batch: int, dtype: torch.dtype, device: torch.device, seconds: float = SECONDS
) -> dict[int, float]:
    """{resolution of the layer: FLOP/s} for each of `layers`: forward, in the faster memory format."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True  # the fastest of its algorithms
    try:
        return {
            layer[0]: max(_convolution(layer, batch, dtype, device, memory, seconds) for memory in FORMATS)
            for layer in layers(network, res)
        }
    finally:
        torch.backends.cudnn.benchmark = before


def _convolution(layer: Layer, batch: int, dtype: torch.dtype, device: torch.device, memory, seconds: float) -> float:
    _, fmaps, width, height = layer
    x = torch.randn(batch, fmaps, height, width, device=device).to(dtype, memory_format=memory)
    weight = torch.randn(fmaps, fmaps, 3, 3, device=device).to(dtype, memory_format=memory)
    windows, _ = measured(lambda: F.conv2d(x, weight, padding=1), device, seconds, REPEAT)
    return flops(layer, batch) / min(windows)


@torch.no_grad()
def matmul_rate(dtype: torch.dtype, device: torch.device, seconds: float = SECONDS) -> float:
    """FLOP/s of a product of large square matrices, with torch's current settings (TF32)."""
    side = SIDE_CPU if device.type == "cpu" else SIDE
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    windows, _ = measured(lambda: a @ b, device, seconds, REPEAT)
    return 2 * side**3 / min(windows)
