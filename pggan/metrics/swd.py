"""The sliced Wasserstein distance (SWD) between patches of images, for each level of a Laplacian pyramid.

Karras et al. 2018, section 5. Each level shows one scale of detail, from 16 pixels up to the full size; a small
distance means that two sets look similar at that scale. SWD uses no network, and does not recognize objects.

Shapes here: N images of H x W pixels, uint8 [N, H, W, 3]; P patches of 7 x 7 pixels, [P, 3, 49]. Levels are named by
their shorter side in pixels. Memory: 75 kB for each image and level of a set.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.randomness import Stream

IMAGES = 16_384  # of each set, as published
PATCHES = 128  # of each image at each level, as published
SIDE = 7  # pixels
COARSEST = 16  # pixels: the level at which the pyramid ends
DIRECTIONS = 4 * 128  # random projections; published as four rounds of 128
AT_ONCE = 16  # directions sorted at once
PIXELS = 2**20  # of the images whose pyramids are built at once
FLAT = 1e-3  # gray levels; a smaller standard deviation is rounding only
BINOMIAL = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16

Batches = Iterable[np.ndarray]


def sliced_distances(
    reals: Batches, fakes: Batches, patches: int = PATCHES, images: int = IMAGES, seed: int = 0
) -> dict[int, float]:
    """{level: distance, in units of a channel's standard deviation, times 1,000 as published}, finest level first.

    The two sets of images come in batches uint8 [N, H, W, 3], all of one size.

    The first `images` of each set are used: pass larger sets in random order. Patches of image i come from the same
    places in both sets, whatever the batches, so equal sets in equal order have distance 0. Of the set with more
    patches a random part is used. Published figures are of 16,384 images and 128 patches; compare only figures at the
    same numbers. Raises ValueError for no images, images below 16 x 16 pixels, or images of several sizes.
    """
    stream = Stream(seed)
    real, fake = (descriptors(batches, patches, images, stream) for batches in (reals, fakes))
    if real.keys() != fake.keys():
        raise ValueError(f"images with levels of {list(real)} px cannot be compared with {list(fake)} px")
    directions = _directions(stream)
    found = {}
    for level in list(real):
        pair = [_standardized(sets.pop(level)).flatten(1) for sets in (real, fake)]
        count = min(map(len, pair))
        found[level] = 1e3 * sliced_wasserstein(*(_part(each, count, stream) for each in pair), directions)
    return found


def descriptors(batches: Batches, patches: int, count: int, stream: Stream) -> dict[int, Tensor]:
    """{level: patches float32 [N * patches, 3, 49], in gray levels} of the first `count` images, finest level first."""
    found: dict[int, list[Tensor]] = {}
    taken, shape = 0, None
    for images in _pieces(batches, count):
        shape = shape or images.shape[1:]
        if images.shape[1:] != shape:
            raise ValueError(f"images are of several sizes: {list(shape[:2])} and {list(images.shape[1:3])}")
        for level in laplacian_pyramid(torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)):
            name = min(level.shape[2:])
            found.setdefault(name, []).append(_patches(level, patches, taken, stream))
        taken += len(images)
    if not taken:
        raise ValueError("there are no images to take patches of")
    return {name: torch.cat(found.pop(name)) for name in list(found)}


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """The levels of images [N, 3, H, W], finest first (Burt and Adelson 1983).

    A level is the image minus its half-size version enlarged again; the last level is the smallest image. Halving stops
    when a side is odd, or the shorter side would be below 16 px. Raises ValueError below 16 x 16 pixels.
    """
    if min(images.shape[2:]) < COARSEST:
        raise ValueError(f"images need at least {COARSEST} x {COARSEST} pixels, not {list(images.shape[2:])}")
    levels = []
    while all(side % 2 == 0 and side >= 2 * COARSEST for side in images.shape[2:]):
        smaller = smoothed(images, stride=2)
        levels.append(images - doubled(smaller))
        images = smaller
    return [*levels, images]


def smoothed(images: Tensor, stride: int = 1) -> Tensor:
    """Images [N, C, H, W] smoothed with 1-4-6-4-1, edges mirrored; every `stride`-th pixel of them."""
    kernel = torch.outer(BINOMIAL, BINOMIAL)[None, None]
    flat = F.pad(images.flatten(0, 1)[:, None], (2, 2, 2, 2), mode="reflect")  # one channel at a time
    return F.conv2d(flat, kernel, stride=stride).unflatten(0, images.shape[:2]).squeeze(2)


def doubled(images: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, 2H, 2W]: zeros between the pixels, smoothed with 1-4-6-4-1, times 4."""
    spread = images.new_zeros(*images.shape[:2], 2 * images.shape[2], 2 * images.shape[3])
    spread[:, :, ::2, ::2] = images
    return 4 * smoothed(spread)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: Tensor) -> float:
    """The mean over directions [K, D] of the Wasserstein-1 distance of the projections of a and b, [P, D] each.

    In one dimension it is the mean difference of the sorted values (Rabin et al. 2011, section 2).
    """
    total = 0.0
    for some in directions.split(AT_ONCE):
        one, other = (np.sort((some @ each.T).numpy(), axis=1) for each in (a, b))  # four times faster than torch
        total += float(np.abs(one - other).sum(dtype=np.float64))
    return total / (len(a) * len(directions))


def _pieces(batches: Batches, count: int) -> Iterator[np.ndarray]:
    """The first `count` images in batches small enough for a pyramid."""
    left = count
    for batch in batches:
        size = max(1, PIXELS // (batch.shape[1] * batch.shape[2]))
        taken = batch[:left]
        yield from (taken[start : start + size] for start in range(0, len(taken), size))
        left -= len(taken)
        if not left:
            return


def _patches(level: Tensor, patches: int, index: int, stream: Stream) -> Tensor:
    """[N * patches, 3, 49] of level [N, 3, h, w], from places that depend on (stream, level, image) alone.

    index: number of the first of these images in its set.
    """
    count, _, height, width = level.shape
    uniform = torch.from_numpy(stream.uniform(f"patches at {height}x{width}", index, count, 2 * patches))
    room = torch.tensor([height - SIDE + 1, width - SIDE + 1])  # possible places of a patch
    tops, lefts = (uniform.reshape(count, patches, 2) * room).long().unbind(dim=2)
    windows = level.unfold(2, SIDE, 1).unfold(3, SIDE, 1)  # (N, 3, h - 6, w - 6, 7, 7), a view
    return windows[torch.arange(count)[:, None], :, tops, lefts].reshape(count * patches, 3, SIDE * SIDE)


def _standardized(patches: Tensor) -> Tensor:
    """[P, 3, 49], in place: each channel with mean 0 and standard deviation 1 over the whole set."""
    deviation, mean = torch.std_mean(patches, dim=(0, 2), correction=0, keepdim=True)
    return patches.sub_(mean).div_(deviation.clamp(min=FLAT))


def _part(patches: Tensor, count: int, stream: Stream) -> Tensor:
    """`count` of the patches: all, or a random choice without replacement."""
    if count == len(patches):
        return patches
    source = np.random.Generator(np.random.Philox(key=stream.key(f"{count} of {len(patches)} patches")))
    return patches[torch.from_numpy(source.permutation(len(patches))[:count])]


def _directions(stream: Stream) -> Tensor:
    """[512, 147] of length 1, uniformly distributed over all directions."""
    return F.normalize(torch.from_numpy(stream.normal("directions", 0, DIRECTIONS, 3 * SIDE * SIDE)), dim=1)
