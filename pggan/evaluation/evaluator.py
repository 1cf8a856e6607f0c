"""Measures a generator during training: compares its samples with the images of the stage.

Measuring does not change training: its random numbers come from a stream of their own, and the networks are left as
they were. Images are reduced to 64x64 pixels at most: the measures need no more.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch

from pggan.config.schema import Config
from pggan.data.packing import ImageCache
from pggan.errors import out_of_memory
from pggan.evaluation import figures
from pggan.evaluation.samples import draw_batches
from pggan.metrics import small_images
from pggan.metrics.cache import Arrays, from_arrays, remembered, statistics_folder, to_arrays
from pggan.metrics.reference import LEAST as MIN_REALS
from pggan.metrics.reference import VERSION as REFERENCE_VERSION
from pggan.metrics.reference import Reference
from pggan.metrics.scores import score
from pggan.models.networks import Generator
from pggan.randomness import Stream
from pggan.training.state import TrainState

VERSION = 1  # raise it when other pixels of the real images are measured
MIN_RES = 16  # pixels; smaller images show too little
MAX_REALS = 5000
RAW_SAMPLES = 200  # of G itself; fewer than of G_ema, to save time
QUALITY = "quality/rfd"  # chooses the best checkpoint
# An estimate of the time, until an evaluation has been timed:
SECONDS_PER_SAMPLE = 0.004  # to compute features, at most
SAMPLES_PER_TRAINED_IMAGE = 6  # drawn in the time of training on one image: about 12, at least 6


@dataclass(frozen=True)
class Evaluation:
    """A measurement. figures: by key in metrics.jsonl. verdict, reason: of G_ema; see `judge`."""

    figures: dict[str, float]
    verdict: str
    reason: str

    @property
    def healthy(self) -> bool:
        return self.verdict == "healthy"

    @property
    def quality(self) -> float:
        """RFD of G_ema; lower is better, infinite if it was not finite."""
        return self.figures.get(QUALITY, math.inf)

    def record(self, nimg: int, res: int, alpha: float) -> dict:
        """A plain dict for the state: {nimg, res, alpha, figures, verdict, reason}."""
        return {"nimg": nimg, "res": res, "alpha": alpha, **asdict(self)}


def wanted(config: Config, res: int) -> bool:
    """Whether the settings ask for evaluations at `res`."""
    return res >= MIN_RES and config.run.eval_kimg.at(res) > 0


def reference(config: Config, pack: ImageCache, res: int, say: Callable[[str], None]) -> Reference:
    """Statistics of the real images, which samples at `res` are compared with. Cached on disk for later runs.

    say: prints a line for the user, the first time, which takes a while. Raises UserError for too few images.
    """
    key = {
        "what": "pictures of a stage",
        "pictures": pack.fingerprint,
        "unreadable": len(pack.unreadable),
        "size": config.network.size(res),
        "fit": config.data.fit,
        "crop_margin": pack.crop_margin,
        "most": MAX_REALS,
        "version": f"{VERSION} {REFERENCE_VERSION}",
        "libraries": [np.__version__, str(torch.__version__), torch.get_num_threads()],
    }

    def make() -> Arrays:
        images = reals(pack, res, config.network.size(res))
        if len(images) >= MIN_REALS:
            say(f"measuring {len(images):,} pictures at {res} px, once: samples will be compared with them")
        return to_arrays(Reference.of(images))

    return from_arrays(Reference, remembered(key, make, statistics_folder(config.data.cache)))


def reals(pack: ImageCache, res: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 [N, H, W, 3]: the images without their crop margin; of more than 5,000, the same 5,000 every time.

    size: (width, height) in pixels.
    """
    pixels, (width, height) = pack.images(res), size
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    chosen = np.sort(np.random.default_rng(0).permutation(len(pixels))[:MAX_REALS])
    return np.stack([shrunk(pixels[number, top : top + height, left : left + width]) for number in chosen])


def shrunk(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: the image, resized to 64x64 if it has more pixels than that."""
    return small_images.read_one(image) if image.shape[0] * image.shape[1] > small_images.SIDE**2 else image


def evaluate(state: TrainState, alpha: float, against: Reference) -> Evaluation:
    """Measures G_ema at the state's resolution, and G itself with fewer samples. Raises UserError."""
    seed = Stream(state.config.training.seed).integer("measured samples")
    count = min(state.config.run.eval_samples, against.count)  # `score` uses no more
    scores = score(against, samples(state.G_ema, alpha, seed, count, state.batch()), in_training=True)
    with at_rest(state.G) as raw:
        few = score(against, samples(raw, alpha, seed, min(count, RAW_SAMPLES), state.batch()), copies=False)
    found = {**figures.records(scores), **figures.records(few, raw=True)}
    return Evaluation(found, scores.verdict, scores.reason)


def samples(generator: Generator, alpha: float, seed: int, count: int, batch: int) -> np.ndarray:
    """uint8 [count, H, W, 3], at most 64x64 pixels each. Where memory is short, smaller batches are drawn."""
    while True:
        try:
            drawn = draw_batches(generator, alpha, seed, count, batch=batch)
            return np.stack([shrunk(image) for images in drawn for image in images])
        except (RuntimeError, MemoryError) as error:
            if batch == 1 or not out_of_memory(error):
                raise
        batch //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def at_rest(G: Generator) -> Iterator[Generator]:
    """G in evaluation mode (batch norm by its running statistics) and in full precision; restored afterwards."""
    training, dtype = G.training, G.autocast_dtype
    G.autocast_dtype = None
    G.eval()
    try:
        yield G
    finally:
        G.autocast_dtype = dtype
        G.train(training)


def seconds(config: Config, seconds_per_image: float) -> float:
    """Estimated seconds of the first evaluation. seconds_per_image: of training."""
    count = config.run.eval_samples + min(RAW_SAMPLES, config.run.eval_samples)
    return count * (SECONDS_PER_SAMPLE + seconds_per_image / SAMPLES_PER_TRAINED_IMAGE)
