"""Augmentation that G does not learn: random changes to whatever D is shown, real or fake. Pure; nothing is drawn here.

The changes of Zhao et al. 2020 (DiffAugment: translation, cutout, color) and the flips and quarter turns of Karras et
al. 2020b (ADA, section 2.2 and appendix B). By the latter, a change that leaves enough pictures as they are does not
leak into the samples: what D sees of G then only agrees with what it sees of the reals if G itself agrees with them.
Hence p * strength is a probability for each piece and picture, and flips and turns are drawn from all of them, the
identity included. What a shift or a cutout uncovers is 0, mid-gray: D sees that it was changed, and where. Flips and
turns leave no such trace, so they are the first to leak (tests/test_augment_leak.py).

Order: color, flips, turn, shift, cutout. Values may leave [-1, 1]. Twice differentiable in the images. No step looks
at a value to decide anything, so nothing waits for a GPU and all of it can be one graph.

Scaling and rotation by any angle are left out: they blur or alias unless they are filtered, at several times the cost
of all of this; `--random-crop` shifts at no cost.
"""

import numpy as np
import torch
from torch import Tensor

from pggan.config.augmentation import Augmentation
from pggan.randomness import Stream

# Where a piece has its numbers in a row of draws: a coin, which says whether it is applied, and how.
FLIP, VFLIP, TURNS, TRANSLATION, CUTOUT, COLOR, DRAWS = 0, 2, 4, 6, 9, 12, 16
SHIFT = 0.125  # of each side: a shift is a whole number of pixels, at most this
CUT = 0.5  # of each side
BRIGHTNESS, SATURATION, CONTRAST = (-0.5, 0.5), (0.0, 2.0), (0.5, 1.5)


def augment_draws(stream: Stream, purpose: str, index: int, count: int, device: torch.device) -> Tensor:
    """float32 [count, DRAWS], uniform in [0, 1): those of the images index .. index + count - 1."""
    words = stream.words(purpose, index, count, DRAWS) >> np.uint64(40)  # 24 bits: rounding would give 1
    return torch.from_numpy(words.astype(np.float32) * np.float32(2.0**-24)).to(device, non_blocking=True)


def augment(images: Tensor, draws: Tensor, p: float | Tensor, pieces: Augmentation) -> Tensor:
    """The images, each changed as its own row of draws says. Its shape and type are those of `images`.

    images: [N, 3, H, W], nominally in [-1, 1]. draws: [N, DRAWS], uniform in [0, 1). p: in [0, 1], a number or a 0-d
    tensor. Pieces of strength 0 cost nothing. Raises ValueError for turns of pictures that are not square.
    """
    height, width = images.shape[2:]
    if pieces.turns and height != width:
        raise ValueError(f"pictures of {width}x{height} cannot be turned by a quarter")
    p = p if isinstance(p, Tensor) else draws.new_full((), p)
    keep = None  # [N, H, W], once something is uncovered

    if pieces.color:
        images = _recolored(images, draws[:, COLOR] < p * pieces.color, draws[:, COLOR + 1 : COLOR + 4])
    if pieces.flip or pieces.vflip or pieces.turns or pieces.translation:
        source, keep = _sources(height, width, draws, p, pieces)
        flat = images.flatten(2)  # [N, 3, H * W]
        images = flat.gather(2, source[:, None].expand_as(flat)).unflatten(2, (height, width))
    if pieces.cutout:
        kept = ~_hole(height, width, draws[:, CUTOUT] < p * pieces.cutout, draws[:, CUTOUT + 1 : CUTOUT + 3])
        keep = kept if keep is None else keep & kept
    return images if keep is None else torch.where(keep[:, None], images, 0.0)


def _recolored(images: Tensor, on: Tensor, draws: Tensor) -> Tensor:
    """Brightness (an offset), saturation (about each pixel's gray) and contrast (about the picture's mean), in turn.

    One affine map of each picture: elementwise, as a product of matrices may be rounded (TF32). on: [N]; draws: [N, 3].
    """
    ranges = zip(draws.T, (BRIGHTNESS, SATURATION, CONTRAST), (0.0, 1.0, 1.0), strict=True)
    values = [torch.where(on, low + (high - low) * draw, still) for draw, (low, high), still in ranges]
    brightness, saturation, contrast = (value.to(images.dtype).reshape(-1, 1, 1, 1) for value in values)
    gray = images.mean(dim=1, keepdim=True)  # [N, 1, H, W]
    mean = gray.mean(dim=(2, 3), keepdim=True)
    offset = brightness + (1 - contrast) * mean
    return contrast * saturation * images + (contrast * (1 - saturation) * gray + offset)


def _sources(height: int, width: int, draws: Tensor, p: Tensor, pieces: Augmentation) -> tuple[Tensor, Tensor | None]:
    """(for each pixel the number of the one it comes from, int64 [N, H * W]; which do come from within, [N, H, W]).

    Each number is there once: what a shift pushes out on one side comes in on the other, to be blanked. So the gradient
    has nothing to sum up. None: nothing is shifted.
    """
    rows, columns, inside = _shifted(height, width, draws, p * pieces.translation)
    upside, leftside = _chosen(draws, VFLIP, p * pieces.vflip, 2) == 1, _chosen(draws, FLIP, p * pieces.flip, 2) == 1
    if pieces.turns:  # counter-clockwise: pixel (row, column) of one quarter turn comes from (column, side - 1 - row)
        turns = _chosen(draws, TURNS, p * pieces.turns, 4)
        upside, leftside = upside ^ (turns >= 2), leftside ^ ((turns == 1) | (turns == 2))
        odd = (turns % 2 == 1)[:, None, None]
        rows, columns = torch.where(odd, columns, rows), torch.where(odd, rows, columns)
    rows = torch.where(upside[:, None, None], height - 1 - rows, rows)
    columns = torch.where(leftside[:, None, None], width - 1 - columns, columns)
    return (rows * width + columns).flatten(1), inside if pieces.translation else None


def _shifted(height: int, width: int, draws: Tensor, probability: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(source rows [N, H, 1], source columns [N, 1, W], which pixels come from within the picture [N, H, W])."""
    on, places, within = draws[:, TRANSLATION] < probability, [], []
    for axis, side in enumerate((height, width)):
        most = int(SHIFT * side + 0.5)
        shift = (draws[:, TRANSLATION + 1 + axis] * (2 * most + 1)).long() - most  # each from -most to most alike
        place = torch.arange(side, device=draws.device) - torch.where(on, shift, 0)[:, None]  # [N, side]
        place = place.unsqueeze(2 - axis)
        places.append(place % side)
        within.append((place >= 0) & (place < side))
    return *places, within[0] & within[1]


def _chosen(draws: Tensor, first: int, probability: Tensor, choices: int) -> Tensor:
    """int64 [N]: where a piece is applied, one of 0 .. choices - 1, each alike; else 0."""
    return torch.where(draws[:, first] < probability, (draws[:, first + 1] * choices).long(), 0)


def _hole(height: int, width: int, on: Tensor, draws: Tensor) -> Tensor:
    """bool [N, H, W]: what is cut out, CUT of each side about any pixel, as far as it lies within. draws: [N, 2]."""
    spans = []
    for draw, side in zip(draws.T, (height, width), strict=True):
        cut = int(CUT * side + 0.5)
        first = (draw * (side + 1 - cut % 2)).long()[:, None] - cut // 2
        place = torch.arange(side, device=draws.device)
        spans.append((place >= first) & (place < first + cut))  # [N, side]
    return on[:, None, None] & spans[0][:, :, None] & spans[1][:, None, :]
