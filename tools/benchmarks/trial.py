"""Training at one resolution, stable or in its fade, for as many steps as are measured."""

import sys
import time
from statistics import median

import torch

from pggan.config.presets import with_settings
from pggan.config.schema import Config
from pggan.data.packing import ImageCache, pack
from pggan.data.sources import open_source
from pggan.run.profiling import trial_state
from pggan.run.setup import CROP_MARGIN, batches_at, check_enough
from pggan.schedule.stages import Stage
from pggan.training.compile import graphs_for
from pggan.training.losses import LOSSES
from pggan.training.step import step

FAR = 10_000_000  # images shown before the first step: a fade so long that the steps hardly move alpha


class Trial:
    """New networks at `res` of `config`, trained step by step on the images of `packed`.

    alpha: 1, or about where in the fade it stays; it moves a little with each step, as in any run. A cycle is the
    steps from one penalty to the next: one, unless the penalty is lazy.
    """

    def __init__(self, config: Config, res: int, alpha: float, packed: ImageCache, device: torch.device):
        self.state = trial_state(config, res, device)
        self.state.graphs = graphs_for(config.training.compile, device, _tell)
        self.steps_a_cycle = config.training.penalty_interval
        cycle = self.steps_a_cycle * self.state.batch()
        self.state.nimg = -(-FAR // cycle) * cycle
        self.state.stage.plan = Stage(res, fade=0 if alpha == 1 else round(self.state.nimg / alpha))
        self.batches = batches_at(packed, self.state)
        self.waits: list[float] = []

    @property
    def device(self) -> torch.device:
        return self.state.device

    @property
    def waited(self) -> float:
        """Seconds that a step waits for its images: the median so far."""
        return median(self.waits)

    def reals(self) -> torch.Tensor:
        start = time.perf_counter()
        reals = self.batches.batch(self.state.nimg, self.state.batch())
        self.waits.append(time.perf_counter() - start)
        return reals

    def train(self, reals: torch.Tensor) -> None:
        step(self.state, reals, say=_tell)
        self.state.nimg += self.state.batch()

    def step(self) -> None:
        self.train(self.reals())

    @property
    def images_a_cycle(self) -> int:
        return self.steps_a_cycle * self.state.batch()

    def cycle(self) -> None:
        for _ in range(self.steps_a_cycle):
            self.step()

    @property
    def penalized(self) -> bool:
        training = self.state.config.training
        return LOSSES[training.loss].penalty is not None and training.penalty_weight.at(self.state.res) > 0

    def without_penalty(self) -> None:
        """No penalty from here on."""
        self.state.config = with_settings(self.state.config, {"penalty_weight": "0"})


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def open_cache(config: Config, resolutions: list[int]) -> ImageCache:
    """The images of --data, packed for these resolutions. Raises UserError."""
    source = open_source(config.data.data, config.data.builtin_images, cache=config.data.cache)
    margin = CROP_MARGIN if config.data.random_crop else 1.0
    packed = pack(source, [(res, *config.network.size(res)) for res in resolutions], config.data.fit, margin)
    check_enough(config, len(packed), max(int(config.training.batch.at(res)) for res in resolutions))
    return packed


def uncompiled(config: Config) -> Config:
    """`config` without compiling: neither FLOPs nor memory can be counted in compiled code."""
    return with_settings(config, {"compile": "off"})


def few(config: Config, res: int) -> Config:
    """`config` with a batch of one group of minibatch stddev."""
    batch = min(int(config.training.batch.at(res)), config.network.stddev_group or 4)
    return with_settings(config, {"batch": str(batch)})
