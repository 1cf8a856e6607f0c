"""Losses of phases that fail in some of the processes of a run. Worker processes import them by name."""

import os

import torch
import torch.multiprocessing
from torch import Tensor

Result = tuple[Tensor, dict[str, Tensor]]


def scarce(settings: object, networks: dict, inputs: object, scalars: object) -> Result:
    """Runs out of memory with more than 4 images, in the process that SCARCE names by its number, or in all."""
    rank = torch.multiprocessing.current_process().name.rpartition(" ")[2]
    if os.environ["SCARCE"] in ("all", rank) and len(inputs.mix) > 4:
        raise torch.OutOfMemoryError("CUDA out of memory")
    loss = networks["D"](inputs.reals).mean()
    return loss, {"d_loss": loss.detach()}


def broken(settings: object, networks: dict, inputs: object, scalars: object) -> Result:
    """Fails in a worker process."""
    if torch.multiprocessing.parent_process():
        raise ValueError("broken in a worker")
    loss = networks["D"](inputs.reals).mean()
    return loss, {}
