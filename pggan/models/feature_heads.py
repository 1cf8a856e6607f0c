"""Discriminators on the features of a frozen network: Projected GAN (Sauer et al. 2021, arXiv 2111.01007).

The feature maps are mixed across channels and scales by random 1x1 convolutions that are never trained (section 3.2).
A small discriminator, called a head, judges each of the mixed maps. Unlike there, each head sees how varied the batch
is (minibatch stddev), and one more head sees the image itself at 16 px, because features tell little about colors.
There is no batch norm, which hides how bright a whole batch is: with it, images of the style networks leave [-1, 1]
(LOG.md, 2026-11-29).

Shapes: N images, C channels. An image is [N, 3, H, W], nominally in [-1, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from pggan.config.network import NetworkConfig
from pggan.models.archs import ARCHS
from pggan.models.archs.arch import Arch
from pggan.models.layers import LEAK, Rng, minibatch_stddev
from pggan.models.pretrained import NETWORKS, open_network

FEWEST_MAPS = 16  # channels of the largest mixed map; each smaller map has twice as many, up to MOST_MAPS
MOST_MAPS = 64
IMAGE_MAPS, SMALL_SIDE = 32, 16  # of the head that sees the image: its first maps, and the pixels of the image


class FeatureHeads(nn.Module):
    """heads(images, alpha, kinds): images [N, 3, H, W] to the logits of each head, a list of [N, K]; higher: more real.

    kinds: 2 if real and fake images alternate; then the variety of each kind is measured as if it came alone. The
    images of a kind must then divide into groups of minibatch stddev.
    The heads do not grow, but grow() tells them the resolution of the images. At alpha 0 of a fade they see the images
    that they saw before, up to rounding: the upsampling of the arch is undone. Images are resized to `--features-res`;
    during a fade, that is still the value of the resolution before.
    `autocast_dtype` is the dtype of all but the logits, None for float32.
    Raises UserError if the weights of the network cannot be found.
    """

    def __init__(self, config: NetworkConfig, rng: Rng = None):
        super().__init__()
        self.config, self.autocast_dtype = config, None
        self.frozen = open_network(config.features)
        channels = NETWORKS[config.features].channels
        widths = [min(FEWEST_MAPS << number, MOST_MAPS) for number in range(len(channels))]  # of the mixed maps
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
            for number, (fan, out) in enumerate(zip(channels, widths, strict=True)):
                self.register_buffer(f"mix{number}", torch.randn(out, fan, 1, 1) / fan**0.5)
                if number:
                    self.register_buffer(f"up{number}", torch.randn(widths[number - 1], out, 1, 1) / out**0.5)
            group, last = config.stddev_group, len(widths) - 1
            self.heads = nn.ModuleList(Head(width, last - number, group) for number, width in enumerate(widths))
            self.image_head = Head(IMAGE_MAPS, 2, group, _convolution(3, IMAGE_MAPS, 3, 1), nn.LeakyReLU(LEAK))
        self.set_resolution(config.stages()[0])

    def grow(self, rng: Rng = None) -> None:
        """Goes on with images of twice the resolution."""
        self.set_resolution(2 * self.res)

    def newest(self) -> set[str]:
        """Names of the parameters that the last grow() added: none."""
        return set()

    def set_resolution(self, res: int) -> None:
        """Goes on with images of resolution `res`."""
        self.res, size = res, self.config.features_res
        sides = {False: size.at(res)}
        if res > self.config.stages()[0]:
            sides[True] = size.at(res // 2)
        for fading, side in sides.items():
            pair = nn.ModuleList(Resizing(self.config, res, to, fading) for to in (side, SMALL_SIDE))
            setattr(self, "fading_resizing" if fading else "resizing", pair.to(self.mix0.device))

    def forward(self, images: Tensor, alpha: float | Tensor = 1.0, kinds: int = 1) -> list[Tensor]:
        fading = isinstance(alpha, Tensor) or alpha < 1  # as in networks.py: the value of a tensor is not read
        pair = self.fading_resizing if fading else self.resizing
        large, small = (resize(images, alpha) for resize in pair)
        with torch.autocast(images.device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
            by_image, maps = self.image_head(small, kinds), self.mixed(large)
            return [by_image, *(head(x, kinds) for head, x in zip(self.heads, maps, strict=True))]

    def mixed(self, images: Tensor) -> list[Tensor]:
        """The mixed feature maps [N, C, H', W'] of images that have the size `--features-res`, largest map first."""
        maps, out, below = self.frozen(images), [], None
        for number in reversed(range(len(maps))):
            x = F.conv2d(maps[number], getattr(self, f"mix{number}"))
            if below is not None:
                x = x + F.interpolate(below, x.shape[2:], mode="nearest")
            out.insert(0, x)
            below = F.conv2d(x, getattr(self, f"up{number}")) if number else None
        return out


class Head(nn.Module):
    """Feature maps [N, C, H, W] -> logits [N, K], one for each of K places.

    The layers `first`, `halvings` convolutions of stride 2, minibatch stddev over `group` images (0: none), and two
    more convolutions. channels: C, or the output of `first`.
    """

    def __init__(self, channels: int, halvings: int, group: int, *first: nn.Module):
        super().__init__()
        self.group, layers = group, [*first]
        for _ in range(halvings):
            layers += _layer(channels, min(2 * channels, MOST_MAPS), 4, 2)
            channels = min(2 * channels, MOST_MAPS)
        self.halve = nn.Sequential(*layers)
        last = _layer(channels + (group > 0), MOST_MAPS, 3, 1)
        self.judge = nn.Sequential(*last, _convolution(MOST_MAPS, 1, 1, 1))

    def forward(self, x: Tensor, kinds: int = 1) -> Tensor:
        x = self.halve(x)
        x = minibatch_stddev(x, min(self.group, len(x) // kinds)) if self.group else x  # a group is of one kind
        return self.judge(x).flatten(1).float()  # (N, K)


def _layer(fan: int, out: int, kernel: int, stride: int) -> list[nn.Module]:
    return [_convolution(fan, out, kernel, stride), nn.LeakyReLU(LEAK)]


def _convolution(fan: int, out: int, kernel: int, stride: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(fan, out, kernel, stride, padding=(kernel - 1) // 2))


class Resizing(nn.Module):
    """Images of resolution `res` -> images of resolution `to`: bilinear, with antialiasing. Differentiable.

    fading: blends them with the images of the resolution before, which are all that `alpha` 0 shows.
    """

    def __init__(self, config: NetworkConfig, res: int, to: float, fading: bool):
        super().__init__()
        self.fading, arch, base = fading, ARCHS[config.arch], min(config.grid())
        for axis, factor in zip(("columns", "rows"), config.grid(), strict=True):
            now, then = factor * res // base, round(factor * to / base)
            self.register_buffer(axis, matrix(now, then), persistent=False)
            if fading:
                self.register_buffer(f"lower_{axis}", matrix(now, then, arch), persistent=False)

    def forward(self, images: Tensor, alpha: float | Tensor) -> Tensor:
        full = self.rows @ images @ self.columns.mT  # (N, 3, H', W')
        if self.fading:
            full = torch.lerp(self.lower_rows @ images @ self.lower_columns.mT, full, alpha)
        return full.contiguous(memory_format=torch.channels_last)


def matrix(side: int, to: int, arch: Arch | None = None) -> Tensor:
    """[to, side]: resizes a row of `side` pixels. arch: of a row that it has upsampled, which is undone first."""
    if arch is None:
        return F.interpolate(torch.eye(side)[None, None], (to, side), mode="bilinear", antialias=True)[0, 0]
    half = side // 2
    doubled = arch.upsample(torch.eye(half)[None, :, :, None])[0, :, :, 0].mT  # (side, half)
    return (matrix(half, to).double() @ torch.linalg.pinv(doubled.double())).float()
