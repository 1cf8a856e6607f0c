"""The controller of augmentation: r_t, and in which direction, how fast and how far p moves."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.stats import norm

from pggan.config.schema import LossName, TrainingConfig
from pggan.training.ada import HALF_LIFE, TARGET, TARGET_OF_PAIRS, adjust, begin, target
from pggan.training.losses import LOSSES
from pggan.training.losses import r_t as of_logits

CPU = torch.device("cpu")
CONTROLLED = TrainingConfig(augment="cutout", ada=True, ada_target=0.6, ada_kimg=10.0)
ZERO_THRESHOLD = [name for name, loss in LOSSES.items() if loss.zero_threshold]
PAIRED = [loss for loss in get_args(LossName) if loss not in ZERO_THRESHOLD]


def logits(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0.3, 1, 24))


def r_t(loss: LossName, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    return of_logits(real, fake, LOSSES[loss].zero_threshold)


def after(signals: list[float], images: int, training: TrainingConfig = CONTROLLED) -> tuple[float, float]:
    p, average = begin(training, CPU)
    for r in signals:
        p, average = adjust(p, average, torch.tensor(r), images, training)
    return p.item(), average.item()


# --- what it listens to


def test_the_losses_with_a_threshold_at_0_are_those_that_train_the_logits_apart_from_0():
    assert {"logistic", "bce", "hinge"} <= set(ZERO_THRESHOLD)
    assert {"relativistic", "wgan", "wgan-gp", "lsgan"} <= set(PAIRED)


@pytest.mark.parametrize("loss", ZERO_THRESHOLD)
def test_r_is_the_mean_sign_of_the_reals_logits(loss):
    real, fake = logits(0), logits(1)
    assert r_t(loss, real, fake).item() == pytest.approx(np.sign(real.numpy()).mean())
    assert r_t(loss, real, fake) == r_t(loss, real, fake + 9)


@pytest.mark.parametrize("loss", PAIRED)
def test_r_of_pairs_is_the_mean_sign_over_all_of_them(loss):
    real, fake = logits(0), logits(1)
    expected = np.mean([np.sign(x - y) for x in real.numpy() for y in fake.numpy()])
    assert r_t(loss, real, fake).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", PAIRED)
def test_r_of_pairs_is_the_same_whatever_is_added_to_all_logits(loss):
    real, fake = logits(0), logits(1)
    for offset in (-100, -1, 3, 1000):
        assert r_t(loss, real + offset, fake + offset) == r_t(loss, real, fake)


@pytest.mark.parametrize("loss", get_args(LossName))
def test_r_goes_from_a_d_that_knows_nothing_to_one_that_knows_every_image(loss):
    above, below = torch.full((4,), 2.0), torch.full((4,), -2.0)
    same = torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert r_t(loss, above, below) == 1 and r_t(loss, below, above) == -1 and r_t(loss, same, same) == 0


def test_the_two_usual_targets_are_one_for_normal_logits():
    middle = norm.ppf((1 + TARGET) / 2)  # the reals' mean, so that E[sign] is the target; the fakes' is its negative
    assert 2 * norm.cdf(2 * middle / np.sqrt(2)) - 1 == pytest.approx(TARGET_OF_PAIRS, abs=0.005)


@pytest.mark.parametrize("loss", get_args(LossName))
def test_the_target_is_the_usual_one_of_the_loss_unless_it_is_given(loss):
    usual = TARGET if loss in ZERO_THRESHOLD else TARGET_OF_PAIRS
    assert target(TrainingConfig(loss=loss)) == usual and target(TrainingConfig(loss=loss, ada_target=0.2)) == 0.2


# --- where it goes


def test_a_fixed_p_is_one_and_a_controlled_one_begins_at_nothing():
    assert [value.item() for value in begin(TrainingConfig(augment="cutout:0.5"), CPU)] == [1, 0]
    p, average = begin(CONTROLLED, CPU)
    assert p == 0 and average.item() == pytest.approx(0.6) and p.shape == average.shape == ()


def test_p_goes_up_while_d_is_too_sure_and_down_again_when_it_is_not():
    up, _ = after([0.9] * 20, 100)
    assert up == pytest.approx(20 * 100 / 10_000)
    down, _ = after([0.9] * 20 + [0.1] * 15, 100)
    assert 0 < down < up


@pytest.mark.parametrize(("images", "steps"), [(1, 1200), (8, 150), (100, 12)])
def test_speed_is_by_images_whatever_the_batch(images, steps):
    p, average = after([1.0] * steps, images)
    assert p == pytest.approx(1200 / 10_000, rel=1e-4)
    assert average == pytest.approx(1 - 0.4 * 0.5 ** (1200 / HALF_LIFE), rel=1e-4)


def test_p_stays_between_nothing_and_the_most():
    assert after([1.0] * 300, 100)[0] == pytest.approx(CONTROLLED.ada_max)
    assert after([1.0] * 300, 100, replace(CONTROLLED, ada_max=0.3))[0] == pytest.approx(0.3)
    assert after([-1.0] * 10, 100)[0] == 0
    assert after([1.0], 10**9)[0] == pytest.approx(CONTROLLED.ada_max)


def test_single_images_do_not_mislead_it():
    """A batch of 1 has r_t = 1 or -1, and the average counts: single signs would raise p even below the target."""
    signs = np.random.default_rng(0).permutation(np.repeat([1.0, -1.0], [700, 300])).tolist()  # r = 0.4
    p, average = after(signs * 3, 1)
    assert p < 0.02 and average == pytest.approx(0.4, abs=0.2)


def test_it_looks_at_no_value():
    p, average = (value.to("meta") for value in begin(CONTROLLED, CPU))
    logit = torch.empty(8, device="meta")
    p, average = adjust(p, average, r_t("relativistic", logit, logit), 8, CONTROLLED)
    assert p.shape == average.shape == () and p.dtype == torch.float32
