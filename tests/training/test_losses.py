"""The losses against slow versions: one image at a time, gradients by finite differences."""

from typing import get_args

import numpy as np
import pytest
import reference
import torch

from pggan.config.schema import LossName, TrainingConfig
from pggan.config.tables import LOSS_TABLE, PENALIZED
from pggan.training.losses import (
    LOSSES,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    penalty_loss,
    squared_gradient_norm,
)
from pggan.training.phases import phases

N, SIDE, HIDDEN = 4, 2, 3
PIXELS = 3 * SIDE * SIDE


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


REALS, FAKES = normal(0, N, 3, SIDE, SIDE), normal(1, N, 3, SIDE, SIDE)
MIX = np.random.default_rng(2).random(N)
WEIGHTS = normal(3, HIDDEN * PIXELS + 2 * HIDDEN + 1)  # of a critic with one hidden layer

EACH = pytest.mark.parametrize("name", LOSSES)
EACH_PENALTY = pytest.mark.parametrize("name", PENALIZED)
EACH_KNOWN = pytest.mark.parametrize("name", reference.LOSSES)  # a new loss need not be written a second time
EACH_KNOWN_PENALTY = pytest.mark.parametrize("name", [name for name in PENALIZED if name in reference.LOSSES])


def logits(weights, images, library):
    """w2 . tanh(W1 x + b1) + b2, in numpy or torch: smooth, so that finite differences hold."""
    cut = HIDDEN * PIXELS
    first, bias, second = weights[:cut].reshape(HIDDEN, PIXELS), weights[cut : cut + HIDDEN], weights[-HIDDEN - 1 : -1]
    return library.tanh(images.reshape(-1, PIXELS) @ first.T + bias) @ second + weights[-1]


def slow_critic(images):
    return logits(WEIGHTS, images, np)


def fast_critic(weights):
    return lambda images: logits(weights, images, torch)


def mean(images: torch.Tensor) -> torch.Tensor:
    """The simplest critic: [N, 3, H, W] -> [N]."""
    return images.mean(dim=(1, 2, 3))


def tensors(*arrays: np.ndarray, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [torch.from_numpy(array).to(dtype) for array in arrays]


GIVEN = tensors(REALS, FAKES, MIX)


def of_discriminator(name: str, weights: torch.Tensor, weight: float | None = None, drift: float = 0.0, scale=1.0):
    """weight: None is 3 for a loss that has a penalty, otherwise 0."""
    weight = 3.0 * (name in PENALIZED) if weight is None else weight
    given = [tensor.to(weights.dtype) for tensor in GIVEN]
    return discriminator_loss(LOSSES[name], fast_critic(weights), *given, weight, drift, scale)


def of_generator(name: str, weights: torch.Tensor, fakes: torch.Tensor):
    return generator_loss(LOSSES[name], fast_critic(weights), fakes, GIVEN[0].to(weights.dtype))


def variable(array: np.ndarray = WEIGHTS) -> torch.Tensor:
    return torch.from_numpy(array).clone().requires_grad_()


# --- values and gradients ----------------------------------------------------------------------------------------


def test_the_losses_are_those_that_the_flag_offers_and_the_penalized_ones_those_with_a_penalty():
    assert tuple(LOSSES) == get_args(LossName) and LOSSES.keys() == LOSS_TABLE.keys()
    assert tuple(name for name, loss in LOSSES.items() if loss.penalty) == PENALIZED


@pytest.mark.parametrize("drift", [0.0, 0.5])
@EACH_KNOWN
def test_the_discriminators_loss_matches_a_loop_over_images(name, drift):
    loss, _ = of_discriminator(name, torch.from_numpy(WEIGHTS), 0.0, drift)
    theirs = reference.discriminator_loss(name, slow_critic, REALS, FAKES, MIX, 0.0, drift)
    assert loss.item() == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("weight", [0.2, 10.0])
@EACH_KNOWN_PENALTY
def test_with_its_penalty_it_matches_a_loop_over_images(name, weight):
    loss, stats = of_discriminator(name, torch.from_numpy(WEIGHTS), weight, 0.001)
    theirs = reference.discriminator_loss(name, slow_critic, REALS, FAKES, MIX, weight, 0.001)
    assert loss.item() == pytest.approx(theirs, rel=1e-8)
    without = reference.discriminator_loss(name, slow_critic, REALS, FAKES, MIX, 0.0, 0.001)
    assert stats["penalty"].item() == pytest.approx((theirs - without) / weight, rel=1e-7)


@EACH_KNOWN
def test_the_generators_loss_matches_a_loop_over_images(name):
    loss, stats = of_generator(name, torch.from_numpy(WEIGHTS), GIVEN[1])
    assert loss.item() == pytest.approx(reference.generator_loss(name, slow_critic, FAKES, REALS), rel=1e-12)
    assert stats == {"g": loss}


@EACH
def test_the_gradient_of_the_discriminators_loss_reaches_the_weights(name):
    """The gradient at every weight, second-order part included, against finite differences of the loss."""
    weights = variable()
    of_discriminator(name, weights, drift=0.1)[0].backward()
    for place, step in enumerate(1e-6 * np.eye(len(WEIGHTS))):
        changed = [torch.from_numpy(WEIGHTS + sign * step) for sign in (1, -1)]
        up, down = (of_discriminator(name, each, drift=0.1)[0].item() for each in changed)
        assert weights.grad[place].item() == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-7)


@EACH_KNOWN
def test_the_gradient_of_the_generators_loss_reaches_the_fakes(name):
    """The gradient at every pixel against finite differences of the slow version."""
    fakes = variable(FAKES)
    of_generator(name, torch.from_numpy(WEIGHTS), fakes)[0].backward()
    for place in np.ndindex(FAKES.shape):
        values = []
        for sign in (1, -1):
            moved = FAKES.copy()
            moved[place] += sign * 1e-6
            values.append(reference.generator_loss(name, slow_critic, moved, REALS))
        assert fakes.grad[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-8)


@EACH
def test_the_generator_learns_to_raise_the_logit_of_its_fakes(name):
    fakes = variable(FAKES)
    generator_loss(LOSSES[name], mean, fakes, GIVEN[0])[0].backward()
    assert (fakes.grad < 0).all()


@EACH
def test_the_discriminator_learns_to_raise_the_logit_of_reals_and_lower_that_of_fakes(name):
    real, fake = (torch.full((N,), 0.5, requires_grad=True) for _ in range(2))
    LOSSES[name].discriminator(real, fake).sum().backward()
    assert (real.grad < 0).all() and (fake.grad > 0).all()


def test_hinge_asks_nothing_of_logits_beyond_1_and_relativistic_compares_in_pairs():
    hinge, relativistic = LOSSES["hinge"].discriminator, LOSSES["relativistic"].discriminator
    assert (hinge(torch.tensor([1.0, 5.0]), torch.tensor([-1.0, -9.0])) == 0).all()
    real, fake = torch.tensor([0.0, 8.0]), torch.tensor([-8.0, 0.0])
    assert relativistic(real, fake).mean() < 1e-3 < relativistic(real.flip(0), fake).mean()


# --- the penalties -----------------------------------------------------------------------------------------------


@EACH_PENALTY
def test_the_penalty_alone_has_a_gradient(name):
    with_it, without = variable(), variable()
    of_discriminator(name, with_it, 10.0)[0].backward()
    of_discriminator(name, without, 0.0)[0].backward()
    assert (with_it.grad - without.grad)[: HIDDEN * PIXELS].abs().max() > 1e-3


@EACH_PENALTY
def test_the_penalty_in_a_step_of_its_own_is_the_part_that_it_has_in_the_loss(name):
    whole, game, alone = variable(), variable(), variable()
    with_it, stats = of_discriminator(name, whole, 3.0)
    without, _ = of_discriminator(name, game, 0.0)
    penalty, own = penalty_loss(LOSSES[name], fast_critic(alone), *GIVEN, 3.0)
    for loss in (with_it, without, penalty):
        loss.backward()
    torch.testing.assert_close(with_it - without, penalty)
    torch.testing.assert_close(whole.grad - game.grad, alone.grad)
    assert own.keys() == {"penalty"} and own["penalty"] == stats["penalty"] and not own["penalty"].requires_grad
    torch.testing.assert_close(penalty.detach(), 3.0 * own["penalty"])


@pytest.mark.parametrize("every", [1, 2, 4, 16])
@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_lazily_the_penalty_weighs_as_much_over_k_steps_as_it_would_in_every_step(every, weight):
    settings = TrainingConfig(penalty_interval=every)
    steps = [phases(settings, number, weight) for number in range(3 * every)]
    assert sum(phase.penalty_weight for step in steps for phase in step) == pytest.approx(weight * len(steps))
    lazy = ["D", "D penalty", "G"]
    due = [lazy if every > 1 and weight and number % every == 0 else ["D", "G"] for number in range(3 * every)]
    assert [[phase.name for phase in step] for step in steps] == due
    assert all(phase.players == (phase.name[0],) for step in steps for phase in step)


@pytest.mark.parametrize("scale", [0.25, 2.0**16])
@EACH_PENALTY
def test_a_scale_on_the_way_changes_nothing(name, scale):
    plain, scaled = variable(), variable()
    ours, theirs = of_discriminator(name, plain)[0], of_discriminator(name, scaled, scale=scale)[0]
    ours.backward(), theirs.backward()
    torch.testing.assert_close(theirs, ours, rtol=1e-14, atol=0)
    torch.testing.assert_close(scaled.grad, plain.grad, rtol=1e-12, atol=1e-14)
    alone = [penalty_loss(LOSSES[name], fast_critic(plain), *GIVEN, 3.0, factor)[0] for factor in (1.0, scale)]
    torch.testing.assert_close(alone[1], alone[0], rtol=1e-14, atol=0)


def test_a_scale_keeps_small_gradients_from_vanishing_in_half_precision():
    class Tiny(torch.autograd.Function):
        """The gradient passes through float16, as it does under autocast."""

        @staticmethod
        def forward(_, x):
            return 1e-9 * x

        @staticmethod
        def backward(_, gradient):
            return (1e-9 * gradient).half().to(gradient.dtype)

    def norm(scale: float) -> torch.Tensor:
        return squared_gradient_norm(lambda images: Tiny.apply(images).sum(dim=(1, 2, 3)), variable(REALS), scale)

    assert (norm(1.0) == 0).all()
    torch.testing.assert_close(norm(2.0**16), torch.full((N,), 1e-18 * PIXELS).double(), rtol=1e-2, atol=0)


@EACH
def test_without_a_penalty_the_critic_is_asked_for_no_gradient(name, monkeypatch):
    monkeypatch.setattr(torch.autograd, "grad", None)
    asked = []

    def critic(images):
        asked.append(images.requires_grad)
        return mean(images)

    total, stats = discriminator_loss(LOSSES[name], critic, *GIVEN, 0.0)
    assert asked == [False, False] and "penalty" not in stats and torch.isfinite(total)


def seen_by_the_critic(name: str, act=discriminator_loss) -> list[np.ndarray]:
    seen = []

    def critic(images):
        seen.append(images.detach().numpy())
        return images.sum(dim=(1, 2, 3))

    act(LOSSES[name], critic, *GIVEN, 10.0)
    return seen


BETWEEN = np.stack([real + t * (fake - real) for real, fake, t in zip(REALS, FAKES, MIX, strict=True)])


def test_wgan_gp_looks_between_real_and_fake_with_one_number_a_image():
    np.testing.assert_allclose(seen_by_the_critic("wgan-gp")[-1], BETWEEN, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "shown"), {"wgan-gp": [BETWEEN], "logistic": [REALS], "relativistic": [REALS, FAKES]}.items()
)
def test_a_penalty_by_itself_shows_the_critic_no_more_than_it_needs(name, shown):
    for ours, theirs in zip(seen_by_the_critic(name, penalty_loss), shown, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-15)


@pytest.mark.parametrize(("name", "times"), [("wgan-gp", 3), ("logistic", 2), ("relativistic", 2)])
def test_reals_and_fakes_are_shown_apart_and_once(name, times):
    """One critic call each: in a common batch, minibatch stddev would compare reals with fakes."""
    seen = seen_by_the_critic(name)
    assert len(seen) == times
    assert np.array_equal(seen[0], REALS) and np.array_equal(seen[1], FAKES)


def test_the_length_of_the_gradient_is_taken_over_channels_and_pixels():
    def critic(images: torch.Tensor) -> torch.Tensor:
        return 2 * images.sum(dim=(1, 2, 3))

    assert gradient_penalty(critic, *GIVEN).item() == pytest.approx((2 * PIXELS**0.5 - 1) ** 2)
    norms = squared_gradient_norm(critic, variable(REALS))
    torch.testing.assert_close(norms, torch.full((N,), 4.0 * PIXELS).double())


STEEP = {"reals": lambda images: mean(images.clamp(max=0)), "fakes": lambda images: mean(images.clamp(min=0))}


@pytest.mark.parametrize(
    ("name", "steep", "pays"),
    [
        ("logistic", "reals", True),
        ("logistic", "fakes", False),
        ("relativistic", "reals", True),
        ("relativistic", "fakes", True),
    ],
)
def test_r1_looks_at_the_reals_only_and_r2_at_the_fakes(name, steep, pays):
    """A critic that is flat at the reals, or at the fakes: here reals are negative and fakes positive."""
    reals, fakes, mix = tensors(-1 - abs(REALS), 1 + abs(FAKES), MIX)
    _, stats = discriminator_loss(LOSSES[name], STEEP[steep], reals, fakes, mix, 10.0)
    assert stats["penalty"].item() == pytest.approx(pays * 0.5 / PIXELS)


def test_drift_is_on_the_reals_only():
    with_it, without = (discriminator_loss(LOSSES["wgan-gp"], mean, *GIVEN, 0.0, drift)[0] for drift in (1.0, 0.0))
    torch.testing.assert_close(with_it - without, mean(GIVEN[0]).square().mean())


@EACH
def test_the_generator_looks_at_the_reals_only_where_the_loss_compares_and_without_a_gradient(name):
    weights, seen = variable(), []

    def critic(images):
        out = logits(weights, images, torch)
        seen.append((images, out.requires_grad))
        return out

    reals, fakes = GIVEN[0].clone().requires_grad_(), variable(FAKES)
    generator_loss(LOSSES[name], critic, fakes, reals)[0].backward()
    assert reals.grad is None and fakes.grad.any()
    assert seen[-1] == (fakes, True) and [graph for _, graph in seen[:-1]] == [False] * LOSSES[name].relativistic
    assert LOSSES[name].relativistic == (name == "relativistic") or name not in reference.LOSSES


# --- what comes back, and what is hard ---------------------------------------------------------------------------


@EACH
def test_stats_are_finite_scalars_without_a_graph(name):
    total, stats = of_discriminator(name, variable())
    assert total.requires_grad and total.ndim == 0
    assert stats.keys() == {"d", "real_logit", "fake_logit", "r_t"} | ({"penalty"} if name in PENALIZED else set())
    for value in stats.values():
        assert value.ndim == 0 and not value.requires_grad and torch.isfinite(value)
    assert stats["d"] == total
    assert stats["real_logit"].item() == pytest.approx(slow_critic(REALS).mean())
    assert stats["fake_logit"].item() == pytest.approx(slow_critic(FAKES).mean())
    ours, stats = of_generator(name, variable(), GIVEN[1])
    assert stats["g"] == ours and stats["g"].ndim == 0 and not stats["g"].requires_grad


@EACH
def test_a_critic_without_slope_gives_no_nan(name):
    weights = torch.zeros(len(WEIGHTS), requires_grad=True)
    total, stats = of_discriminator(name, weights)
    total.backward()
    assert torch.isfinite(weights.grad).all() and all(torch.isfinite(value) for value in stats.values())


@pytest.mark.parametrize("size", [1e4, -1e4, 1e25])
@EACH
def test_a_critic_that_is_very_sure_gives_no_nan(name, size):
    """In float32 the square of 1e25 is infinite, and so may be a loss that is too large for float32."""
    exact = [torch.full((N,), value, dtype=torch.float64) for value in (size, -size)]
    large = max(act(*exact).max() for act in (LOSSES[name].discriminator, LOSSES[name].generator)) > 3e38
    real, fake = (torch.full((N,), value, requires_grad=True) for value in (size, -size))
    logit = iter([real, fake])
    total, _ = discriminator_loss(LOSSES[name], lambda _: next(logit), *tensors(*3 * [REALS], dtype=torch.float32), 0.0)
    total = total + LOSSES[name].generator(real, fake).mean()
    total.backward()
    assert torch.isfinite(total) or large
    assert torch.isfinite(real.grad).all() and torch.isfinite(fake.grad).all()


@EACH_PENALTY
def test_a_very_steep_critic_gives_no_nan(name):
    weights = variable(1e4 * WEIGHTS)
    total, _ = of_discriminator(name, weights)
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(weights.grad).all()


@EACH
def test_the_images_given_are_left_as_they_were(name):
    before = [tensor.clone() for tensor in GIVEN]
    of_discriminator(name, variable())[0].backward()
    for was, now in zip(before, GIVEN, strict=True):
        assert torch.equal(was, now) and not now.requires_grad and now.grad is None


@EACH
def test_losses_draw_no_random_numbers(name):
    state = torch.get_rng_state()
    values = [of_discriminator(name, variable())[0].item() for _ in range(2)]
    of_generator(name, variable(), GIVEN[1])
    assert values[0] == values[1] and torch.equal(torch.get_rng_state(), state)
