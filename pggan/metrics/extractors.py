"""Feature extractors for distances between sets of images: one for each space in `spaces.SPACES`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from pggan.metrics import inception
from pggan.metrics.inception import Network
from pggan.metrics.random_features import WIDTH, filters_digest
from pggan.metrics.resizing import to_inception
from pggan.metrics.small_images import features, read_one
from pggan.metrics.spaces import SPACES, VERSION

RANDOM, INCEPTION = "rand", "inception"
UNPUBLISHED = "unpublished"  # Inception with other weights than the published ones


@dataclass(frozen=True)
class Extractor:
    """Turns images into features.

    space: its name in keys of JSON: inception_tf, inception_clean, or as in `spaces.SPACES`. digest: of its weights.
    protocol: everything else the features depend on. words: all of that for people.
    """

    space: str
    digest: str
    protocol: dict[str, str | int]
    words: str
    prepare: Callable[[np.ndarray], np.ndarray]  # uint8 [H, W, 3] -> an array to be stacked; called in threads
    features: Callable[[np.ndarray], np.ndarray]  # stacked results of `prepare`, [N, ...] -> float32 [N, D]


def open_extractor(
    name: str, weights: str | None = None, device: torch.device | str = "cpu", how: str = "tf"
) -> Extractor:
    """The extractor of the feature space `name`.

    For Inception: weights, device: see `open_network`; how: the resizing to 299x299 px, tf or clean, see `resizing`.
    Raises UserError for weights that cannot be used.
    """
    if name == INCEPTION:
        return _of_inception(inception.open_network(weights, device), how)
    space = SPACES[name]
    function, side = space.load(), space.side
    digest, protocol, words = space.version, {"space": name}, f"{name} features {space.version}"
    if name == RANDOM:
        digest, protocol = filters_digest(), {"version": VERSION, "features": WIDTH}
        words = f"RFD {WIDTH}-d random filters (sha256 {digest[:8]}..., balanced by the reals)"
    words += f", squashed to {side}x{side}"
    prepare, extract = partial(read_one, side=side), partial(features, space=function, side=side)
    return Extractor(name, digest, protocol, words, prepare, extract)


def _of_inception(network: Network, how: str) -> Extractor:
    """The name of the space says the resizing and whether the weights are published: other FIDs do not compare."""
    space, published = (INCEPTION, "published") if network.published else (UNPUBLISHED, "not the published ones")
    words = f"FID {inception.WIDTH}-d Inception (weights sha256 {network.digest[:8]}..., {published}), resize {how}"
    protocol = {"resize": how, "device": network.device.type}
    prepare = partial(to_inception, how=how)
    return Extractor(f"{space}_{how}", network.digest, protocol, words, prepare, network.features)
