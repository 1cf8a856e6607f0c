"""The random inputs of the networks, by position in the image stream: latents, and the noise maps of style."""

import torch

from pggan.randomness import Stream


def latents(stream: Stream, purpose: str, index: int, count: int, width: int, device: torch.device) -> torch.Tensor:
    """[count, width] ~ N(0, 1): the latents of the images index .. index + count - 1."""
    return torch.from_numpy(stream.normal(purpose, index, count, width)).to(device, non_blocking=True)


def noise_maps(
    stream: Stream, purpose: str, index: int, count: int, size: int, device: torch.device
) -> torch.Tensor | None:
    """[count, size] ~ N(0, 1), drawn on the device with one seed per image; None for a size of 0.

    A CPU and a GPU draw different numbers: copying a million of them to a GPU in every step would take too long.
    """
    if not size:
        return None
    maps, generator = torch.empty(count, size, device=device), torch.Generator(device)
    for row, word in zip(maps, stream.words(purpose, index, count, 1)[:, 0], strict=True):
        row.normal_(generator=generator.manual_seed(int(word) >> 1))
    return maps
