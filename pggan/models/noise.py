"""The random tensors that networks take, by place in the image stream: latents, and the noise maps of style."""

import torch

from pggan.randomness import Stream


def latents(stream: Stream, purpose: str, index: int, count: int, width: int, device: torch.device) -> torch.Tensor:
    """[count, width] ~ N(0, 1): the latents of the images index .. index + count - 1."""
    return torch.from_numpy(stream.normal(purpose, index, count, width)).to(device, non_blocking=True)


def noise_maps(
    stream: Stream, purpose: str, index: int, count: int, size: int, device: torch.device
) -> torch.Tensor | None:
    """[count, size] ~ N(0, 1), drawn on the device, a seed a picture; None for a size of 0.

    A million numbers a step are too many for the CPU to bring to a GPU, so devices of another kind draw other ones.
    """
    if not size:
        return None
    maps, source = torch.empty(count, size, device=device), torch.Generator(device)
    for row, word in zip(maps, stream.words(purpose, index, count, 1)[:, 0], strict=True):
        row.normal_(generator=source.manual_seed(int(word) >> 1))
    return maps
