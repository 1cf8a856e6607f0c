"""Latents and noise maps: what they depend on, what they do not, and that they are N(0, 1)."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pggan.models.noise import latents, noise_maps
from pggan.randomness import Stream

CPU = torch.device("cpu")
FEW = settings(max_examples=25, deadline=None)
EACH = pytest.mark.parametrize("draw", [latents, noise_maps])


@EACH
@FEW
@given(
    start=st.integers(0, 10**9), batches=st.lists(st.integers(0, 5), min_size=1, max_size=5), size=st.integers(1, 70)
)
def test_however_a_range_is_batched_each_image_gets_the_same_numbers(draw, start, batches, size):
    stream = Stream(3)
    whole = draw(stream, "noise G", start, sum(batches), size, CPU)
    ends = start + np.cumsum([0, *batches])
    parts = [draw(stream, "noise G", int(a), int(b - a), size, CPU) for a, b in pairwise(ends)]
    assert torch.equal(whole, torch.cat(parts))
    assert whole.shape == (sum(batches), size) and whole.dtype == torch.float32


@EACH
def test_images_purposes_seeds_and_attempts_have_numbers_of_their_own(draw):
    drawn = [
        draw(Stream(seed, attempt), purpose, index, 1, 40, CPU).numpy().tobytes()
        for seed in (0, 1)
        for attempt in (0, 1)
        for purpose in ("noise D", "noise G")
        for index in (0, 1, 2, 2**33)
    ]
    assert len(set(drawn)) == len(drawn)


@EACH
@pytest.mark.parametrize("size", [1, 15, 160, 5456])
def test_they_are_standard_normal(draw, size):
    drawn = draw(Stream(1), "noise G", 500, max(80_000 // size, 20) if size > 1 else 4000, size, CPU).double()
    n = drawn.numel()
    assert torch.isfinite(drawn).all()
    assert abs(drawn.mean()) < 5 / n**0.5 and abs(drawn.std() - 1) < 5 / (2 * n) ** 0.5
    assert abs(drawn.pow(4).mean() - 3) < 5 * (96 / n) ** 0.5
    assert stats.kstest(drawn.ravel().numpy(), "norm").pvalue > 1e-3


@EACH
def test_neighboring_images_are_uncorrelated(draw):
    drawn = draw(Stream(2), "noise G", 0, 4000, 6, CPU).double().numpy()
    together = np.concatenate([drawn[:-1], drawn[1:]], axis=1)
    between = np.corrcoef(together, rowvar=False) - np.eye(12)
    assert abs(between).max() < 5 / np.sqrt(4000)


def test_networks_without_noise_get_none():
    assert noise_maps(Stream(0), "noise G", 0, 4, 0, CPU) is None


@EACH
def test_drawing_leaves_the_global_generators_alone(draw):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draw(Stream(0), "p", 0, 10, 50, CPU)
    assert torch.equal(torch.get_rng_state(), before)
