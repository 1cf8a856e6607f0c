"""A run of its own at one resolution, stable or in its fade, that goes on for as long as somebody measures it."""

import sys
import time
from statistics import median

import torch

from pggan.config.presets import with_settings
from pggan.config.schema import Config
from pggan.data.packing import ImageCache, pack
from pggan.data.sources import open_source
from pggan.run import dry_run
from pggan.run.loop import pictures_at
from pggan.run.preparing import open_graphs
from pggan.run.setup import CROP_MARGIN, check_enough
from pggan.schedule.stages import Stage, stage_of
from pggan.training.losses import LOSSES
from pggan.training.step import step

FAR = 10_000_000  # images shown before the first step: so far into a fade a second of steps hardly moves alpha


class Trial:
    """Networks that are new, at `res` of `config`, trained step by step on `packed` pictures.

    alpha: 1, or below that about where in the fade it stays; it moves a little with each step, as in any run.
    A cycle is as many steps as lie from one penalty to the next, one unless it is lazy.
    """

    def __init__(self, config: Config, res: int, alpha: float, packed: ImageCache, device: torch.device):
        self.state = dry_run.state_at(config, res, device)
        planned = stage_of(config.schedule, res, 0, first=not self.state.G.grown)
        open_graphs(self.state, planned, 0.0, say=_tell)  # compiled where a run would be
        self.steps_a_cycle = config.training.penalty_interval
        cycle = self.steps_a_cycle * self.state.batch()
        self.state.nimg = -(-FAR // cycle) * cycle
        fade = 0 if alpha == 1 else round(self.state.nimg / alpha)
        self.stage = Stage(res, 0, fade, stable=10**15)
        self.pictures = pictures_at(packed, self.state)
        self.waits: list[float] = []

    @property
    def device(self) -> torch.device:
        return self.state.device

    @property
    def alpha(self) -> float:
        return self.stage.alpha(self.state.nimg)

    @property
    def waited(self) -> float:
        """Seconds that a step waits for its pictures: the median so far."""
        return median(self.waits)

    def reals(self) -> torch.Tensor:
        start = time.perf_counter()
        reals = self.pictures.batch(self.state.nimg, self.state.batch())
        self.waits.append(time.perf_counter() - start)
        return reals

    def train(self, reals: torch.Tensor) -> None:
        step(self.state, self.stage, reals, say=_tell)
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
    """The pictures of --data, packed for these resolutions where they are not yet. Raises UserError."""
    source = open_source(config.data.data, config.data.builtin_images, cache=config.data.cache)
    margin = CROP_MARGIN if config.data.random_crop else 1.0
    packed = pack(source, [(res, *config.network.size(res)) for res in resolutions], config.data.fit, margin)
    check_enough(config, len(packed), max(int(config.training.batch.at(res)) for res in resolutions))
    return packed


def uncompiled(config: Config) -> Config:
    """`config` for counting what is done: nothing of it is seen in compiled code."""
    return with_settings(config, {"compile": "off"})


def few(config: Config, res: int) -> Config:
    """`config` with one group of minibatch stddev for a batch."""
    batch = min(int(config.training.batch.at(res)), config.network.stddev_group or 4)
    return with_settings(config, {"batch": str(batch)})
