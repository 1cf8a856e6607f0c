"""Feature extractors for distances between sets of images: random filters, and Inception."""

from typing import Protocol

import numpy as np

from pggan.metrics import inception
from pggan.metrics.inception import Network
from pggan.metrics.random_features import WIDTH, filters_digest, random_features
from pggan.metrics.resizing import to_inception
from pggan.metrics.spaces import SIDE, VERSION, read_one

UNPUBLISHED = "unpublished"  # Inception with other weights than the published ones


class Extractor(Protocol):
    """Turns images into features.

    space: its name in keys of JSON: inception_tf, inception_clean, rand. digest: of its weights. protocol: everything
    else the features depend on. words: all of that for people.
    """

    space: str
    digest: str
    protocol: dict[str, str | int]
    words: str

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> an array to be stacked; called in threads."""

    def features(self, batch: np.ndarray) -> np.ndarray:
        """Stacked results of `prepare` [N, ...] -> float32 [N, D]."""


class RandomFeatures:
    """Features of random filters, from images resized to 64x64 px."""

    space, protocol = "rand", {"version": VERSION, "features": WIDTH}

    def __init__(self):
        self.digest = filters_digest()
        self.words = f"RFD {WIDTH}-d random filters (sha256 {self.digest[:8]}..., balanced by the reals)"
        self.words += f", squashed to {SIDE}x{SIDE}"

    prepare = staticmethod(read_one)
    features = staticmethod(random_features)


class InceptionFeatures:
    """Features of Inception. how: the resizing to 299x299 px, tf or clean; see `resizing`.

    The space's name says how, and whether the weights are the published ones: other FIDs do not compare.
    """

    def __init__(self, network: Network, how: str):
        self.network, self.how, self.digest = network, how, network.digest
        self.space = f"{'inception' if network.published else UNPUBLISHED}_{how}"
        self.protocol = {"resize": how, "device": network.device.type}
        self.words = f"FID {inception.WIDTH}-d Inception (weights sha256 {self.digest[:8]}..., "
        self.words += f"{'published' if network.published else 'not the published ones'}), resize {how}"

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> float32 [3, 299, 299]"""
        return to_inception(image, self.how)

    def features(self, batch: np.ndarray) -> np.ndarray:
        """float32 [N, 3, 299, 299] -> float32 [N, 2048]"""
        return self.network.features(batch)
