"""Weights for Inception's network that need no download, and pytorch-fid's network with them."""

import unittest.mock

import torch
from pytorch_fid import inception as theirs

from pggan.metrics.inception import Inception


def random_weights(generator: torch.Generator) -> dict:
    """A state dict with the names and shapes of the published one.

    Initialized as in He et al. 2015 with varied batch norms, so that features of different images differ.
    """

    def drawn(name: str, like: torch.Tensor) -> torch.Tensor:
        if like.ndim == 4:
            return torch.randn(like.shape, generator=generator) * (2 / like[0].numel()) ** 0.5
        if name.endswith(("running_var", "bn.weight")):
            return torch.rand(like.shape, generator=generator) + 0.5
        if like.ndim == 0:
            return torch.tensor(1)  # batches counted
        return torch.randn(like.shape, generator=generator) * 0.2

    with torch.device("meta"):
        empty = Inception().state_dict()
    return {name: drawn(name, like) for name, like in empty.items()}


def pytorch_fid_network(state: dict) -> torch.nn.Module:
    """pytorch-fid's network up to the 2048 features, with these weights, for images of 299 px in 0..1."""
    with unittest.mock.patch.object(theirs, "load_state_dict_from_url", lambda *_, **__: state):
        return theirs.InceptionV3(resize_input=False).eval()
