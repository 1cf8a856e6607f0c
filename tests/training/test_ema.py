"""The moving average: its half-life in images, and what growth keeps of it."""

import copy

import pytest
import torch

from pggan.config.presets import preset
from pggan.config.schema import Config, NetworkConfig
from pggan.models.layers import downsample, upsample
from pggan.models.networks import Generator
from pggan.schedule.stages import Stage
from pggan.training import ema
from pggan.training.state import new_state

PAPER_BATCH = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4}


NETWORK = NetworkConfig(start_res=8, max_res=32, fmap_base=64, fmap_max=6, latent=5)


def generator(seed: int) -> Generator:
    return Generator(NETWORK, torch.Generator().manual_seed(seed))


def average_and_model() -> tuple[Generator, Generator]:
    """Two generators with different weights, as they are in the middle of a stage."""
    return generator(1).requires_grad_(False), generator(2)


@pytest.mark.parametrize(("res", "batch"), PAPER_BATCH.items())
def test_the_papers_half_life_is_a_decay_of_0_999_at_every_batch(res, batch):
    training = preset("paper").training
    assert int(training.batch.at(res)) == batch
    assert ema.decay(batch, 1000 * training.ema_kimg.at(res)) == pytest.approx(0.999, abs=1e-6)


@pytest.mark.parametrize("batch", [1, 4, 16, 50, 100])
def test_after_the_half_life_a_weights_share_is_a_half_whatever_the_batch(batch):
    average, model = torch.nn.Linear(1, 1, bias=False).double(), torch.nn.Linear(1, 1, bias=False).double()
    average.weight.data.fill_(1.0)
    model.weight.data.fill_(0.0)
    for _ in range(400 // batch):
        ema.update(average, model, ema.decay(batch, 400.0))
    assert average.weight.item() == pytest.approx(0.5, rel=1e-12)


def test_half_life_zero_means_no_averaging():
    average, model = average_and_model()
    ema.update(average, model, ema.decay(16, 0.0))
    assert all(torch.equal(a, m) for a, m in zip(average.parameters(), model.parameters(), strict=True))


def test_update_moves_every_parameter_and_leaves_the_model():
    average, model = average_and_model()
    before, kept = copy.deepcopy(average), copy.deepcopy(model)
    ema.update(average, model, 0.9)
    for (name, new), old, target in zip(
        average.named_parameters(), before.parameters(), model.parameters(), strict=True
    ):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * target, msg=name)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), kept.parameters(), strict=True))


def test_growth_carries_the_average_and_starts_new_weights_as_the_models():
    average, model = average_and_model()
    before = dict(copy.deepcopy(average).named_parameters())
    model.grow()
    ema.grow(average, model)
    theirs = dict(model.named_parameters())
    for name, value in average.named_parameters():
        assert torch.equal(value, theirs[name] if name in model.newest() else before[name]), name
        assert value.data_ptr() != theirs[name].data_ptr(), name
    assert any(not torch.equal(value, theirs[name]) for name, value in average.named_parameters())


@torch.no_grad()
def test_the_grown_average_draws_what_it_drew_before():
    average, model = average_and_model()
    z = torch.randn(4, 5)
    for _ in range(2):
        before = average(z)
        model.grow()
        ema.grow(average, model)
        assert torch.equal(average(z, 0.0), upsample(before))


@torch.no_grad()
def test_the_growth_step_of_a_run_changes_nothing_at_alpha_0_and_keeps_the_average():
    state = new_state(Config(network=NETWORK), torch.device("cpu"))
    state.G_ema.load_state_dict(generator(7).state_dict())  # by now it is no copy of G
    z, image = torch.randn(4, 5), torch.randn(4, 3, 16, 16)
    before = upsample(state.G(z)), upsample(state.G_ema(z)), state.D(downsample(image))
    state.grow(Stage(16))
    assert torch.equal(state.G(z, 0.0), before[0])
    assert torch.equal(state.G_ema(z, 0.0), before[1]) and not torch.equal(before[0], before[1])
    assert torch.equal(state.D(image, 0.0), before[2])


def test_the_average_never_asks_for_gradients_grown_or_not():
    average, model = average_and_model()
    model.grow()
    ema.grow(average, model)
    assert not any(value.requires_grad for value in average.parameters())
    assert all(value.requires_grad for value in model.parameters())


def test_the_average_goes_on_after_growth():
    average, model = average_and_model()
    model.grow()
    ema.grow(average, model)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1.0)
    ema.update(average, model, 0.5)
    newest = model.newest()
    for (name, mine), theirs in zip(average.named_parameters(), model.parameters(), strict=True):
        if name in newest:
            torch.testing.assert_close(mine, theirs - 0.5)


def test_new_weights_of_the_average_follow_at_first_and_lag_later():
    """Otherwise samples would show the random initial weights of a new block for a whole half-life."""
    assert ema.half_lives(5000, 0.05, nimg=100_000, since_growth=1000) == (5000, 50)
    assert ema.half_lives(5000, 0.05, nimg=200_000, since_growth=100_000) == (5000, 5000)
    assert ema.half_lives(5000, 0.0, nimg=100_000, since_growth=1000) == (5000, 5000)
    assert ema.half_lives(5000, 0.05, nimg=1000, since_growth=1000) == (50, 50)


def test_new_weights_take_their_own_factor():
    average, model = average_and_model()
    model.grow()
    ema.grow(average, model)
    old = {name: value.clone() for name, value in average.named_parameters()}
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1.0)
    ema.update(average, model, 0.9, 0.25)
    theirs = dict(model.named_parameters())
    for name, value in average.named_parameters():
        factor = 0.25 if name in model.newest() else 0.9
        torch.testing.assert_close(value, factor * old[name] + (1 - factor) * theirs[name])


# --- buffers: what batch norm has measured ------------------------------------------------------------------------

DCGAN = NetworkConfig(
    arch="dcgan", start_res=8, max_res=32, fmap_base=64, fmap_max=6, latent=5, stddev_group=0, critic_norm="batch"
)


def trained(seed: int) -> Generator:
    """A dcgan generator whose batch norms have running statistics."""
    made = Generator(DCGAN, torch.Generator().manual_seed(seed))
    rng = torch.Generator().manual_seed(seed + 10)
    with torch.no_grad():
        for _ in range(seed):
            made(torch.randn(8, 5, generator=rng))
    return made


@pytest.mark.parametrize("factor", [0.0, 0.9, 1.0])
def test_buffers_are_averaged_like_weights_and_whole_numbers_copied(factor):
    average, model = trained(1).requires_grad_(False), trained(3)
    before = {name: value.clone() for name, value in average.state_dict().items()}
    ema.update(average, model, factor)
    theirs, counted = model.state_dict(), 0
    for name, value in average.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value == theirs[name] == 3
            counted += 1
        else:
            torch.testing.assert_close(value, factor * before[name] + (1 - factor) * theirs[name])
    assert counted == 2 and "input.norm.norm.running_var" in before


def test_new_buffers_take_the_factor_of_new_weights():
    average, model = trained(1).requires_grad_(False), trained(3)
    model.grow()
    ema.grow(average, model)
    model(torch.randn(8, 5))
    before = {name: value.clone() for name, value in average.state_dict().items()}
    ema.update(average, model, 0.9, 0.25)
    theirs = model.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            factor = 0.25 if name in model.newest() else 0.9
            torch.testing.assert_close(value, factor * before[name] + (1 - factor) * theirs[name])
        else:
            assert torch.equal(value, theirs[name])
    assert "blocks.16.norm.norm.running_mean" in model.newest()


def test_growth_carries_the_buffers_of_the_average_and_starts_new_ones_as_the_models():
    average, model = trained(1).requires_grad_(False).eval(), trained(3)
    before = {name: value.clone() for name, value in average.state_dict().items()}
    model.grow()
    with torch.no_grad():
        model(torch.randn(8, 5))
    ema.grow(average, model)
    theirs = model.state_dict()
    for name, value in average.state_dict().items():
        assert torch.equal(value, theirs[name] if name in model.newest() else before[name]), name
    assert not any(part.training for part in average.modules()) and all(part.training for part in model.modules())


def test_the_average_of_norms_draws_as_the_model_does_when_both_have_settled():
    average, model = trained(1).requires_grad_(False).eval(), trained(3)
    for _ in range(60):
        ema.update(average, model, 0.5)
    z = torch.randn(4, 5)
    torch.testing.assert_close(average(z), model.eval()(z).detach())
