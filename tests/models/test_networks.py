"""The networks against the paper's table, and growth: nothing changes at alpha 0."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import reference
import torch

from pggan.config.network import NetworkConfig
from pggan.config.presets import preset
from pggan.models.layers import downsample, upsample
from pggan.models.networks import Discriminator, Generator, Growing

CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}
NETWORKS = [Generator, Discriminator]


def small(start: int = 4, top: int = 256, base: str = "4x4", fmap_base: int = 256) -> NetworkConfig:
    """Narrow networks that run in milliseconds, with fewer maps at higher resolutions."""
    return NetworkConfig(start_res=start, max_res=top, base=base, fmap_base=fmap_base, fmap_max=6, latent=5)


def paper(res: int) -> NetworkConfig:
    return replace(preset("paper").network, start_res=res, max_res=max(res, 256))


def paper_network(kind: type[Growing], res: int) -> Growing:
    with torch.device("meta"):  # shapes without numbers: 23 million of them are slow to draw
        return kind(paper(res))


def stirred(network: Growing, seed: int = 0) -> Growing:
    """The network in float64, with biases that are not zero."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.double().parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
    return network


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def make_images(config: NetworkConfig, res: int, count: int = 8) -> torch.Tensor:
    width, height = config.size(res)
    return noise(count, 3, height, width, seed=res)


def arrays(network: Growing) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in network.named_parameters()}


def count(network: Growing) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- the paper's table -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("res", CHANNELS)
def test_paper_channels_at_every_resolution(res):
    assert reference.channels(res) == CHANNELS[res]
    G, D = paper_network(Generator, res), paper_network(Discriminator, res)
    assert G.rgb[str(res)].weight.shape == (3, CHANNELS[res], 1, 1)
    assert D.rgb[str(res)].weight.shape == (CHANNELS[res], 3, 1, 1)
    for size in reference.doublings(8, res):
        here, below = CHANNELS[size], CHANNELS[size // 2]
        assert G.blocks[str(size)].conv0.weight.shape == (here, below, 3, 3)
        assert G.blocks[str(size)].conv1.weight.shape == (here, here, 3, 3)
        assert D.blocks[str(size)].conv0.weight.shape == (here, here, 3, 3)
        assert D.blocks[str(size)].conv1.weight.shape == (below, here, 3, 3)


def test_paper_base_blocks_have_the_published_shapes():
    G, D = paper_network(Generator, 4), paper_network(Discriminator, 4)
    assert G.input.dense.weight.shape == (512 * 16, 512) and G.input.dense.bias is None
    assert G.input.bias.shape == (512,) and G.input.conv.weight.shape == (512, 512, 3, 3)
    assert D.output.conv.weight.shape == (512, 513, 3, 3) and D.output.group == 4
    assert D.output.dense0.weight.shape == (512, 512 * 16) and D.output.dense1.weight.shape == (1, 512)


def test_the_hidden_dense_layer_of_the_discriminator_is_one_step_up_the_formula_for_channels():
    network = NetworkConfig(start_res=4, max_res=8, fmap_base=24, fmap_max=512, latent=4)
    output = Discriminator(network).output  # 24 / 2 maps at 4 px, and 24 / 1 hidden units
    assert output.dense0.weight.shape == (24, 12 * 16) and output.dense1.weight.shape == (1, 24)


@pytest.mark.parametrize("res", CHANNELS)
def test_paper_parameter_counts_equal_those_of_the_table(res):
    assert count(paper_network(Generator, res)) == reference.generator_count(res)
    assert count(paper_network(Discriminator, res)) == reference.discriminator_count(res)


def test_paper_networks_at_1024_have_the_known_23_1_million_parameters_each():
    assert round(reference.generator_count(1024) / 1e6, 1) == 23.1
    assert round(reference.discriminator_count(1024) / 1e6, 1) == 23.1


def test_in_a_fade_two_rgb_layers_are_there_and_no_more():
    with torch.device("meta"):
        G, D = Generator(paper(512)), Discriminator(paper(512))
        G.grow()
        D.grow()
    assert count(G) == reference.generator_count(1024, rgb_layers=2)
    assert count(D) == reference.discriminator_count(1024, rgb_layers=2)


@pytest.mark.parametrize("kind", NETWORKS)
def test_all_weights_start_standard_normal_and_all_biases_at_zero(kind):
    network = kind(NetworkConfig(start_res=16, max_res=32, fmap_base=512, fmap_max=48, latent=64))
    network.grow()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        else:
            n = parameter.numel()
            assert abs(parameter.mean()) < 5 / n**0.5 and abs(parameter.std() - 1) < 5 / (2 * n) ** 0.5, name


@pytest.mark.parametrize("kind", NETWORKS)
def test_gains_are_root_two_but_for_the_layers_the_paper_names(kind):
    network = paper_network(kind, 64)
    own = {"input.dense": 2**0.5 / 4, "output.dense1": 1.0, **({"rgb.64": 1.0} if kind is Generator else {})}
    layers = {name: layer for name, layer in network.named_modules() if hasattr(layer, "scale")}
    assert len(layers) == (11 if kind is Generator else 12)
    for name, layer in layers.items():
        fan_in = math.prod(layer.weight.shape[1:])
        assert layer.scale == pytest.approx(own.get(name, 2**0.5) / fan_in**0.5), name


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_same_generator_of_numbers_gives_the_same_weights(kind):
    one, two, other = (kind(small(8), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


# --- whole networks against the reference ------------------------------------------------------------------------

GRIDS = ["4x4", "3x3", "4x5"]
FADES = [(0, 1.0), (1, 0.0), (1, 0.3), (1, 1.0), (2, 0.0), (2, 0.3), (2, 1.0)]
GROWN = [*((*fade, "4x5") for fade in FADES), (2, 0.3, "3x3"), (2, 0.3, "4x4")]


def grown(kind: type[Growing], base: str, growths: int) -> tuple[Growing, list[int]]:
    """The network and the resolutions it has been through, base first."""
    first = min(map(int, base.split("x")))
    network = kind(small(first, first * 4, base, fmap_base=24))
    for _ in range(growths):
        network.grow()
    return stirred(network), [first << level for level in range(growths + 1)]


@pytest.mark.parametrize(("growths", "alpha", "base"), GROWN)
def test_generator_equals_the_reference(base, growths, alpha):
    G, sizes = grown(Generator, base, growths)
    z = noise(8, 5)
    fade = alpha if growths else None
    theirs = reference.generator(arrays(G), z.numpy(), sizes, G.config.grid(), fade)
    np.testing.assert_allclose(G(z, alpha).detach().numpy(), theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("growths", "alpha", "base"), GROWN)
def test_discriminator_equals_the_reference(base, growths, alpha):
    D, sizes = grown(Discriminator, base, growths)
    image = make_images(D.config, sizes[-1])
    theirs = reference.discriminator(arrays(D), image.numpy(), sizes, alpha if growths else None)
    np.testing.assert_allclose(D(image, alpha).detach().numpy(), theirs, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("base", GRIDS)
def test_images_have_the_size_of_the_ladder(base):
    G, sizes = grown(Generator, base, 2)
    width, height = map(int, base.split("x"))
    assert G(noise(2, 5)).shape == (2, 3, 4 * height, 4 * width) and G.res == sizes[-1]


def test_to_rgb_is_linear():
    G = stirred(Generator(small(8)))
    z, before = noise(4, 5), None
    with torch.no_grad():
        G.rgb["8"].bias.zero_()
        before = G(z)
        G.rgb["8"].weight *= 1000
    torch.testing.assert_close(G(z), before * 1000)


def test_only_the_direction_of_a_latent_matters():
    G, z = stirred(Generator(small(8))), noise(4, 5)
    torch.testing.assert_close(G(z), G(100 * z), rtol=1e-6, atol=1e-6)


def test_projecting_and_synthesizing_is_generating():
    G, z = stirred(Generator(small(8))), noise(4, 5)
    assert torch.equal(G.synthesize(G.project(z)), G(z))


def test_minibatch_stddev_stands_at_the_base_grid_and_nowhere_else(monkeypatch):
    seen = []
    real = reference.minibatch_stddev

    def spy(x, group):
        seen.append((tuple(x.shape), group))
        return torch.from_numpy(real(x.numpy(), group))

    monkeypatch.setattr("pggan.models.archs.paper.minibatch_stddev", spy)
    D = stirred(Discriminator(small(16))).requires_grad_(False)
    D(make_images(D.config, 16))
    assert seen == [((8, 6, 4, 4), 4)]


def test_the_discriminator_sees_the_other_images_of_the_strided_group_only():
    D = stirred(Discriminator(small(8)))
    image = make_images(D.config, 8)
    other = image.clone()
    other[0] += 1
    changed = (D(image) != D(other)).nonzero().flatten().tolist()
    assert changed == [0, 2, 4, 6]


# --- growth ------------------------------------------------------------------------------------------------------

LADDERS = [(4, "4x4", 64), (32, "4x4", 128), (24, "3x3", 96), (8, "4x5", 32)]  # start, base grid, top


@torch.no_grad()
@pytest.mark.parametrize(("start", "base", "top"), LADDERS)
def test_at_alpha_0_the_grown_generator_is_the_old_one_upsampled_bit_for_bit(start, base, top):
    G, z = Generator(small(start, top, base)), torch.randn(2, 5)
    for res in G.config.stages()[1:]:
        before = G(z)
        G.grow()
        assert G.res == res
        assert torch.equal(G(z, 0.0), upsample(before))


@torch.no_grad()
@pytest.mark.parametrize(("start", "base", "top"), LADDERS)
def test_at_alpha_0_the_grown_discriminator_is_the_old_one_on_the_downsampled_image_bit_for_bit(start, base, top):
    D = Discriminator(small(start, top, base))
    for res in D.config.stages()[1:]:
        before = copy.deepcopy(D)
        D.grow()
        assert D.res == res
        image = make_images(D.config, res, 2).float()
        assert torch.equal(D(image, 0.0), before(downsample(image)))


@pytest.mark.parametrize("kind", NETWORKS)
def test_growing_past_the_ladder_raises(kind):
    network = kind(NetworkConfig(start_res=1024, max_res=1024, fmap_base=4096, fmap_max=2, latent=2))
    network.grow()
    with pytest.raises(ValueError, match="2048 px is as far"):
        network.grow()


@pytest.mark.parametrize("kind", NETWORKS)
def test_growing_to_where_no_feature_map_is_left_raises(kind):
    network = kind(small(64, 64, fmap_base=32))  # one map at 64 px
    with pytest.raises(ValueError, match="64 px is as far"):
        network.grow()
