"""The classifier of kinds reads new images correctly, reads noise as no kind, and accepts only its own weights."""

import numpy as np
import pytest
import torch

from pggan.data.builtin import KINDS, draw
from pggan.errors import UserError
from pggan.metrics import kinds as reader
from pggan.metrics.kinds import KindCounts, count_kinds, load_classifier, read_kinds

FRESH = 424_242  # a collection that neither training nor the held-out figures of the experiment used


def fresh(count: int, width: int, height: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [count, 3, height, width] in [-1, 1] and their kinds [count]."""
    drawn = [draw(FRESH, index, width, height) for index in range(count)]
    pixels = torch.from_numpy(np.stack([picture for picture, _ in drawn])).permute(0, 3, 1, 2)
    return pixels.float() / 127.5 - 1, torch.tensor([kind for _, kind in drawn])


@pytest.fixture(scope="module")
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    return fresh(200, 32, 32)


def test_reads_fresh_pictures_at_32_pixels(pictures):
    images, kinds = pictures
    assert (read_kinds(images)[0] == kinds).double().mean() >= 0.99


@pytest.mark.parametrize(("width", "height"), [(64, 64), (128, 160)])
def test_reads_fresh_pictures_at_other_sizes(width, height):
    images, kinds = fresh(100, width, height)
    assert (read_kinds(images)[0] == kinds).sum() >= 98


def test_reads_soft_and_noisy_pictures(pictures):
    images, kinds = pictures
    blurred = torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    noisy = (blurred + 0.08 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    assert (read_kinds(noisy)[0] == kinds).double().mean() >= 0.95


def test_counts_every_kind_evenly_in_an_even_set(pictures):
    counts = count_kinds(pictures[0])
    assert counts.total == 200
    assert counts.made == KINDS
    assert counts.missing == ()
    assert all(abs(count - 20) <= 1 for count in counts.counts.values())


def test_a_dropped_kind_is_exactly_the_one_missing(pictures):
    images, kinds = pictures
    for dropped in range(len(KINDS)):
        assert count_kinds(images[kinds != dropped][::2]).missing == (KINDS[dropped],)


def test_noise_and_flat_color_are_no_kind():
    rng = torch.Generator().manual_seed(1)
    gray = torch.zeros(64, 3, 64, 64)
    for images in (
        gray,
        gray + 2 * torch.rand(64, 3, 1, 1, generator=rng) - 1,
        torch.randn(gray.shape, generator=rng).clamp(-1, 1),
        2 * torch.rand(64, 3, 32, 32, generator=rng) - 1,
    ):
        counts = count_kinds(images)
        assert counts.unread == 64
        assert counts.made == ()


def test_shuffled_pixels_are_no_kind(pictures):
    images = pictures[0][:100]
    order = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(0))
    assert count_kinds(images.flatten(2)[:, :, order].view_as(images)).unread >= 98


def test_a_network_that_paints_one_kind_makes_one_kind(pictures):
    images, kinds = pictures
    assert count_kinds(images[kinds == 3]).made == (KINDS[3],)


def test_what_is_not_a_number_is_no_kind():
    assert count_kinds(torch.full((4, 3, 32, 32), float("nan"))).unread == 4


def test_half_precision_samples_are_read_as_well(pictures):
    images, kinds = pictures
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, probabilities = read_kinds(images.bfloat16())
    assert probabilities.dtype == torch.float32
    assert (found == kinds).double().mean() >= 0.99


def test_a_kind_seen_in_less_than_one_percent_is_not_made():
    counts = dict.fromkeys(KINDS, 0) | {"grid": 490, "tiles": 5, "rays": 4}
    assert KindCounts(counts, unread=1).made == ("grid", "tiles")


def test_pictures_too_small_to_read_are_refused():
    with pytest.raises(ValueError, match="at least 16 pixels"):
        read_kinds(torch.zeros(2, 3, 8, 8))


def test_an_empty_set_holds_no_kind():
    counts = count_kinds(torch.zeros(0, 3, 32, 32))
    assert counts.total == 0
    assert counts.missing == KINDS


def test_reading_draws_no_random_numbers(pictures):
    reader.trained_classifier.cache_clear()
    before = torch.get_rng_state()
    read_kinds(pictures[0][:2])
    assert torch.equal(torch.get_rng_state(), before)


def test_changed_weights_are_refused_by_their_hash(tmp_path):
    content = bytearray(reader.WEIGHTS.read_bytes())
    content[-1] ^= 1
    damaged = tmp_path / "kinds.safetensors"
    damaged.write_bytes(content)
    with pytest.raises(UserError, match="sha256") as refusal:
        load_classifier(damaged)
    assert "\n" not in str(refusal.value)


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match="missing"):
        load_classifier(tmp_path / "kinds.safetensors")


def test_the_weights_are_small():
    assert reader.WEIGHTS.stat().st_size < 600_000
