"""The heads on frozen features: what they see, in and after a fade, against slow versions and torch's own resizing."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from pggan.config.network import NetworkConfig
from pggan.models.archs import ARCHS
from pggan.models.feature_heads import SMALL_SIDE, FeatureHeads, Head, Resizing, matrix
from pggan.models.pretrained import NETWORKS

EACH_ARCH = pytest.mark.parametrize("arch", ARCHS)


def network(start: int = 16, top: int = 64, res: str = "64", **more: object) -> NetworkConfig:
    sizes = {"start_res": start, "max_res": top, "fmap_base": 256, "fmap_max": 8}
    return NetworkConfig(features="efficientnet-lite0", features_res=res, **sizes, **more)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(config: NetworkConfig, seed: int = 0) -> FeatureHeads:
    return FeatureHeads(config, seeded(seed)).eval()


def images(config: NetworkConfig, res: int, count: int = 4, seed: int = 5) -> Tensor:
    width, height = config.size(res)
    return torch.rand(count, 3, height, width, generator=seeded(seed)) * 2 - 1


def seen(heads: FeatureHeads, pictures: Tensor, alpha: float | Tensor) -> list[Tensor]:
    """What the frozen network and the head on the image get."""
    given = []
    hooks = [
        part.register_forward_pre_hook(lambda _, x: given.append(x[0])) for part in (heads.image_head, heads.frozen)
    ]
    with torch.no_grad():
        heads(pictures, alpha)
    for hook in hooks:
        hook.remove()
    return given


def sizes(config: NetworkConfig, shorter: float) -> tuple[int, int]:
    """(height, width) of images with the shape of --base and this shorter side."""
    width, height = config.grid()
    return round(height * shorter / min(width, height)), round(width * shorter / min(width, height))


def resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(pictures, size, mode="bilinear", antialias=True)


# ---- what they see


@settings(max_examples=40, deadline=None)
@given(side=st.integers(2, 100), to=st.integers(1, 140))
def test_a_row_is_resized_as_torch_does_it_with_antialiasing(side, to):
    row = torch.rand(1, 2, 3, side, generator=seeded())
    torch.testing.assert_close(row @ matrix(side, to).mT, resized(row, (3, to)), rtol=1e-5, atol=1e-6)


@EACH_ARCH
@pytest.mark.parametrize(("side", "to"), [(8, 64), (32, 64), (64, 64), (128, 64), (128, 96), (10, 16), (40, 35)])
def test_upsampling_of_the_arch_is_undone(arch, side, to):
    upsample = ARCHS[arch].upsample
    half = torch.rand(1, 3, side // 2, side // 2, generator=seeded())
    rows = matrix(side, to, ARCHS[arch])
    torch.testing.assert_close(rows @ upsample(half) @ rows.mT, resized(half, (to, to)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("base", "res", "to"),
    [("4x4", 16, "64"), ("4x4", 64, "96"), ("4x5", 32, "64"), ("5x4", 64, "70"), ("3x3", 48, "64")],
)
def test_away_from_fades_images_are_resized_as_torch_does_it(base, res, to):
    config = network(start=res, top=res, base=base, res=to)
    heads, pictures = make(config), images(config, res)
    small, large = seen(heads, pictures, 1.0)
    torch.testing.assert_close(large, resized(pictures, sizes(config, int(to))), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(small, resized(pictures, sizes(config, SMALL_SIDE)), rtol=1e-5, atol=1e-5)


@EACH_ARCH
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.9, torch.tensor(0.25)])
@pytest.mark.parametrize(("base", "res"), [("4x4", "64"), ("4x5", "64"), ("4x4", "16:64,32:96")])
def test_in_a_fade_they_see_the_old_images_and_alpha_of_the_new_ones(arch, alpha, base, res):
    """Both at the old size: the features of another size would be others from one step to the next."""
    config = network(arch=arch, base=base, res=res)
    heads = make(config)
    heads.grow()
    old = images(config, 16)
    new = ARCHS[arch].upsample(old)
    for found, shorter in zip(seen(heads, new, alpha), (SMALL_SIDE, 64), strict=True):
        size, a = sizes(config, shorter), float(alpha)
        expected = (1 - a) * resized(old, size) + a * resized(new, size)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


@EACH_ARCH
@pytest.mark.parametrize(
    ("base", "start", "res"),
    [
        ("4x4", 16, "64"),
        ("4x4", 64, "64"),
        ("4x5", 32, "64"),
        ("5x4", 8, "64"),
        ("4x4", 32, "32:64,64:96"),
        ("3x3", 12, "64"),
    ],
)
def test_at_alpha_0_the_logits_are_those_before_growth_to_rounding(arch, base, start, res):
    config = network(start, 4 * start, res, arch=arch, base=base)
    heads, pictures = make(config), images(config, start)
    with torch.no_grad():
        for res in (start, 2 * start):  # a second growth, after the first one's fade, is no other
            before = heads(pictures, 1.0)
            heads.grow()
            pictures = ARCHS[arch].upsample(pictures)
            after = heads(pictures, 0.0)
            assert heads.res == 2 * res and len(before) == len(after) == 5
            for old, new in zip(before, after, strict=True):
                assert old.shape == new.shape and float((new - old).abs().max()) < 3e-5 * float(old.abs().max())


def test_after_the_fade_the_size_is_that_of_the_new_resolution():
    config = network(res="16:64,32:96")
    heads = make(config)
    assert seen(heads, images(config, 16), 1.0)[1].shape[2:] == (64, 64)
    heads.grow()
    assert seen(heads, images(config, 32), 0.999)[1].shape[2:] == (64, 64)
    assert seen(heads, images(config, 32), 1.0)[1].shape[2:] == (96, 96)
    heads.grow()
    assert seen(heads, images(config, 64), 0.0)[1].shape[2:] == (96, 96)


@EACH_ARCH
@pytest.mark.parametrize("fading", [False, True])
def test_resizing_is_differentiable_in_images_and_alpha(arch, fading):
    resizing = Resizing(network(arch=arch, base="4x5"), 8, 6, fading).double()
    pictures = torch.rand(1, 3, 10, 8, dtype=torch.float64, generator=seeded(), requires_grad=True)
    alpha = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(resizing, (pictures, alpha))


# ---- features, mixed


def slow_mixed(maps: list[np.ndarray], mixes: list[np.ndarray], ups: list[np.ndarray]) -> list[np.ndarray]:
    """From the smallest map: each is mixed across channels, and gets the mixed map below, resized, added."""
    out = [None] * len(maps)
    for number in reversed(range(len(maps))):
        x = np.einsum("nihw,oi->nohw", maps[number], mixes[number])
        if number + 1 < len(maps):
            below = np.einsum("nihw,oi->nohw", out[number + 1], ups[number])
            rows, columns = (
                [place * below.shape[axis] // x.shape[axis] for place in range(x.shape[axis])] for axis in (2, 3)
            )
            x = x + below[:, :, rows][:, :, :, columns]
        out[number] = x
    return out


@pytest.mark.parametrize("base", ["4x4", "4x5"])
def test_maps_are_mixed_across_channels_and_from_the_smallest_to_the_largest(base):
    """4x5: maps of 2x3 and 4x5 pixels; the larger is not twice the smaller."""
    config = network(base=base)
    heads = make(config).double()
    pictures = images(config, 64, count=2).double()
    buffers = {name: value[:, :, 0, 0].numpy() for name, value in heads.named_buffers() if name[:2] in ("mi", "up")}
    mixes, ups = ([value for name, value in sorted(buffers.items()) if name.startswith(kind)] for kind in ("mix", "up"))
    expected = slow_mixed([maps.numpy() for maps in heads.frozen(pictures)], mixes, ups)
    for mine, other in zip(heads.mixed(pictures), expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), other, rtol=1e-9, atol=1e-9)


def test_a_projection_keeps_the_mean_square_of_independent_channels():
    heads = make(network())
    for number, fan in enumerate(NETWORKS["efficientnet-lite0"].channels):
        mix = getattr(heads, f"mix{number}")
        assert mix.shape == (min(16 << number, 64), fan, 1, 1)
        assert float(mix.square().sum(dim=1).mean()) == pytest.approx(1, abs=5 * (2 / mix.numel()) ** 0.5)


# ---- the heads themselves


@pytest.mark.parametrize("base", ["4x4", "4x5"])
def test_each_head_gives_an_image_a_logit_for_each_place_in_float32(base):
    config = network(base=base)
    logits = make(config)(images(config, 16, count=3))
    places = [16, 4, 4, 4, 4] if base == "4x4" else [20, 4, 4, 4, 6]
    assert [each.shape for each in logits] == [(3, count) for count in places]
    assert all(each.isfinite().all() and each.dtype == torch.float32 for each in logits)


@pytest.mark.parametrize("group", [0, 4])
def test_a_head_sees_an_image_and_the_variety_of_its_group(group):
    """Images i, i + N/4, i + 2N/4, i + 3N/4 are a group, also in a micro-batch."""
    head = Head(16, 1, group).eval().double()
    x = torch.randn(16, 16, 4, 4, dtype=torch.float64, generator=seeded())
    whole, other = head(x), x.clone()
    other[1] += 1
    changed = (head(other) - whole).abs().amax(dim=1) > 1e-9
    assert changed.nonzero().flatten().tolist() == ([1, 5, 9, 13] if group else [1])
    for number in range(4):
        torch.testing.assert_close(head(x.unflatten(0, (4, 4))[:, number]), whole.unflatten(0, (4, 4))[:, number])


def test_spectral_norm_brings_every_layer_to_a_norm_of_1():
    heads = make(network()).train()
    with torch.no_grad():
        for number in range(20):
            heads(images(heads.config, 16, seed=number))
    layers = [layer for layer in heads.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert len(layers) == 19
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_real_and_fake_images_that_alternate_are_judged_as_if_each_kind_came_alone(count, alpha):
    heads = make(network())
    heads.grow()
    heads.double()
    kinds = [images(heads.config, 32, count, seed).double() * (1 - 0.4 * seed) for seed in (0, 1)]
    both = heads(torch.stack(kinds, 1).flatten(0, 1), alpha, kinds=2)
    for number, kind in enumerate(kinds):
        for together, alone in zip(both, heads(kind, alpha), strict=True):
            torch.testing.assert_close(together[number::2], alone)


# ---- what is trained, saved and drawn


def test_only_the_heads_are_trained_and_the_random_projections_are_saved_with_them():
    heads = make(network())
    heads.grow()
    saved = heads.state_dict()
    assert all(name.startswith(("heads.", "image_head.")) for name, _ in heads.named_parameters())
    fixed = {name for name in saved if not name.startswith(("heads.", "image_head."))}
    assert fixed == {*(f"mix{n}" for n in range(4)), *(f"up{n}" for n in range(1, 4))}
    assert heads.newest() == set() and not any("frozen" in name for name, _ in heads.named_parameters())


def test_all_that_is_random_depends_on_the_generator_alone():
    torch.manual_seed(1)
    one, following = make(network(), seed=3), torch.rand(())
    torch.manual_seed(2)
    other = make(network(start=32, arch="style", latent=8), seed=3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(()), following)  # the global generator is where it was
    third = make(network(), seed=4)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
        constant = value.numel() < 2 or value.unique().numel() == 1
        assert constant or not torch.equal(value, third.state_dict()[name]), name


@cache
def weights_after(steps: int) -> dict[str, Tensor]:
    heads = make(network()).train()
    for number in range(steps):
        heads(images(heads.config, 16, seed=number))
    return heads.state_dict()


def test_what_is_saved_restores_the_heads_at_a_grown_resolution():
    heads = make(network(res="16:64,32:96"))
    heads.load_state_dict(weights_after(3))
    again = make(network(res="16:64,32:96"), seed=9)
    for each in (heads, again):
        each.grow()
    again.load_state_dict(heads.state_dict())
    pictures = images(heads.config, 32)
    for alpha in (0.0, 0.5, 1.0):
        assert all(torch.equal(*both) for both in zip(heads(pictures, alpha), again(pictures, alpha), strict=True))
