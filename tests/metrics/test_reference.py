"""The reference of real images: which image is which, what is refused, and that arrays keep all of it."""

import io

import numpy as np
import pytest
import torch

from pggan.data.builtin import draw
from pggan.errors import UserError
from pggan.evaluation.figures import records
from pggan.metrics import reference as module
from pggan.metrics import small_images, spaces
from pggan.metrics.cache import from_arrays, to_arrays
from pggan.metrics.copies import find_copies, thumbnails
from pggan.metrics.random_features import balance, random_features
from pggan.metrics.reference import Reference
from pggan.metrics.scores import score

COUNT = 205


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """uint8 [305, 64, 64, 3]: real pictures and 100 samples; ten reals are there twice."""
    drawn = np.stack([draw(34, index, 64, 64)[0] for index in range(COUNT + 100)])
    drawn[150:160] = drawn[:10]
    return drawn


@pytest.fixture(scope="module")
def reference(pictures) -> Reference:
    """Making it draws no global random numbers."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    found = Reference.of(pictures[:COUNT])
    assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])
    return found


def same(one: Reference, other: Reference) -> bool:
    ours, others = to_arrays(one), to_arrays(other)
    return ours.keys() == others.keys() and all(
        ours[name].dtype == others[name].dtype and np.array_equal(ours[name], others[name]) for name in ours
    )


def soft(pictures: np.ndarray, name: str) -> np.ndarray:
    return spaces.mode_features(small_images.softened(small_images.read(pictures)))[name].double().numpy()


# --- which picture is which --------------------------------------------------------------------------------------


def test_half_of_the_reals_are_held_out_and_the_others_fitted(reference):
    assert sorted(reference.order) == list(range(COUNT)) and reference.order.tolist() != list(range(COUNT))
    assert reference.count == 102 and len(reference.held_out_z) == 102 and len(reference.fitted_z) == 103
    both = np.concatenate([reference.held_out_z, reference.fitted_z])
    assert np.array_equal(both, reference.z[reference.order])


def test_points_and_thumbnails_are_of_all_reals_in_their_own_order(reference, pictures):
    reals = pictures[:COUNT]
    np.testing.assert_allclose(
        reference.z, reference.projection(small_images.features(reals, spaces.handcrafted)), atol=1e-5
    )
    assert np.array_equal(reference.thumbs, thumbnails(small_images.read(reals)))


def test_the_space_is_fitted_to_the_fitting_reals_alone(reference):
    assert (reference.fitted_z**2).sum(axis=1).mean() == pytest.approx(1)
    np.testing.assert_allclose(reference.fitted_z.mean(axis=0), 0, atol=1e-9)
    assert np.abs(reference.held_out_z.mean(axis=0)).max() > 1e-3
    for points in reference.modes.values():
        assert (points.fitted**2).sum(axis=1).mean() == pytest.approx(1)


def test_each_part_is_of_the_reals_that_it_says(pictures, monkeypatch):
    """Not all reals are used: numbers within a batch must not be confused with numbers within the set."""
    held, fitted, baseline = 60, 70, 40
    for name, value in {"HELD_OUT": held, "FITTED": fitted}.items():
        monkeypatch.setattr(module, f"MOST_{name}", value)
    monkeypatch.setattr(module, "BASELINE", baseline)
    monkeypatch.setattr(small_images, "BATCH", 50)
    reals = pictures[:COUNT]
    found = Reference.of(reals)
    first, second = np.split(found.order[: found.count + fitted], [found.count])
    assert found.count == len(first) == min(held, COUNT // 2)
    for name, points in found.modes.items():
        np.testing.assert_allclose(points.held_out, points.projection(soft(reals[first], name)), atol=1e-4)
        np.testing.assert_allclose(points.fitted, points.projection(soft(reals[second], name)), atol=1e-4)
    chosen = np.concatenate([first, second])
    features = random_features(reals[chosen])
    np.testing.assert_allclose(found.random, balance(features)(features), atol=1e-4)
    classified = small_images.features(reals[chosen], spaces.classifier)
    np.testing.assert_allclose(np.concatenate(found.split(found.classifier)), classified, atol=1e-4)
    assert [len(part) for part in found.split(found.random)] == [found.count, fitted]
    sharp = small_images.features(reals[chosen], lambda images: spaces.detail(images)[:, None])
    assert found.detail_spread == pytest.approx(sharp.std(), rel=1e-4)
    assert found.contrast == pytest.approx(
        small_images.contrast(small_images.read(reals[chosen])).mean().item(), rel=1e-4
    )
    some = first[:baseline]
    mirrored = found.projection(small_images.features(reals[some][:, :, ::-1], spaces.handcrafted))
    expected = find_copies(found.thumbs[some], [found.z[some], mirrored], found.thumbs, found.z, some)
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-4)


def test_a_real_that_is_there_twice_has_similarity_one(reference):
    twins = np.isin(reference.order[: reference.count], [*range(10), *range(150, 160)])
    assert twins.sum() > 5 and (reference.similarity[twins] > 0.999).all()
    assert np.median(reference.similarity[~twins]) < 0.75


def test_another_seed_holds_out_other_reals(reference, pictures):
    other = Reference.of(pictures[:COUNT], seed=1)
    assert sorted(other.order) == sorted(reference.order) and not np.array_equal(other.order, reference.order)


def test_a_second_time_and_from_a_read_only_memory_map_it_is_the_same(reference, pictures, tmp_path):
    np.save(tmp_path / "reals.npy", pictures[:COUNT])
    assert same(Reference.of(np.load(tmp_path / "reals.npy", mmap_mode="r")), reference)


def test_reals_may_be_of_any_shape():
    reals = np.random.default_rng(0).integers(0, 256, (200, 5, 9, 3), dtype=np.uint8)
    found = Reference.of(reals)
    assert found.count == 100 and all(np.isfinite(each).all() for each in to_arrays(found).values())


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 199])
def test_fewer_than_200_reals_are_refused_in_a_line_that_says_how_many_there_are(pictures, count):
    with pytest.raises(UserError, match=rf"200 real pictures or more.* {count}$"):
        Reference.of(pictures[:count])


@pytest.mark.parametrize(("count", "color"), [(201, 77), (203, None)])
def test_reals_that_are_all_the_same_are_refused(pictures, count, color):
    """Also where rounding makes the mean of equal numbers another number."""
    one = pictures[0] if color is None else np.full((64, 64, 3), color, np.uint8)
    with pytest.raises(UserError, match="same"):
        Reference.of(np.broadcast_to(one, (count, 64, 64, 3)))


# --- arrays ------------------------------------------------------------------------------------------------------


def test_arrays_hold_all_of_it_bit_for_bit_and_it_scores_the_same(reference, pictures):
    file = io.BytesIO()
    np.savez(file, **to_arrays(reference))
    file.seek(0)
    with np.load(file, allow_pickle=False) as content:
        arrays = dict(content)
    for array in arrays.values():
        array.flags.writeable = False
    back = from_arrays(Reference, arrays)
    assert same(back, reference) and back.count == reference.count
    ours, others = (score(each, pictures[COUNT:]) for each in (back, reference))
    assert records(ours) == records(others) and ours.evidence == others.evidence and ours.reason == others.reason
    assert np.array_equal(ours.copies.similarity, others.copies.similarity)


def test_scoring_changes_nothing_in_it(reference, pictures):
    before = {name: array.copy() for name, array in to_arrays(reference).items()}
    score(reference, pictures[COUNT:])
    after = to_arrays(reference)
    assert all(np.array_equal(before[name], after[name]) for name in before)
