"""Training at one resolution, stable or in its fade, for as long as it is measured."""

import sys
import time

import torch

from pggan.config.presets import with_settings
from pggan.config.schema import Config
from pggan.data.packing import ImageCache
from pggan.data.sources import open_source
from pggan.run.profiling import step_kinds, trial_state
from pggan.run.setup import batches_at, check_enough, pack_images
from pggan.schedule.stages import Stage
from pggan.training.compile import graphs_for
from pggan.training.gradient_workers import GradientWorkers
from pggan.training.step import step

FAR = 10_000_000  # images shown before the first step: with so many, alpha hardly changes in a step


class Trial:
    """New networks at `res` of `config`, trained step by step on `images`, compiled where a run would be.

    alpha: 1, or a place in the fade; it moves a little with each step, as in a run. A cycle has each kind of step as
    often as a run has it: it is one step, unless the penalty or D comes in every so many steps only.
    """

    def __init__(
        self,
        config: Config,
        res: int,
        alpha: float,
        images: ImageCache,
        device: torch.device,
        workers: GradientWorkers | None = None,
    ):
        self.config, self.alpha, self.images, self.device = config, alpha, images, device
        self.state = trial_state(config, res, device)
        self.state.workers = workers
        self.state.graphs = graphs_for(config.training.compile, device, say=_tell)
        self.steps_a_cycle = sum(count for _, count in step_kinds(config, res))
        self.images_a_cycle = self.steps_a_cycle * self.state.batch()
        self.state.nimg = -(-FAR // self.images_a_cycle) * self.images_a_cycle
        self.state.stage.plan = Stage(res, fade=0 if alpha == 1 else round(self.state.nimg / alpha))
        self.batches = batches_at(images, self.state)
        self.waits: list[float] = []  # seconds of fetching each batch

    def reals(self) -> torch.Tensor:
        """Fetches the next batch."""
        start = time.perf_counter()
        reals = self.batches.batch(self.state.nimg, self.state.batch())
        self.waits.append(time.perf_counter() - start)
        return reals

    def train(self, reals: torch.Tensor) -> None:
        step(self.state, reals, say=_tell)
        self.state.nimg += self.state.batch()

    def cycle(self) -> None:
        for _ in range(self.steps_a_cycle):
            self.train(self.reals())

    def uncompiled(self, batch: int) -> "Trial":
        """A trial of its own to count operations or bytes, which compiled code hides. batch: images a step."""
        config = with_settings(self.config, {"compile": "off", "batch": str(batch)})
        return Trial(config, self.state.res, self.alpha, self.images, self.device)


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def open_images(config: Config, resolutions: list[int]) -> ImageCache:
    """The images of --data, packed at these resolutions. Raises UserError."""
    source = open_source(config.data.data, config.data.builtin_images, cache=config.data.cache)
    images = pack_images(config, source, resolutions)
    check_enough(config, len(images), resolutions)
    return images
