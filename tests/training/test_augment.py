"""Augmentations: against slow versions, what they must leave unchanged, and their two derivatives."""

from dataclasses import make_dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pggan.config.augmentation import AUGMENTATION_NAMES, Augmentation
from pggan.randomness import Stream
from pggan.training.augment import AUGMENTATIONS, Row, augment, augment_draws

CPU = torch.device("cpu")
FEW = settings(max_examples=40, deadline=None)
ALL = Augmentation(**dict.fromkeys(AUGMENTATION_NAMES, 0.7))
UNTURNED = Augmentation(**{**dict.fromkeys(AUGMENTATION_NAMES, 0.7), "turns": 0.0})
EACH = pytest.mark.parametrize("name", AUGMENTATION_NAMES)


def only(name: str, strength: float = 1.0) -> Augmentation:
    return Augmentation(**{name: strength})


def make_images(count: int, height: int = 8, width: int = 8, dtype=torch.float64) -> torch.Tensor:
    values = np.random.default_rng([count, height, width]).uniform(-1, 1, (count, 3, height, width))
    return torch.from_numpy(values).to(dtype)


def rows(count: int, augmentation: Augmentation, index: int = 0) -> torch.Tensor:
    return augment_draws(Stream(5), "D", index, count, CPU, augmentation)


def width_of(augmentation: Augmentation) -> int:
    return sum(1 + AUGMENTATIONS[name].draws for name in augmentation.strengths())


# --- the slow version: one image [3, H, W], one row of draws


def slow(image: np.ndarray, row: np.ndarray, p: float, augmentation: Augmentation) -> np.ndarray:
    """What augment.py documents, with loops."""
    applied, row = {}, list(row)
    for name, strength in augmentation.strengths().items():
        coin, *applied[name] = (row.pop(0) for _ in range(1 + AUGMENTATIONS[name].draws))
        if coin >= np.float32(p) * np.float32(strength):
            del applied[name]

    def numbers(name: str) -> list[np.float32]:
        """Its own draws; none if it is not applied."""
        return applied.get(name, [])

    out = image.copy()
    if len(numbers("color")):
        brightness, saturation, contrast = numbers("color")
        out = out + (brightness - 0.5)
        for pixel in np.ndindex(out.shape[1:]):
            gray = out[:, *pixel].mean()
            out[:, *pixel] = gray + 2 * saturation * (out[:, *pixel] - gray)
        out = out.mean() + (0.5 + contrast) * (out - out.mean())
    if len(numbers("flip")) and numbers("flip")[0] >= 0.5:
        out = out[:, :, ::-1]
    if len(numbers("vflip")) and numbers("vflip")[0] >= 0.5:
        out = out[:, ::-1]
    if len(numbers("turns")):
        out = np.rot90(out, int(4 * numbers("turns")[0]), axes=(1, 2))
    if len(numbers("translation")):
        out = slow_shift(out, *numbers("translation"))
    if len(numbers("cutout")):
        out = slow_cutout(out, *numbers("cutout"))
    return out


def slow_shift(image: np.ndarray, down: float, right: float) -> np.ndarray:
    _, height, width = image.shape
    out, shifts = np.zeros_like(image), []
    for draw, side in ((down, height), (right, width)):
        most = int(side / 8 + 0.5)
        shifts.append(range(-most, most + 1)[int(np.float32(draw) * (2 * most + 1))])
    for row in range(height):
        for column in range(width):
            if 0 <= row + shifts[0] < height and 0 <= column + shifts[1] < width:
                out[:, row + shifts[0], column + shifts[1]] = image[:, row, column]
    return out


def slow_cutout(image: np.ndarray, down: float, right: float) -> np.ndarray:
    _, height, width = image.shape
    out, spans = image.copy(), []
    for draw, side in ((down, height), (right, width)):
        cut = int(side / 2 + 0.5)
        center = int(np.float32(draw) * (side + (cut % 2 == 0)))
        spans.append(range(center - cut // 2, center - cut // 2 + cut))
    for row in range(height):
        for column in range(width):
            if row in spans[0] and column in spans[1]:
                out[:, row, column] = 0
    return out


SIDES = st.integers(1, 13)


@FEW
@given(
    augmentation=st.sampled_from([ALL, UNTURNED, *map(only, AUGMENTATION_NAMES)]),
    height=SIDES,
    width=SIDES,
    index=st.integers(0, 10**6),
    p=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_every_augmentation_is_what_the_slow_version_does(augmentation, height, width, index, p):
    width = height if augmentation.turns else width
    images, draws = make_images(6, height, width), rows(6, augmentation, index)
    expected = [slow(image, row, p, augmentation) for image, row in zip(images.numpy(), draws.numpy(), strict=True)]
    torch.testing.assert_close(augment(images, draws, p, augmentation), torch.from_numpy(np.stack(expected)))


@EACH
def test_every_augmentation_does_something_and_the_slow_version_was_asked_for_it(name):
    images, draws = make_images(32), rows(32, only(name))
    changed = (augment(images, draws, 1.0, only(name)) != images).flatten(1).any(1)
    assert changed.sum() >= {"flip": 8, "vflip": 8, "turns": 16}.get(name, 28)


# --- what is left alone


@pytest.mark.parametrize("kind", [float, torch.tensor])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_p_0_every_image_is_left_as_it_was_to_the_bit(kind, dtype):
    images, draws = make_images(16, dtype=dtype), rows(16, ALL)
    assert torch.equal(augment(images, draws, kind(0.0), ALL), images)
    assert augment(images, None, kind(1.0), Augmentation()) is images and rows(16, Augmentation()) is None


@EACH
def test_images_that_do_not_get_a_augmentation_are_left_as_they_were_to_the_bit(name):
    images, draws = make_images(64, dtype=torch.float32), rows(64, only(name))
    spared = draws[:, 0] >= 0.4
    assert torch.equal(augment(images, draws, 0.5, only(name, 0.8))[spared], images[spared])
    assert 20 < spared.sum() < 50


@pytest.mark.parametrize(("augmentation", "size"), [(ALL, (8, 8)), (UNTURNED, (8, 8)), (UNTURNED, (16, 10))])
def test_each_image_is_changed_by_its_own_row_alone(augmentation, size):
    images, draws = make_images(12, *size, dtype=torch.float32), rows(12, augmentation)
    whole = augment(images, draws, 0.9, augmentation)
    for i in range(12):
        assert torch.equal(augment(images[i : i + 1], draws[i : i + 1], 0.9, augmentation), whole[i : i + 1])
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment(images[order], draws[order], 0.9, augmentation), whole[order])


def test_a_augmentation_does_not_change_what_another_one_does():
    """Nor does it change its numbers: each has a stream of its own."""
    images, both = make_images(32), Augmentation(translation=0.5, cutout=0.5)
    one_by_one = images
    for name in both.strengths():
        one_by_one = augment(one_by_one, rows(32, only(name, 0.5)), 1.0, only(name, 0.5))
    assert torch.equal(augment(images, rows(32, both), 1.0, both), one_by_one)


def test_the_setting_and_the_table_name_the_same_in_the_same_order():
    assert tuple(AUGMENTATIONS) == AUGMENTATION_NAMES


def test_one_more_is_one_row_and_one_field_and_the_others_keep_their_numbers(monkeypatch):
    monkeypatch.setitem(AUGMENTATIONS, "invert", Row(lambda images, on: torch.where(on, -images, images), 0))
    More = make_dataclass("More", [("invert", float, 0.0)], bases=(Augmentation,), frozen=True)
    images, more = make_images(32), More(cutout=0.5, invert=0.5)
    draws = rows(32, more)
    assert torch.equal(draws[:, :-1], rows(32, only("cutout")))
    sign = torch.where(draws[:, -1] < 0.5, -1, 1)[:, None, None, None]
    without = augment(images, draws[:, :-1], 1.0, only("cutout", 0.5))
    assert torch.equal(augment(images, draws, 1.0, more), sign * without)


def test_p_as_a_tensor_is_p_as_a_number():
    images, draws = make_images(256, dtype=torch.float32), rows(256, ALL)
    for p in (0.0, 0.1, 0.37, 0.8, 1.0):
        assert torch.equal(augment(images, draws, p, ALL), augment(images, draws, torch.tensor(p), ALL))


def test_what_is_uncovered_is_zero_whatever_the_color():
    images, moved = make_images(64) + 3, Augmentation(translation=1.0, cutout=1.0)
    uncovered = augment(torch.ones_like(images), rows(64, moved), 1.0, moved) == 0
    colored = replace(moved, color=1.0)
    changed = augment(images, rows(64, colored), 1.0, colored)
    assert uncovered.any() and (changed[uncovered] == 0).all() and (changed[~uncovered] != 0).all()


def test_images_that_are_not_square_are_not_turned():
    with pytest.raises(ValueError, match="10x16 cannot be turned"):
        augment(make_images(2, 16, 10), rows(2, ALL), 1.0, ALL)
    assert augment(make_images(2, 16, 10), rows(2, UNTURNED), 1.0, UNTURNED).shape == (2, 3, 16, 10)


@pytest.mark.parametrize("value", [0.0, 1 - 2**-24])
@pytest.mark.parametrize("size", range(1, 14))
def test_the_first_and_the_last_of_all_numbers_are_in_range(value, size):
    images = make_images(1, size, size)
    augmentation = Augmentation(**dict.fromkeys(AUGMENTATION_NAMES, 1.0))
    draws = torch.full((1, width_of(augmentation)), value)
    expected = slow(images[0].numpy(), draws[0].numpy(), 1.0, augmentation)
    changed = augment(images, draws, 1.0, augmentation)
    torch.testing.assert_close(changed[0], torch.from_numpy(expected))


def test_memory_format_makes_no_difference():
    images, draws = make_images(16, dtype=torch.float32), rows(16, ALL)
    other = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(augment(other, draws, 1.0, ALL), augment(images, draws, 1.0, ALL))


def test_no_value_is_looked_at_and_the_shape_is_known_beforehand():
    images, draws = torch.empty(6, 3, 16, 16, device="meta"), torch.empty(6, width_of(ALL), device="meta")
    assert augment(images, draws, torch.empty((), device="meta"), ALL).shape == images.shape


# --- derivatives


@EACH
def test_both_derivatives_are_right(name):
    draws = rows(40, only(name))
    draws = draws[draws[:, 0] < 0.5][:2]
    images = make_images(2, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, draws, 0.5, only(name)), images)
    assert torch.autograd.gradgradcheck(lambda x: augment(x, draws, 0.5, only(name)).pow(3), images)


def test_a_penalty_on_the_images_before_has_a_gradient_in_the_critic():
    images, draws, weights = make_images(4), rows(4, ALL), make_images(1)[0].requires_grad_()

    def penalty(weights):
        shown = images.clone().requires_grad_()
        logits = (augment(shown, draws, 1.0, ALL) * weights).sum(dim=(1, 2, 3)).pow(2)
        (gradient,) = torch.autograd.grad(logits.sum(), shown, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(penalty, weights, fast_mode=True)


# --- the numbers, and how often each augmentation is applied


@FEW
@given(start=st.integers(0, 10**9), batches=st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_however_a_range_is_batched_each_image_gets_the_same_numbers(start, batches):
    whole = rows(sum(batches), ALL, start)
    ends = start + np.cumsum([0, *batches])
    parts = [rows(int(b - a), ALL, int(a)) for a, b in pairwise(ends)]
    assert torch.equal(whole, torch.cat(parts)) and whole.shape == (sum(batches), width_of(ALL))
    assert whole.dtype == torch.float32 and bool(((whole >= 0) & (whole < 1)).all())


def test_images_purposes_seeds_and_attempts_have_numbers_of_their_own():
    drawn = {
        augment_draws(Stream(seed, attempt), player, index, 1, CPU, ALL).numpy().tobytes()
        for seed in (0, 1)
        for attempt in (0, 1)
        for player in "DG"
        for index in (0, 1)
    }
    assert len(drawn) == 16


def test_the_numbers_are_uniform_in_every_column():
    draws = rows(4000, ALL).numpy()
    assert min(stats.kstest(column, "uniform").pvalue for column in draws.T) > 1e-3
    assert np.abs(np.corrcoef(draws.T) - np.eye(draws.shape[1])).max() < 0.08


LIKELY = {  # the share of images that an augmentation at strength 1 changes: not those turned by nothing
    "flip": 1 / 2,
    "vflip": 1 / 2,
    "turns": 3 / 4,
    "translation": 1 - 1 / 9,  # by -1, 0 or 1 pixels of 8, twice
    "cutout": 1,
    "color": 1,
}


@EACH
@pytest.mark.parametrize(("p", "strength"), [(1.0, 1.0), (1.0, 0.3), (0.5, 0.8)])
def test_a_augmentation_is_applied_with_probability_p_times_its_strength(name, p, strength):
    images, augmentation = make_images(3000), only(name, strength)
    changed = (augment(images, rows(3000, augmentation), p, augmentation) != images).flatten(1).any(1)
    assert stats.binomtest(int(changed.sum()), 3000, min(1, p * strength * LIKELY[name])).pvalue > 1e-4


def places(name: str, height: int = 16, width: int = 8, count: int = 6000) -> np.ndarray:
    """How often each pixel of an image of ones is kept."""
    return (
        augment(torch.ones(count, 3, height, width), rows(count, only(name)), 1.0, only(name)).mean(dim=(0, 1)).numpy()
    )


def test_all_shifts_are_alike_and_at_most_an_eighth_of_each_side():
    across = np.array([2, 3, *[3] * 4, 3, 2]) / 3  # by -1, 0, 1
    down = np.array([3, 4, *[5] * 12, 4, 3]) / 5  # by -2 .. 2
    assert np.abs(places("translation") - np.outer(down, across)).max() < 0.03


def test_a_cutout_of_half_of_each_side_is_about_any_pixel_alike():
    def hit(side: int) -> np.ndarray:
        centers, places = np.arange(side + 1)[:, None], np.arange(side)
        return ((places >= centers - side // 4) & (places < centers + side // 4)).mean(axis=0)

    assert np.abs(places("cutout") - (1 - np.outer(hit(16), hit(8)))).max() < 0.03


def test_colors_keep_the_mean_apart_from_the_brightness():
    """Saturation and contrast are relative to the image, so the mean color of many does not change."""
    images = torch.full((4000, 3, 4, 4), 0.0) + torch.tensor([0.5, -0.2, 0.1])[:, None, None]
    changed = augment(images, rows(4000, only("color")), 1.0, only("color"))
    torch.testing.assert_close(changed.mean(dim=(0, 2, 3)), torch.tensor([0.5, -0.2, 0.1]), atol=0.03, rtol=0)
