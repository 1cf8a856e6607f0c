"""The archs in the growing frame: against slow versions, and what growth must not change."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.config.network import NetworkConfig
from pggan.config.schema import TrainingConfig
from pggan.evaluation.samples import draw
from pggan.models.archs import ARCHS
from pggan.models.archs.style import MAPPING_LR_MULTIPLIER
from pggan.models.layers import EqualizedConv2d, EqualizedLinear
from pggan.models.networks import CLAMP, Discriminator, Generator, Growing, fade_reals
from pggan.training import ema
from pggan.training.losses import LOSSES, discriminator_loss
from pggan.training.optimizer import adam, set_lr

PLAIN = {"critic_norm": "none", "stddev_group": 4}
KINDS = {
    "paper": {"arch": "paper", **PLAIN},
    "paper without stddev": {"arch": "paper", "stddev_group": 0},
    "style": {"arch": "style", **PLAIN},
    "style without stddev": {"arch": "style", "stddev_group": 0},
    "dcgan": {"arch": "dcgan", "critic_norm": "batch", "stddev_group": 0},
    "dcgan with stddev": {"arch": "dcgan", "critic_norm": "batch", "stddev_group": 4},
    "dcgan, no norm": {"arch": "dcgan", **PLAIN},
    "dcgan, layer norm": {"arch": "dcgan", "critic_norm": "layer", "stddev_group": 0},
    "dcgan, residual": {"arch": "dcgan", "critic_norm": "batch", "stddev_group": 0, "residual": True},
    "dcgan, residual, layer norm": {"arch": "dcgan", "critic_norm": "layer", "stddev_group": 0, "residual": True},
}
GRIDS = ["4x4", "3x3", "4x5"]
FIVE = ["paper", "style", "dcgan", "dcgan, residual", "dcgan, residual, layer norm"]
EACH = pytest.mark.parametrize("kind", KINDS)
# every kind on the usual grid, every arch on the others
KINDS_AND_GRIDS = [
    *((kind, "4x4") for kind in KINDS),
    *((kind, base) for kind in ("paper", "style", "dcgan, residual") for base in ("3x3", "4x5")),
]


def config(kind: str, base: str = "4x4", start: int | None = None, top: int | None = None, **more) -> NetworkConfig:
    """Narrow networks that run in milliseconds; fewer maps at higher resolutions; from the base grid up by default."""
    first = min(map(int, base.split("x")))
    sizes = {"start_res": start or first, "max_res": top or 4 * first}
    return NetworkConfig(**{"fmap_base": 64, "fmap_max": 6, "latent": 5, "base": base, **sizes, **KINDS[kind], **more})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def both(network: NetworkConfig, growths: int = 0, seed: int = 0) -> tuple[Generator, Discriminator]:
    pair = Generator(network, seeded(seed)), Discriminator(network, seeded(seed + 1))
    for one in pair:
        for _ in range(growths):
            one.grow(seeded(seed + 2))
    return pair


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def noise_for(G: Generator, count: int, seed: int = 5) -> torch.Tensor | None:
    return numbers(count, G.noise_size(), seed=seed) if G.noise_size() else None


def make_images(network: Growing, count: int, seed: int = 7) -> torch.Tensor:
    width, height = network.config.size(network.res)
    return numbers(count, 3, height, width, seed=seed)


@torch.no_grad()
def stirred(network: Growing, seed: int = 0, only: set[str] | None = None) -> Growing:
    """Changes what starts at 0 or 1 (biases, scales of norms, strengths of noise) to random values."""
    for name, parameter in network.named_parameters():
        if parameter.ndim < 2 and (only is None or name in only):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=seeded(seed + len(name))))
    return network


def arrays(network: Growing) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in network.named_parameters()}


# --- shapes and growth -------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(("kind", "base"), KINDS_AND_GRIDS)
def test_images_and_logits_have_their_shapes_at_every_resolution(kind, base):
    G, D = both(config(kind, base))
    for res in G.config.stages():
        if res > G.res:
            G.grow(), D.grow()
        width, height = G.config.size(res)
        image = G(numbers(4, 5), 0.5, noise_for(G, 4))
        assert image.shape == (4, 3, height, width) and image.dtype == torch.float32 and (G.res, D.res) == (res, res)
        assert D(image, 0.5).shape == (4,)
        assert torch.isfinite(image).all() and torch.isfinite(D(image)).all()


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "base", "start", "training"),
    [(kind, base, int(base != "4x4"), base == "4x4") for kind, base in KINDS_AND_GRIDS]
    + [(kind, "4x4", 1, False) for kind in KINDS if KINDS[kind].get("critic_norm") == "batch"],
)
def test_at_alpha_0_growth_has_changed_nothing_bit_for_bit(kind, base, start, training):
    """G and its average, with noise and without, and D; started at the base grid or above it, in either mode."""
    first = min(map(int, base.split("x")))
    G, D = both(config(kind, base, start=first << start, top=first << start + 2))
    average = copy.deepcopy(G).requires_grad_(False)
    stirred(G), stirred(D), stirred(average, seed=1)
    for network in (G, D, average):
        network.train(training)
    z = numbers(4, 5)
    for _ in range(2):
        noise = noise_for(G, 4)
        old = [net(z, 1.0, given) for net in (G, average) for given in (None, noise)]
        old_d = copy.deepcopy(D)
        G.grow(seeded(8)), D.grow(seeded(9)), ema.grow(average, G)
        stirred(G, only=G.newest()), stirred(D, only=D.newest())
        assert all(part.training == training for net in (G, D, average) for part in net.modules())
        more = noise if noise is None else torch.cat([noise, noise_for(G, 4, seed=6)[:, noise.shape[1] :]], dim=1)
        new = [net(z, 0.0, given) for net in (G, average) for given in (None, more)]
        for before, after in zip(old, new, strict=True):
            assert torch.equal(after, G.arch.upsample(before))
        image = make_images(D, 4)
        assert torch.equal(D(image, 0.0), old_d(D.arch.downsample(image)))


@torch.no_grad()
@pytest.mark.parametrize("kind", FIVE)
def test_alpha_1_is_another_network_and_alpha_moves_the_image_along_a_straight_line(kind):
    G, D = both(config(kind), growths=1)
    stirred(G), stirred(D)
    z, image = numbers(4, 5), make_images(D, 4)
    at = {alpha: G.double()(z.double(), alpha) for alpha in (0.0, 0.25, 0.7, 1.0)}
    assert (at[1.0] - at[0.0]).abs().max() > 1e-2
    for alpha, between in at.items():
        torch.testing.assert_close(between, at[0.0] + alpha * (at[1.0] - at[0.0]), rtol=0, atol=1e-12)
    logits = [D(image, alpha) for alpha in (0.0, 0.3, 0.6, 1.0)]
    assert all(not torch.allclose(a, b, rtol=1e-4, atol=1e-8) for a, b in pairwise(logits))


@torch.no_grad()
@pytest.mark.parametrize("kind", FIVE)
def test_the_first_stage_has_no_fade(kind):
    for start in (4, 8):
        G, D = both(config(kind, start=start))
        z, image = numbers(4, 5), make_images(D, 4)
        assert not G.grown and torch.equal(G(z, 0.0), G(z, 1.0)) and torch.equal(D(image, 0.0), D(image, 1.0))


@pytest.mark.parametrize("kind", FIVE)
def test_newest_names_all_that_the_last_growth_added_buffers_too(kind):
    for network in both(config(kind)):
        assert network.newest() == network.state_dict().keys()
        for res in (8, 16):
            before = network.state_dict().keys()
            network.grow()
            assert network.newest() == network.state_dict().keys() - before
            assert {name.split(".")[1] for name in network.newest()} == {str(res)}
            assert {name.split(".")[0] for name in network.newest()} == {"blocks", "rgb"}


@pytest.mark.parametrize("kind", FIVE)
def test_what_growth_keeps_it_leaves_as_it_was(kind):
    for network in both(config(kind)):
        for _ in range(2):
            before = copy.deepcopy(network.state_dict())
            network.grow()
            after = network.state_dict()
            assert all(torch.equal(before[name], after[name]) for name in before.keys() & after.keys())
            gone = {".".join(name.split(".")[:2]) for name in before.keys() - after.keys()}
            heads_stay = isinstance(network, Generator) and kind == "style"
            assert gone == (set() if heads_stay or network.res == 8 else {f"rgb.{network.res // 4}"})


def test_style_sums_the_heads_of_all_resolutions_and_the_others_keep_two():
    for kind in FIVE:
        G, D = both(config(kind, start=8, top=32), growths=2)
        assert list(G.rgb) == (["4", "8", "16", "32"] if kind == "style" else ["16", "32"])
        assert list(D.rgb) == ["16", "32"]


def test_the_paper_s_networks_keep_the_names_of_their_parameters():
    """Checkpoints are read by these names."""
    layers = {
        Generator: ["input.dense", "input.conv", "blocks.8.conv0", "blocks.8.conv1", "rgb.4", "rgb.8"],
        Discriminator: ["blocks.8.conv0", "blocks.8.conv1", "rgb.4", "rgb.8", "output.conv", "output.dense0"],
    }
    for network in both(config("paper"), growths=1):
        names = {f"{layer}.{what}" for layer in layers[type(network)] for what in ("weight", "bias")}
        more = {"input.bias"} if isinstance(network, Generator) else {"output.dense1.weight", "output.dense1.bias"}
        assert network.state_dict().keys() == (names | more) - {"input.dense.bias"}


@pytest.mark.parametrize(("kind", "growths"), [*((kind, 2) for kind in KINDS), *((kind, 0) for kind in FIVE)])
def test_gradients_reach_every_parameter(kind, growths):
    """With one exception: style's strength of noise gets none where there is no noise, and 0 stays 0 then."""
    G, D = both(config(kind), growths)
    stirred(G), stirred(D)
    D(G(numbers(8, 5), 0.3, noise_for(G, 8)), 0.3).square().sum().backward()
    for network in (G, D):
        reached = {name: p.grad.abs().max() for name, p in network.named_parameters() if p.grad is not None}
        assert reached.keys() == dict(network.named_parameters()).keys()
        largest = max(reached.values())
        weak = [name for name, size in reached.items() if not 1e-6 * largest < size]
        assert not weak, weak


def test_without_noise_only_its_strengths_get_no_gradient():
    G, _ = both(config("style"), 1)
    G(numbers(4, 5), 0.3).square().sum().backward()
    without = {name for name, parameter in G.named_parameters() if parameter.grad is None}
    assert without == {"input.conv.noise", "blocks.8.conv0.noise", "blocks.8.conv1.noise"}


@torch.no_grad()
@pytest.mark.parametrize("kind", FIVE)
def test_the_memory_format_changes_no_value(kind):
    for plain in both(config(kind), 2):
        last = copy.deepcopy(plain).to(memory_format=torch.channels_last).double()
        plain.double()
        given = (numbers(4, 5) if isinstance(plain, Generator) else make_images(plain, 4)).double()
        other = given.contiguous(memory_format=torch.channels_last) if given.ndim == 4 else given
        torch.testing.assert_close(last(other, 0.4), plain(given, 0.4), rtol=1e-12, atol=1e-12)


# --- how weights begin -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FIVE)
def test_weights_come_from_the_generator_of_numbers_that_is_given_and_from_nothing_else(kind):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, two, other = (both(config(kind), 2, seed) for seed in (1, 1, 20))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b, c in zip(one, two, other, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
        assert not any(torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True) if x.ndim > 1)


def assert_normal(name: str, value: torch.Tensor, mean: float, std: float) -> None:
    n = value.numel()
    assert abs(value.mean() - mean) < 5 * std / n**0.5, name
    assert abs(value.std() - std) < 5 * std / (2 * n) ** 0.5 or n == 1, name


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_dcgans_weights_begin_as_published(norm, residual):
    wide = config("dcgan", fmap_base=512, fmap_max=64, latent=64, critic_norm=norm, residual=residual)
    for network in both(wide, 1):
        for name, value in network.named_parameters():
            if name.endswith("bias"):
                assert not value.any(), name
            else:
                assert_normal(name, value.detach(), float(value.ndim == 1), 0.02)
        measures = any("running" in name for name in network.state_dict())
        assert measures == (isinstance(network, Generator) or norm == "batch")


def test_styles_weights_begin_as_published():
    for network in both(config("style", fmap_base=512, fmap_max=64, latent=64), 1):
        for name, value in network.named_parameters():
            if name.endswith("style.bias"):
                assert (value == 1).all(), name
            elif name.endswith(("bias", "noise")):
                assert not value.any(), name
            else:
                assert_normal(name, value.detach(), 0, 100 if name.startswith("input.dense") else 1)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_no_bias_stands_before_a_batch_norm_and_one_everywhere_else(norm):
    """Batch norm subtracts a bias again: its gradient would be rounding noise, which Adam turns into full steps."""
    G, D = both(config("dcgan, residual", critic_norm=norm), 1)
    convolutions = {"G.input.conv", "G.blocks.8.up", "G.blocks.8.conv", "D.blocks.8.down", "D.blocks.8.conv"}
    without = {
        f"{player}.{name}"
        for player, network in (("G", G), ("D", D))
        for name, part in network.named_modules()
        if hasattr(part, "kernel_size") and part.bias is None
    }
    assert without == {name for name in convolutions if name[0] == "G" or norm == "batch"}


# --- against slow versions ---------------------------------------------------------------------------------------

FADES = [(0, None), (1, 0.0), (1, 0.3), (1, 1.0), (2, 0.6)]
FADES_AND_GRIDS = [*((*fade, "4x5") for fade in FADES), (1, 0.3, "3x3"), (1, 0.3, "4x4")]


def slow_inputs(kind: str, base: str, growths: int, **more):
    """Both networks in float64, and the resolutions that they have been through."""
    G, D = both(config(kind, base, **more), growths)
    stirred(G).double(), stirred(D).double()
    return G, D, G.config.resolutions()[: growths + 1]


def assert_equal(ours: torch.Tensor, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("growths", "alpha", "base"), FADES_AND_GRIDS)
def test_style_equals_weights_of_its_own_for_each_image(growths, alpha, base):
    G, D, sizes = slow_inputs("style", base, growths)
    z, image = numbers(4, 5).double(), make_images(D, 8).double()
    for noise in (None, noise_for(G, 4).double()):
        theirs = reference.style_generator(
            arrays(G), z.numpy(), sizes, G.config.grid(), alpha, None if noise is None else noise.numpy()
        )
        assert_equal(G(z, 1.0 if alpha is None else alpha, noise), theirs)
    theirs = reference.style_discriminator(arrays(D), image.numpy(), sizes, alpha)
    assert_equal(D(image, 1.0 if alpha is None else alpha), theirs)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("growths", "alpha", "base"), FADES_AND_GRIDS)
def test_dcgan_generator_equals_the_reference(growths, alpha, residual, base):
    G, _, sizes = slow_inputs("dcgan", base, growths, residual=residual)
    z = numbers(4, 5).double()
    theirs = reference.dcgan_generator(arrays(G), z.numpy(), sizes, G.config.grid(), alpha, residual)
    assert_equal(G(z, 1.0 if alpha is None else alpha), theirs)


@pytest.mark.parametrize(
    ("growths", "alpha", "norm", "residual", "group"),
    [
        *((*fade, *kind) for fade in FADES for kind in (("none", False, 4), ("batch", True, 0), ("layer", False, 0))),
        *((1, 0.3, *kind) for kind in (("none", True, 0), ("batch", False, 4), ("layer", True, 4))),
    ],
)
def test_dcgan_discriminator_equals_the_reference(growths, alpha, residual, norm, group):
    base = "4x5" if residual else "3x3"
    _, D, sizes = slow_inputs("dcgan", base, growths, residual=residual, critic_norm=norm, stddev_group=group)
    image = make_images(D, 8).double()
    theirs = reference.dcgan_discriminator(arrays(D), image.numpy(), sizes, alpha, norm, residual, group)
    assert_equal(D(image, 1.0 if alpha is None else alpha), theirs)


@pytest.mark.parametrize("kind", ["paper", "style"])
def test_a_group_of_0_leaves_the_map_of_variety_out(kind):
    _, D, sizes = slow_inputs(f"{kind} without stddev", "4x4", 1)
    image = make_images(D, 5).double()
    slow = {"paper": reference.discriminator, "style": reference.style_discriminator}[kind]
    assert_equal(D(image, 0.3), slow(arrays(D), image.numpy(), sizes, 0.3, group=0))


@torch.no_grad()
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "stddev_group" in KINDS[kind]])
def test_a_image_s_logit_depends_on_others_only_through_stddev_and_batch_norm(kind):
    _, D = both(config(kind), 1)
    stirred(D).double()
    image = make_images(D, 8).double()
    other = image.clone()
    other[0] += 1
    changed = (~torch.isclose(D(image), D(other), rtol=1e-12, atol=0)).nonzero().flatten().tolist()
    alone, group, all_of_them = [0], [0, 2, 4, 6], list(range(8))
    norm, size = KINDS[kind].get("critic_norm"), KINDS[kind]["stddev_group"]
    assert changed == (all_of_them if norm == "batch" else group if size else alone)


@torch.no_grad()
def test_in_eval_dcgan_draws_each_image_by_itself():
    G, _ = both(config("dcgan"), 1)
    stirred(G)
    for _ in range(3):
        G(numbers(8, 5))
    z = numbers(4, 5, seed=1)
    assert not torch.allclose(G(z), torch.cat([G(z[:2]), G(z[2:])]))
    torch.testing.assert_close(G.eval()(z), torch.cat([G(row[None]) for row in z]))


@torch.no_grad()
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_dcgans_images_stay_within_1(seed):
    G, _ = both(config("dcgan, residual"), 1)
    for parameter in stirred(G, seed).parameters():
        parameter.mul_(3)
    image = G(10 * numbers(4, 5, seed=seed), seed % 100 / 99)
    assert image.abs().max() <= 1


# --- style -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_demodulation_gives_outputs_of_unit_size_whatever_the_style():
    conv = both(config("style", fmap_base=256, fmap_max=48, latent=16))[0].input.conv.conv
    x, w = numbers(2000, 48, 3, 3), numbers(1, 16, seed=1).expand(2000, -1)
    for strength in (1e-2, 1.0, 100.0):
        conv.style.bias.copy_(strength * numbers(48, seed=3))
        middle = conv(x, strength * w)[:, :, 1, 1]  # no edge of zeros in sight
        assert abs(middle.square().mean() - 1) < 0.02


@torch.no_grad()
def test_noise_is_without_effect_at_first_and_has_one_once_its_strength_is_learned():
    G, _ = both(config("style"), 1)
    z, noise = numbers(4, 5), noise_for(G, 4)
    assert torch.equal(G(z, 0.5, noise), G(z, 0.5))
    for name, parameter in G.named_parameters():
        if name.endswith("noise"):
            before = G(z, 0.5, noise)
            parameter.fill_(0.2)
            assert not torch.equal(G(z, 0.5, noise), before), name
    assert torch.equal(G(z, 0.5, 0 * noise), G(z, 0.5))


@torch.no_grad()
@pytest.mark.parametrize("base", GRIDS)
def test_noise_is_one_map_a_layer_lower_resolutions_first(base):
    """Each noise value changes the image at its own resolution and position."""
    G, _ = both(config("style", base), 1)
    stirred(G)
    width, height = G.config.grid()
    pixels = width * height
    assert G.noise_size() == 2 * pixels + 2 * 4 * pixels
    z, quiet = numbers(1, 5), torch.zeros(1, G.noise_size())

    def moved(place: int) -> list[int]:
        """The bounding box of the pixels that a noise value changes: top, left, bottom, right."""
        loud = quiet.clone()
        loud[0, place] = 1.0
        changed = (G(z, 1.0, loud) != G(z, 1.0, quiet)).any(dim=1)[0].nonzero()
        return [] if not len(changed) else [*changed.amin(dim=0).tolist(), *changed.amax(dim=0).tolist()]

    assert moved(pixels) == []  # the base has one layer, and leaves the second map alone
    corner = 2 * 4 * pixels + 2 * pixels - 1
    assert moved(corner) == [2 * height - 1, 2 * width - 1] * 2  # the last layer's last pixel
    assert moved(2 * pixels + 4 * pixels) == [0, 0, 0, 0]
    assert moved(2 * pixels) == [0, 0, 1, 1]  # one convolution later
    assert moved(0)[:2] == [0, 0] and moved(0)[2] > 1


@torch.no_grad()
def test_psi_pulls_the_styles_to_their_mean():
    G, _ = both(config("style", top=8), 1)
    w = G.project(numbers(64, 5))
    assert w.shape == (64, 5)
    mean = w.mean(dim=0)
    spread = [G.synthesize(mean + psi * (w - mean), 1.0).std(dim=0).mean().item() for psi in (0.0, 0.3, 0.7, 1.0)]
    assert spread[0] < 1e-6 < spread[1] < spread[2] < spread[3]
    images = {psi: draw(G, 1.0, 0, 32, psi).astype(float).std(axis=0).mean() for psi in (0.0, 0.5, 1.0)}
    assert images[0.0] == 0 < images[0.5] < images[1.0]


def test_only_the_direction_of_a_latent_matters_to_the_mapping():
    G, _ = both(config("style"))
    z = numbers(4, 5).double()
    torch.testing.assert_close(G.double().project(100 * z), G.project(z), rtol=1e-6, atol=1e-6)


def test_one_step_of_adam_moves_the_mapping_a_hundredth_as_far():
    G, _ = both(config("style"))
    layers = {name: part for name, part in G.named_modules() if isinstance(part, (EqualizedLinear, EqualizedConv2d))}

    def effective() -> dict[str, torch.Tensor]:
        """The weights and biases as the layers use them, times sqrt(fan_in)."""
        weights = {name: part.weight * part.scale * part.weight[0].numel() ** 0.5 for name, part in layers.items()}
        biases = {
            name + ".bias": part.bias * getattr(part, "lr_multiplier", 1)
            for name, part in layers.items()
            if part.bias is not None
        }
        return {name: value.detach().double() for name, value in {**weights, **biases}.items()}

    optimizer, before = adam(G, TrainingConfig()), effective()
    set_lr(optimizer, 1e-3, 1.0)
    G(numbers(4, 5), 1.0, noise_for(G, 4)).square().sum().backward()
    optimizer.step()
    for name, value in effective().items():
        gain = 2**0.5 if name in ("input.dense0", "input.dense1") else 1.0
        step = (value - before[name]).abs().median().item() / gain
        assert step == pytest.approx(1e-3 * (MAPPING_LR_MULTIPLIER if "dense" in name else 1), rel=1e-2), name
    assert MAPPING_LR_MULTIPLIER == 0.01 and "input.dense1.bias" in before


@torch.no_grad()
def test_reals_fade_by_the_filters_of_their_networks():
    image = numbers(2, 3, 8, 12).double()
    for name, arch in ARCHS.items():
        low, high = (
            (reference.fir_halve, reference.fir_double) if name == "style" else (reference.halve, reference.double)
        )
        assert_equal(fade_reals(image, 0.0, arch), high(low(image.numpy())))
        assert_equal(fade_reals(image, 0.3, arch), reference.lerp(high(low(image.numpy())), image.numpy(), 0.3))
        assert torch.equal(fade_reals(image, 1.0, arch), image)


# --- half precision ----------------------------------------------------------------------------------------------

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
EACH_HALF = pytest.mark.parametrize("half", HALVES)
EACH_KIND_AND_HALF = pytest.mark.parametrize(
    ("kind", "half"), [*((kind, "fp16") for kind in FIVE), ("paper", "bf16"), ("style", "bf16")]
)


def in_half(network: Growing, half: str) -> Growing:
    network.autocast_dtype = HALVES[half]
    return network


@torch.no_grad()
@EACH_KIND_AND_HALF
def test_in_half_precision_images_and_logits_are_float32_and_so_is_all_at_16_px_and_below(kind, half):
    G, D = (in_half(stirred(network), half) for network in both(config(kind, start=16, top=64), 2))
    entered, left = {}, {}

    def note(place: str, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        entered[place], left[place] = given[0].dtype, out.dtype

    for player, network in (("G", G), ("D", D)):
        for name, part in network.named_modules():
            if name in ("input", "output") or (name.count(".") == 1 and name.startswith(("blocks", "rgb"))):
                part.register_forward_hook(lambda _, *seen, place=f"{player}.{name}": note(place, *seen))
    image = G(numbers(4, 5), 0.5, noise_for(G, 4))
    assert image.dtype == D(image, 0.5).dtype == torch.float32
    whole = {"G.input", "D.output", *(f"{player}.blocks.{res}" for player in "GD" for res in (8, 16))}
    assert all(entered[place] == left[place] == torch.float32 for place in whole)
    assert all(left[place] == HALVES[half] for place in ("G.blocks.32", "G.blocks.64", "D.blocks.64", "D.blocks.32"))
    assert entered["D.blocks.64"] == entered["G.blocks.64"] == left["D.rgb.32"] == HALVES[half]


@torch.no_grad()
@EACH_KIND_AND_HALF
def test_in_half_precision_too_growth_changes_nothing_at_alpha_0(kind, half):
    """From 16 to 32 px, where half precision begins, and from 32 to 64."""
    G, D = (in_half(stirred(network), half) for network in both(config(kind, start=16, top=64)))
    z = numbers(4, 5)
    for _ in range(2):
        noise = noise_for(G, 4)
        before, old = G(z, 1.0, noise), copy.deepcopy(D)
        G.grow(seeded(8)), D.grow(seeded(9))
        stirred(G, only=G.newest()), stirred(D, only=D.newest())
        more = noise if noise is None else torch.cat([noise, noise_for(G, 4, seed=6)[:, noise.shape[1] :]], dim=1)
        after, image = G(z, 0.0, more), make_images(D, 4)
        assert after.dtype == torch.float32
        assert torch.equal(after, G.arch.upsample(before))
        assert torch.equal(D(image, 0.0), old(D.arch.downsample(image)))


@torch.no_grad()
@EACH_HALF
def test_in_half_precision_styles_and_demodulation_are_computed_in_full(half):
    """A rounded scale would be an error on all pixels of a map."""
    G = in_half(stirred(both(config("style", start=32, top=64), 1)[0]), half)
    dtypes = {}
    for name, part in G.named_modules():
        if name.endswith("style"):
            part.register_forward_hook(lambda _, given, out, name=name: dtypes.update({name: out.dtype}))
    G(numbers(4, 5))
    assert len(dtypes) == 14 and set(dtypes.values()) == {torch.float32}
    conv, w = G.blocks["64"].conv1.conv, G.project(numbers(4, 5))
    x = torch.ones(4, conv.style.weight.shape[0], 8, 8)
    with torch.autocast("cpu", dtype=HALVES[half]):
        ours = conv(1000 * x, w)  # by itself the output would be near float16's largest number
    scale = conv(1000 * x, w).abs().amax()
    torch.testing.assert_close(ours.float() / scale, conv(1000 * x, w) / scale, rtol=0, atol=2e-2)


@torch.no_grad()
@pytest.mark.parametrize("kind", FIVE)
def test_activations_in_float16_are_kept_far_from_its_largest_number(kind):
    _, D = both(
        config(kind, start=16, top=32, critic_norm="none" if "dcgan" in kind else KINDS[kind]["critic_norm"]), 1
    )
    in_half(D, "fp16")
    D.rgb["32"].register_forward_hook(lambda *_: seen.append(_[2].abs().max().item()))
    D.blocks["32"].register_forward_hook(lambda _, given, out: seen.append(given[0].abs().max().item()))
    seen = []
    logits = D(1e4 * make_images(D, 4))
    assert seen[0] > CLAMP >= seen[1] == 256 and torch.isfinite(logits).all()


def gradients(network: Growing, loss: torch.Tensor) -> torch.Tensor:
    network.zero_grad()
    loss.backward()
    return torch.cat(
        [parameter.grad.double().flatten() for parameter in network.parameters() if parameter.grad is not None]
    )


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


ALLOWED = {"bf16": 0.15, "fp16": 0.06}


@EACH_HALF
@pytest.mark.parametrize("kind", ["paper", "style", "dcgan, residual"])
def test_gradients_in_half_precision_are_near_those_of_float64(kind, half):
    """Relative error of G's gradient through D, and of D's with its penalties, in a fade from 16 px.

    The gradient of a penalty is a gradient of a gradient, rounded on both ways. Losses are scaled in float16, as
    training scales them.
    """
    norm = "layer" if "dcgan" in kind else "none"
    G, D = both(config(kind, start=16, top=32, fmap_base=512, fmap_max=16, latent=16, critic_norm=norm), 1)
    stirred(G), stirred(D)
    for parameter in [*G.parameters(), *D.parameters()] if "dcgan" in kind else []:
        parameter.data *= (
            5 if parameter.ndim > 1 else 1
        )  # a spread of 0.1, as after training; 0.02 hides all but biases
    exact, scale = [copy.deepcopy(network).double() for network in (G, D)], {"bf16": 1.0, "fp16": 2.0**10}[half]
    in_half(G, half), in_half(D, half)
    z, noise, reals, mix = numbers(4, 16), noise_for(G, 4), make_images(D, 4), torch.linspace(0, 1, 4)
    fakes = make_images(D, 4, seed=8)

    def directions(g: Generator, d: Discriminator, dtype: torch.dtype, scale: float) -> list[torch.Tensor]:
        own = [None if tensor is None else tensor.to(dtype) for tensor in (z, noise, reals, fakes, mix)]
        out = [gradients(g, -scale * d(g(own[0], 0.5, own[1]), 0.5).mean()) / scale]
        for loss in ("wgan-gp", "relativistic"):
            total, _ = discriminator_loss(LOSSES[loss], lambda x: d(x, 0.5), *own[2:], 1.0, 0.0, scale)
            out.append(gradients(d, scale * total) / scale)
        return out

    ours, theirs = directions(G, D, torch.float32, scale), directions(*exact, torch.float64, 1.0)
    errors = [relative_error(a, b) for a, b in zip(ours, theirs, strict=True)]
    assert max(errors) < ALLOWED[half], errors
