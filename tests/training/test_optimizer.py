"""Adam against its equations, and its moments in growth and in checkpoints."""

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch

from pggan.config.presets import preset
from pggan.config.schema import Config, NetworkConfig, TrainingConfig
from pggan.models.networks import Discriminator, Growing
from pggan.run.events import Events
from pggan.run.loop import train
from pggan.schedule.stages import Stage
from pggan.training.loading import state_from
from pggan.training.optimizer import ADAM_EPS, adam, moments, set_lr
from pggan.training.state import TrainState, new_state

pytest_plugins = ["short_runs"]

NETWORK = NetworkConfig(start_res=8, max_res=32, fmap_base=64, fmap_max=4, latent=4)
LR = 0.01
FADE = Stage(fade=4000)


def discriminator(growths: int = 0) -> Discriminator:
    network = Discriminator(NETWORK, torch.Generator().manual_seed(0))
    for _ in range(growths):
        network.grow(torch.Generator().manual_seed(network.res))
    return network


def give_gradients(network: Growing, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=rng)


def stepped(network: Growing, steps: int = 3, **settings: float) -> torch.optim.Adam:
    optimizer = adam(network, replace(TrainingConfig(), **settings))
    set_lr(optimizer, LR, 1.0)
    for number in range(steps):
        give_gradients(network, number)
        optimizer.step()
    return optimizer


def state(growths: int = 1) -> TrainState:
    """A state in the middle of a fade, with moments for all its parameters."""
    made = new_state(Config(network=NETWORK), torch.device("cpu"))
    for _ in range(growths):
        made.grow(FADE)
    made.nimg += 1000
    for network, optimizer in ((made.G, made.opt_G), (made.D, made.opt_D)):
        set_lr(optimizer, LR, 1.0)
        for number in range(2):
            give_gradients(network, number)
            optimizer.step()
    return made


def assert_same_moments(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].keys() == theirs[name].keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(ours[name][key], theirs[name][key]) for key in ours[name]), name


@pytest.mark.parametrize(("beta1", "beta2"), [(0.0, 0.99), (0.9, 0.999), (0, 0.9)])
def test_fused_adam_is_the_published_adam(beta1, beta2):
    network = discriminator()
    slow = {name: reference.Adam(beta1, beta2, 1e-8) for name, _ in network.named_parameters()}
    expected = {name: value.detach().numpy().astype(np.float64) for name, value in network.named_parameters()}
    optimizer = adam(network, TrainingConfig(beta1=beta1, beta2=beta2))
    for number, lr in enumerate([0.01, 0.01, 0.003, 0.003, 0.02]):
        set_lr(optimizer, lr, 1.0)
        give_gradients(network, number)
        for name, value in network.named_parameters():
            expected[name] = slow[name].step(expected[name], value.grad.numpy().astype(np.float64), lr)
        optimizer.step()
    for name, value in network.named_parameters():
        np.testing.assert_allclose(value.detach().numpy(), expected[name], rtol=1e-5, atol=1e-6)


def test_the_papers_adam_has_the_papers_constants():
    optimizer = adam(discriminator(), preset("paper").training)
    assert all(group["betas"] == (0.0, 0.99) and group["eps"] == 1e-8 for group in optimizer.param_groups)
    assert all(not group["weight_decay"] and not group["amsgrad"] for group in optimizer.param_groups)
    assert ADAM_EPS == 1e-8


@pytest.mark.parametrize("growths", [0, 1, 2])
def test_every_parameter_is_in_exactly_one_group(growths):
    network = discriminator(growths)
    held = [id(p) for group in adam(network, TrainingConfig()).param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in network.parameters())


@pytest.mark.parametrize("growths", [1, 2])
def test_warm_up_scales_the_newest_parameters_only(growths):
    network = discriminator(growths)
    optimizer = adam(network, TrainingConfig())
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    set_lr(optimizer, LR, 0.25)
    give_gradients(network, 0)
    optimizer.step()
    for name, value in network.named_parameters():  # the first step of Adam is lr long, whatever the gradient
        rate = LR / 4 if name in network.newest() else LR
        torch.testing.assert_close((value - before[name]).abs(), torch.full_like(value, rate), rtol=1e-3, atol=1e-6)


def test_no_warmth_leaves_the_newest_parameters_where_they_are():
    network = discriminator(1)
    optimizer = adam(network, TrainingConfig())
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    set_lr(optimizer, LR, 0.0)
    give_gradients(network, 0)
    optimizer.step()
    unmoved = {name for name, value in network.named_parameters() if torch.equal(value, before[name])}
    assert unmoved == network.newest()


def test_growth_carries_the_moments_of_kept_parameters_and_gives_new_ones_none():
    network = discriminator(1)
    kept = moments(stepped(network), network)
    network.grow()
    carried = moments(adam(network, TrainingConfig(), kept), network)
    assert carried.keys() == dict(network.named_parameters()).keys() - network.newest()
    assert_same_moments(carried, {name: kept[name] for name in carried})
    assert set(kept) - set(carried) == {"rgb.8.weight", "rgb.8.bias"}


def test_carried_moments_count_in_the_next_step():
    """The kept parameters take the same step as without growth."""
    grown, straight = discriminator(1), discriminator(1)
    kept = moments(stepped(grown), grown)
    on = stepped(straight)
    grown.grow()
    after = adam(grown, TrainingConfig(), kept)
    for network, optimizer in ((grown, after), (straight, on)):
        set_lr(optimizer, LR, 1.0)
        network.zero_grad()
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    theirs = dict(straight.named_parameters())
    for name, value in grown.named_parameters():
        assert name in grown.newest() or torch.equal(value, theirs[name]), name


@pytest.mark.parametrize("setting", ["carry", "reset"])
def test_the_growth_step_carries_or_forgets_as_set(setting):
    made = state()
    made.config = replace(made.config, training=replace(made.config.training, adam_at_growth=setting))
    old = moments(made.opt_D, made.D)
    made.grow(FADE)
    kept = moments(made.opt_D, made.D)
    expected = {name: old[name] for name, _ in made.D.named_parameters() if name in old} if setting == "carry" else {}
    assert_same_moments(kept, expected)
    assert bool(moments(made.opt_G, made.G)) == (setting == "carry")


def test_renewing_without_carrying_drops_all_moments():
    made = state()
    made.renew_adam()
    assert moments(made.opt_G, made.G) == moments(made.opt_D, made.D) == {}


@pytest.mark.parametrize("growths", [0, 2])
def test_moments_survive_a_checkpoint_in_a_fade(growths):
    made = state(growths)
    assert growths == 0 or 0 < made.alpha < 1
    again = state_from(made.to_dict(), torch.device("cpu"))
    for network, ours, theirs in ((made.G, made.opt_G, again.opt_G), (made.D, made.opt_D, again.opt_D)):
        assert moments(ours, network).keys() == dict(network.named_parameters()).keys()
        assert_same_moments(moments(theirs, again.G if network is made.G else again.D), moments(ours, network))


def test_a_state_from_a_checkpoint_steps_as_the_one_that_was_saved():
    made = state()
    again = state_from(made.to_dict(), torch.device("cpu"))
    assert (again.res, again.nimg, again.stage.plan) == (made.res, made.nimg, made.stage.plan)
    for one in (made, again):
        for network, optimizer in ((one.G, one.opt_G), (one.D, one.opt_D)):
            set_lr(optimizer, LR, 0.5)
            give_gradients(network, 7)
            optimizer.step()
    for ours, theirs in ((made.G, again.G), (made.D, again.D), (made.G_ema, again.G_ema)):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


# --- in the loop -------------------------------------------------------------------------------------------------


def adam_steps(monkeypatch, settings, when: str) -> list[tuple[int, int, int]]:
    """(resolution, steps into the stage, steps that Adam counts for D's last layer), after each step of a whole run.

    4 px: 3 steps; 8 px: 2 steps of fade and 3 steps more.
    """
    seen, real = [], Events.after_step

    def after_step(self, state, before):
        count = moments(state.opt_D, state.D).get("output.dense1.weight", {"step": 0})["step"]
        seen.append((state.res, (state.nimg - state.stage.plan.start) // 8, int(count)))
        real(self, state, before)

    monkeypatch.setattr(Events, "after_step", after_step)
    train(settings("--adam-at-growth", when, "--warmup-kimg", 0, "--fade-kimg", 0.016, "--stable-kimg", 0.024))
    return seen


def test_reset_forgets_at_both_ends_of_the_fade(monkeypatch, settings):
    assert adam_steps(monkeypatch, settings, "reset") == [
        *((4, 1, 1), (4, 2, 2), (4, 3, 3)),
        *((8, 1, 1), (8, 2, 0)),  # forgotten at the growth, and again when the fade is over
        *((8, 3, 1), (8, 4, 2), (8, 5, 3)),
    ]


def test_carry_never_forgets(monkeypatch, settings):
    assert [count for _, _, count in adam_steps(monkeypatch, settings, "carry")] == [1, 2, 3, 4, 5, 6, 7, 8]
