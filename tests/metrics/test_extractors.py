"""Extractors: each feature space can be measured in, with no code but its entry in the table."""

import numpy as np
import torch

from pggan.data.builtin import draw
from pggan.metrics import small_images, spaces
from pggan.metrics.extractors import open_extractor
from pggan.metrics.spaces import SPACES, FeatureSpace


def test_a_space_of_another_size_is_measured_in_after_one_entry(monkeypatch):
    def colors(images: torch.Tensor) -> torch.Tensor:
        assert images.shape[2:] == (32, 32)
        return images.mean((2, 3))

    monkeypatch.setitem(SPACES, "colors", FeatureSpace(lambda: colors, 32, "7", "MIT"))
    extractor = open_extractor("colors")
    images = [draw(0, index, 60, 40)[0] for index in range(3)]
    found = extractor.features(np.stack([extractor.prepare(image) for image in images]))
    np.testing.assert_allclose(found, [image.mean((0, 1)) / 127.5 - 1 for image in images], atol=0.01)
    assert (extractor.space, extractor.digest, "colors features 7" in extractor.words) == ("colors", "7", True)


def test_a_space_of_ours_gives_its_own_features():
    image, extractor = draw(0, 0, 64, 64)[0], open_extractor("handcrafted")
    found = extractor.features(extractor.prepare(image)[None])
    np.testing.assert_allclose(found, small_images.features(image[None], spaces.handcrafted))
