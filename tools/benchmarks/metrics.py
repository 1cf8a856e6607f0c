"""What evaluating samples costs, beside the usual library. torch and the libraries are loaded by the functions only."""

import unittest.mock
from pathlib import Path

from benchmarks.figures import Figure, in_turns


def metrics(folder: Path, repeat: int = 5) -> list[Figure]:
    """All figures, each measured `repeat` times on as many cores as torch uses. folder: for weights."""
    return [*inception_figures(repeat, folder), *frechet_figures(repeat), *diversity_figures(repeat)]


def inception_figures(repeat: int, folder: Path, batch: int = 50) -> list[Figure]:
    """Our Inception features beside pytorch-fid's: same weights and images, in turns.

    batch: images at a time; the default is pytorch-fid's own.
    """
    import numpy as np
    import torch

    from pggan.data.builtin import draw
    from pggan.metrics import inception

    state = random_weights(torch.Generator().manual_seed(0))
    torch.save(state, folder / "weights.pth")
    ours, theirs = inception.open_network(str(folder / "weights.pth")), pytorch_fid_network(state)
    drawn = [draw(0, index, 299, 299)[0] for index in range(batch)]
    images = torch.from_numpy(np.stack(drawn)).movedim(-1, 1).contiguous()  # uint8 [N, 3, 299, 299]

    @torch.no_grad()
    def reference(size: int = batch):
        # it maps 0..1 to -1..1, the same values as ours
        return np.concatenate([theirs(part.float() / 256)[0][:, :, 0, 0] for part in images.split(size)])

    wanted = reference()
    error = np.abs(ours.features(images) - wanted).max() / np.abs(wanted).max()
    seconds = in_turns(repeat, lambda: ours.features(images), reference, lambda: reference(8))
    mine, whole, parts = ([batch / taken for taken in column] for column in zip(*seconds, strict=True))
    return [
        Figure("Inception features, speed over pytorch-fid's network", "x", 1.5, [b / a for a, b, _ in seconds], True),
        Figure("- over the same in batches of 8, its best", "x", None, [c / a for a, _, c in seconds]),
        Figure("- ours", "images/s", None, mine),
        Figure("- pytorch-fid", "images/s", None, whole),
        Figure("- pytorch-fid in batches of 8", "images/s", None, parts),
        Figure("- largest difference of a feature, of the largest", "", 1e-4, [float(error)]),
    ]


def frechet_figures(repeat: int) -> list[Figure]:
    """The Frechet distance of two sets with full covariances of 2048 features, the slowest case, without moments."""
    import numpy as np

    from pggan.metrics.frechet import frechet_distance, moments

    rng = np.random.default_rng(0)
    mix = rng.standard_normal((2048, 2048), dtype=np.float32) / 45
    one, two = (moments(rng.standard_normal((2500, 2048), dtype=np.float32) @ mix + shift) for shift in (0, 0.1))
    taken = [seconds for (seconds,) in in_turns(repeat, lambda: frechet_distance(one, two))]
    return [Figure("Frechet distance, two sets of 2,500 by 2048", "s", 1.5, taken)]


def diversity_figures(repeat: int, count: int = 500) -> list[Figure]:
    """The diversity score with its interval, without features; and the whole evaluation of so many samples."""
    import numpy as np

    from pggan.data.builtin import draw
    from pggan.metrics.diversity import diversity
    from pggan.metrics.reference import Reference
    from pggan.metrics.scores import score

    reals, fakes = (np.stack([draw(seed, i, 64, 64)[0] for i in range(n)]) for seed, n in ((0, 2 * count), (1, count)))
    against = Reference.of(reals)
    z = against.held_out_z[::-1].copy()
    seconds = in_turns(repeat, lambda: diversity(z, against.held_out), lambda: score(against, fakes))
    alone, whole = map(list, zip(*seconds, strict=True))
    return [
        Figure(f"diversity score, {count} samples, without features", "s", 1, alone),
        Figure(f"- whole evaluation of {count} samples at 64 px", "s", None, whole),
    ]


def random_weights(generator) -> dict:
    """A state dict with the names and shapes of the published one, drawn from a torch.Generator.

    Initialized as in He et al. 2015 with varied batch norms, so that features of different images differ.
    """
    import torch

    from pggan.metrics.inception import Inception

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


def pytorch_fid_network(state: dict):
    """pytorch-fid's network up to the 2048 features, with these weights, for images of 299 px in 0..1."""
    from pytorch_fid import inception

    with unittest.mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        return inception.InceptionV3(resize_input=False).eval()
