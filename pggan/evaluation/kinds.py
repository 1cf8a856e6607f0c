"""Counts the kinds of built-in images that a generator makes."""

from pathlib import Path

import torch

from pggan.errors import UserError
from pggan.evaluation.samples import draw_batches
from pggan.metrics.kinds import SMALLEST, KindCounts, at_reading_size, count_kinds
from pggan.training.exported import load_values
from pggan.training.loading import load_generator


def kinds_of_checkpoint(path: str, num: int, seed: int) -> KindCounts:
    """The kinds among `num` samples of a checkpoint that was trained on built-in images.

    Raises UserError for other checkpoints, and below 16 px.
    """
    trained_on = load_values(Path(path))["config"]["data"]["data"]
    if trained_on.partition(":")[0] != "builtin":
        raise UserError(f"{path} was trained on {trained_on}: only the built-in images have these kinds")
    generator, alpha = load_generator(path)
    if generator.res < SMALLEST:
        raise UserError(f"{path} is at {generator.res} px; kinds can be told apart from {SMALLEST} px on")
    batches = draw_batches(generator, alpha, seed, num, batch=64)
    images = (torch.from_numpy(samples).permute(0, 3, 1, 2) / 127.5 - 1 for samples in batches)
    return count_kinds(torch.cat([at_reading_size(some) for some in images]))
