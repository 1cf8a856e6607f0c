"""One pass over a set: what is kept, what is summed, and what is remembered for the next time."""

from pathlib import Path

import numpy as np
import pytest
from sets import fill

from pggan.errors import UserError
from pggan.evaluation import features
from pggan.evaluation.features import PARTS, gather
from pggan.evaluation.opening import open_set
from pggan.metrics.frechet import Moments, moments


class Means:
    """Features that are easily known: the mean color."""

    digest, protocol = "means", {"resize": "none"}

    def __init__(self):
        self.seen = 0

    def prepare(self, image: np.ndarray) -> np.ndarray:
        self.seen += 1
        return image.reshape(-1, 3).mean(axis=0)

    def features(self, batch: np.ndarray) -> np.ndarray:
        return batch.astype(np.float32)


def means_of(folder: Path) -> np.ndarray:
    return np.stack([image.reshape(-1, 3).mean(axis=0) for image in open_set(str(folder))]).astype(np.float32)


def assert_close(a: Moments, b: Moments) -> None:
    assert a.n == b.n
    assert np.allclose(a.mean, b.mean) and np.allclose(a.full().covariance, b.full().covariance)


def test_a_small_set_is_kept_whole_and_halved_at_random(tmp_path):
    folder = fill(tmp_path / "a", 21)
    gathered = gather(open_set(str(folder)), Means(), 8, 0, None)
    assert gathered.count == 21 and np.array_equal(gathered.features, means_of(folder))
    assert len(gathered.kept("first")) == 11 and len(gathered.kept("second")) == 10
    assert_close(gathered.moments(), moments(means_of(folder)))
    assert_close(gathered.moments("first"), moments(gathered.kept("first")))
    again, other = (gather(open_set(str(folder)), Means(), 8, seed, None) for seed in (0, 1))
    assert np.array_equal(again.first, gathered.first) and not np.array_equal(other.first, gathered.first)


def test_of_a_large_set_some_features_are_kept_and_all_are_summed(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "KEPT", 10)
    folder = fill(tmp_path / "a", 40)
    whole = means_of(folder)
    gathered = gather(open_set(str(folder)), Means(), 8, 3, None)
    assert gathered.count == 40 and gathered.features.shape == (10, 3)
    rows = [np.flatnonzero((whole == feature).all(axis=1)).item() for feature in gathered.features]
    assert rows == sorted(set(rows)) and rows != list(range(10))
    assert_close(gathered.moments(), moments(whole))
    halves = gathered.moments("first"), gathered.moments("second")
    assert [half.n for half in halves] == [20, 20] and len(gathered.kept("first")) == 5
    assert np.allclose(halves[0].mean + halves[1].mean, 2 * whole.mean(axis=0))


@pytest.mark.parametrize("kept", [10, 1000])
def test_a_second_pass_is_remembered_with_what_could_not_be_read(tmp_path, monkeypatch, kept):
    monkeypatch.setattr(features, "KEPT", kept)
    folder = fill(tmp_path / "a", 40)
    (folder / "007.png").write_text("no picture")
    extractor = Means()
    sets = [open_set(str(folder)) for _ in range(2)]
    first, second = (gather(images, extractor, 8, 0, tmp_path / "cache") for images in sets)
    assert extractor.seen == 39 and first.count == second.count == len(sets[1]) == 39
    assert sets[0].notes() == sets[1].notes() != []
    for part in PARTS:
        one, other = first.moments(part), second.moments(part)
        assert np.array_equal(one.mean, other.mean)
        assert np.array_equal(one.full().covariance, other.full().covariance)
        assert np.array_equal(first.kept(part), second.kept(part))


def test_whatever_a_figure_depends_on_is_measured_anew(tmp_path):
    folder, cache = fill(tmp_path / "a", 12), tmp_path / "cache"

    def passes(extractor=None, seed=0, batch=8, **how) -> bool:
        extractor = extractor or Means()
        gather(open_set(str(folder), **how), extractor, batch, seed, cache)
        return extractor.seen > 0

    def changed(**values) -> Means:
        extractor = Means()
        vars(extractor).update(values)
        return extractor

    assert passes() and not passes()
    for change in (
        {"seed": 1},
        {"batch": 4},
        {"size": (8, 8)},
        {"size": (8, 8), "fit": "pad"},
        {"extractor": changed(digest="others")},
        {"extractor": changed(protocol={"resize": "clean"})},
    ):
        assert passes(**change), change
    fill(folder, 1, seed=5)
    assert passes() and not passes()


def test_images_that_change_during_the_pass_are_not_remembered(tmp_path):
    folder = fill(tmp_path / "a", 12)

    class Meddling(Means):
        def features(self, batch: np.ndarray) -> np.ndarray:
            fill(folder, 1, seed=5)
            return super().features(batch)

    with pytest.raises(UserError, match="changed while they were read"):
        gather(open_set(str(folder)), Meddling(), 4, 0, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))
