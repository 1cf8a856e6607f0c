"""What measuring quality costs, beside the usual library in the same run.

Each function gives its figures; torch and the libraries beside it are loaded there only.
"""

import unittest.mock
from pathlib import Path

from benchmarks.figures import Figure, in_turns


def metrics(folder: Path, repeat: int = 5) -> list[Figure]:
    """All of METRICS, `repeat` times, on as many cores as torch takes. folder: for weights."""
    return [figure for measure in METRICS for figure in measure(repeat, folder)]


def inception_figures(repeat: int, folder: Path, pictures: int = 50) -> list[Figure]:
    """Our features beside those of pytorch-fid's own network: the same weights and pictures, in turns.

    pictures: at a time; pytorch-fid's own default.
    """
    import numpy as np
    import torch

    from pggan.data.builtin import draw
    from pggan.metrics import inception

    state = random_weights(torch.Generator().manual_seed(0))
    torch.save(state, folder / "weights.pth")
    ours, theirs = inception.open_network(str(folder / "weights.pth")), pytorch_fid_network(state)
    drawn = [draw(0, index, 299, 299)[0] for index in range(pictures)]
    images = torch.from_numpy(np.stack(drawn)).movedim(-1, 1).contiguous()  # uint8 [N, 3, 299, 299]

    @torch.no_grad()
    def reference(batch: int = pictures):
        # it takes 0..1 to -1..1; the same values as ours
        return np.concatenate([theirs(part.float() / 256)[0][:, :, 0, 0] for part in images.split(batch)])

    wanted = reference()
    error = np.abs(ours.features(images) - wanted).max() / np.abs(wanted).max()
    seconds = in_turns(repeat, lambda: ours.features(images), reference, lambda: reference(8))
    mine, whole, parts = ([pictures / taken for taken in column] for column in zip(*seconds, strict=True))
    return [
        Figure("Inception features, speed over pytorch-fid's network", "x", 1.5, [b / a for a, b, _ in seconds], True),
        Figure("- over the same in batches of 8, its best", "x", None, [c / a for a, _, c in seconds]),
        Figure("- ours", "images/s", None, mine),
        Figure("- pytorch-fid", "images/s", None, whole),
        Figure("- pytorch-fid in batches of 8", "images/s", None, parts),
        Figure("- largest difference of a feature, of the largest", "", 1e-4, [float(error)]),
    ]


def frechet_figures(repeat: int, folder: Path) -> list[Figure]:
    """Of two sets with full covariances of 2048 features, the most work there is; their moments are taken before."""
    import numpy as np

    from pggan.metrics.frechet import frechet_distance, moments

    rng = np.random.default_rng(0)
    mix = rng.standard_normal((2048, 2048), dtype=np.float32) / 45
    one, two = (moments(rng.standard_normal((2500, 2048), dtype=np.float32) @ mix + shift) for shift in (0, 0.1))
    taken = [seconds for (seconds,) in in_turns(repeat, lambda: frechet_distance(one, two))]
    return [Figure("Frechet distance, two sets of 2,500 by 2048", "s", 1.5, taken)]


def diversity_figures(repeat: int, folder: Path, count: int = 500) -> list[Figure]:
    """The score D with its interval, beyond features; and all that is measured of so many samples, features too."""
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
        Figure(f"D with its interval, {count} samples, beyond features", "s", 1, alone),
        Figure(f"- every measure of {count} samples of 64 px, features and copies included", "s", None, whole),
    ]


METRICS = (inception_figures, frechet_figures, diversity_figures)


def random_weights(generator) -> dict:
    """A state dict as it is published, of Inception's shapes, drawn from a torch.Generator.

    He et al. 2015 with batch norms of all sorts, so that features of different pictures differ.
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
    """pytorch-fid's network up to the 2048 features, with these weights, for pictures of 299 px within 0..1."""
    from pytorch_fid import inception

    with unittest.mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
        return inception.InceptionV3(resize_input=False).eval()
