"""The losses against slow versions: one picture at a time, gradients by finite differences."""

import numpy as np
import pytest
import reference
import torch

from pggan.losses import (
    LOSSES,
    gradient_penalty,
    logistic_discriminator,
    logistic_generator,
    wgan_gp_discriminator,
    wgan_gp_generator,
)

N, SIDE, HIDDEN = 4, 2, 3
PIXELS = 3 * SIDE * SIDE


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


REALS, FAKES = normal(0, N, 3, SIDE, SIDE), normal(1, N, 3, SIDE, SIDE)
MIX = np.random.default_rng(2).random(N)
WEIGHTS = normal(3, HIDDEN * PIXELS + 2 * HIDDEN + 1)  # of a critic with one hidden layer


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


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def wgan_gp(weights: torch.Tensor, weight: float = 10.0, drift: float = 0.001):
    return wgan_gp_discriminator(fast_critic(weights), *tensors(REALS, FAKES, MIX), weight, drift)


def logistic(weights: torch.Tensor, weight: float = 3.0, drift: float = 0.0):
    return logistic_discriminator(fast_critic(weights), *tensors(REALS, FAKES, MIX), weight, drift)


BOTH = pytest.mark.parametrize("loss", [wgan_gp, logistic])


@pytest.mark.parametrize("drift", [0.0, 0.001, 0.5])
@pytest.mark.parametrize("weight", [0.0, 1.0, 10.0])
def test_wgan_gp_with_drift_matches_a_loop_over_pictures(weight, drift):
    loss, _ = wgan_gp(torch.from_numpy(WEIGHTS), weight, drift)
    assert loss.item() == pytest.approx(reference.wgan_gp(slow_critic, REALS, FAKES, MIX, weight, drift), rel=1e-8)


@pytest.mark.parametrize("weight", [0.0, 0.2, 10.0])
def test_logistic_with_r1_matches_a_loop_over_pictures(weight):
    loss, _ = logistic(torch.from_numpy(WEIGHTS), weight)
    assert loss.item() == pytest.approx(reference.logistic_r1(slow_critic, REALS, FAKES, weight), rel=1e-8)


@BOTH
def test_the_gradient_of_the_penalty_reaches_the_weights(loss):
    """Every weight's slope, second-order part included, against finite differences of the loss."""
    weights = torch.from_numpy(WEIGHTS).requires_grad_()
    loss(weights)[0].backward()
    for place, step in enumerate(1e-6 * np.eye(len(WEIGHTS))):
        up, down = (loss(torch.from_numpy(WEIGHTS + sign * step))[0].item() for sign in (1, -1))
        assert weights.grad[place].item() == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-7)


@BOTH
def test_the_penalty_alone_has_a_gradient(loss):
    with_it, without = torch.from_numpy(WEIGHTS).requires_grad_(), torch.from_numpy(WEIGHTS).requires_grad_()
    loss(with_it, 10.0)[0].backward()
    loss(without, 0.0)[0].backward()
    assert (with_it.grad - without.grad)[: HIDDEN * PIXELS].abs().max() > 1e-3


def test_the_penalty_looks_between_real_and_fake_with_one_number_a_picture():
    seen = []

    def critic(images):
        seen.append(images.detach().numpy())
        return images.sum(dim=(1, 2, 3))

    wgan_gp_discriminator(critic, *tensors(REALS, FAKES, MIX), 10.0)
    expected = np.stack([real + t * (fake - real) for real, fake, t in zip(REALS, FAKES, MIX, strict=True)])
    np.testing.assert_allclose(seen[-1], expected, atol=1e-15)


def test_the_length_of_the_gradient_is_taken_over_channels_and_pixels():
    penalty = gradient_penalty(lambda images: 2 * images.sum(dim=(1, 2, 3)), torch.from_numpy(REALS))
    assert penalty.item() == pytest.approx((2 * PIXELS**0.5 - 1) ** 2)


def test_r1_looks_at_the_reals_only():
    """A critic that is flat at the reals and steep at the fakes pays nothing."""
    reals, fakes, mix = tensors(-1 - abs(REALS), 1 + abs(FAKES), MIX)
    _, stats = logistic_discriminator(lambda images: mean(images.clamp(min=0)), reals, fakes, mix, 10.0)
    assert stats["penalty"] == 0


def test_drift_is_on_the_reals_only():
    reals, fakes, mix = tensors(REALS, FAKES, MIX)
    with_it, without = (wgan_gp_discriminator(mean, reals, fakes, mix, 0.0, drift)[0] for drift in (1.0, 0.0))
    torch.testing.assert_close(with_it - without, mean(reals).square().mean())


def test_generator_losses_match_their_formulas():
    critic, fakes = fast_critic(torch.from_numpy(WEIGHTS)), torch.from_numpy(FAKES)
    on_fakes = slow_critic(FAKES)
    assert wgan_gp_generator(critic, fakes)[0].item() == pytest.approx(-on_fakes.mean())
    probability = 1 / (1 + np.exp(-on_fakes))
    assert logistic_generator(critic, fakes)[0].item() == pytest.approx(-np.log(probability).mean())


@pytest.mark.parametrize("name", LOSSES)
def test_the_generator_learns_to_raise_the_logit_of_its_fakes(name):
    fakes = torch.from_numpy(FAKES).requires_grad_()
    LOSSES[name].generator(mean, fakes)[0].backward()
    assert (fakes.grad < 0).all()


@BOTH
def test_stats_are_finite_scalars_without_a_graph(loss):
    total, stats = loss(torch.from_numpy(WEIGHTS).requires_grad_())
    assert total.requires_grad and total.ndim == 0
    assert stats.keys() == {"d", "real_logit", "fake_logit", "penalty"}
    for value in stats.values():
        assert value.ndim == 0 and not value.requires_grad and torch.isfinite(value)
    assert stats["d"] == total
    assert stats["real_logit"].item() == pytest.approx(slow_critic(REALS).mean())
    assert stats["fake_logit"].item() == pytest.approx(slow_critic(FAKES).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@BOTH
def test_a_critic_without_slope_gives_no_nan(loss, dtype, monkeypatch):
    weights = torch.zeros(len(WEIGHTS), dtype=dtype, requires_grad=True)
    for name, array in (("REALS", REALS), ("FAKES", FAKES), ("MIX", MIX)):
        monkeypatch.setattr(f"{__name__}.{name}", array.astype(str(dtype).removeprefix("torch.")))
    total, stats = loss(weights)
    total.backward()
    assert torch.isfinite(weights.grad).all() and all(torch.isfinite(value) for value in stats.values())


@BOTH
def test_a_critic_that_is_very_sure_gives_no_nan(loss):
    weights = torch.from_numpy(1e4 * WEIGHTS).requires_grad_()
    total, _ = loss(weights)
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(weights.grad).all()


@BOTH
def test_the_reals_given_are_left_as_they_were(loss):
    before = REALS.copy()
    loss(torch.from_numpy(WEIGHTS).requires_grad_())[0].backward()
    assert (before == REALS).all()
