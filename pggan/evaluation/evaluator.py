"""Quality and diversity of a generator beside its training: its samples against the pictures of the stage.

The measures look at 64x64 pixels of a picture, so larger ones are kept no larger: a few hundred samples of any size
need a few megabytes. All that is random here is drawn by a stream of its own, and no network is left otherwise than it
was found: a run that is measured is the run that is not.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from pggan.config.schema import Config
from pggan.data.packing import Pack
from pggan.errors import out_of_memory
from pggan.evaluation.samples import draw_batches
from pggan.metrics import spaces
from pggan.metrics.cache import remembered, statistics_folder
from pggan.metrics.reference import LEAST as LEAST_REALS
from pggan.metrics.reference import VERSION as REFERENCE_VERSION
from pggan.metrics.reference import Reference
from pggan.metrics.scores import VERDICTS, score
from pggan.models.networks import Generator
from pggan.randomness import Stream
from pggan.training.state import TrainState

VERSION = 1  # raise it when other pixels of the reals are measured
LEAST_RES = 16  # pixels; below there is too little to see
MOST_REALS = 5000
RAW_NUM = 200  # samples of G itself, which are looked at more cheaply than those of its average
RAW = (
    "diversity/score",
    "diversity/score_low",
    "diversity/score_high",
    "quality/rfd",
    "quality/kid_rand",
)  # figures it gets
QUALITY, HEALTHY = "quality/rfd", VERDICTS.index("healthy")
SECONDS_A_PICTURE = 0.004  # of features, at the most; for a budget that has not measured yet
DRAWN_IN_A_STEP = 6  # pictures, at the least, while a step trains on one: about 12


@dataclass(frozen=True)
class Evaluation:
    """What samples look like beside the pictures.

    figures: by their names in metrics.jsonl; those of G itself have raw_ before the last part. verdict: one of
    VERDICTS, on the average; reason: a sentence.
    """

    figures: dict[str, float]
    verdict: str
    reason: str

    @property
    def healthy(self) -> bool:
        return self.figures["diversity/verdict"] == HEALTHY

    @property
    def quality(self) -> float:
        """Of the average; lower is better."""
        return self.figures.get(QUALITY, math.inf)


def wanted(config: Config, res: int) -> bool:
    """Whether there is anything to measure at `res`."""
    return res >= LEAST_RES and config.run.eval_kimg.at(res) > 0


def reference(config: Config, pack: Pack, res: int, say: Callable[[str], None]) -> Reference:
    """What the samples at `res` are compared with, remembered from one run to the next.

    say: tells the user what takes a while, the first time. Raises UserError when there are too few pictures.
    """
    key = {
        "what": "pictures of a stage",
        "pictures": pack.fingerprint,
        "unreadable": len(pack.unreadable),
        "size": config.network.size(res),
        "fit": config.data.fit,
        "crop_margin": pack.crop_margin,
        "most": MOST_REALS,
        "version": f"{VERSION} {REFERENCE_VERSION}",
        "libraries": [np.__version__, str(torch.__version__), torch.get_num_threads()],
    }

    def make() -> dict[str, np.ndarray]:
        pictures = reals(pack, res, config.network.size(res))
        if len(pictures) >= LEAST_REALS:
            say(f"measuring {len(pictures):,} pictures at {res} px, once: what samples will be compared with")
        return Reference.of(pictures).arrays()

    return Reference.from_arrays(remembered(key, make, statistics_folder(config.data.cache)))


def reals(pack: Pack, res: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 [N, H, W, 3]: the pictures, or 5,000 of them, always the same; cut from the center of a packed margin.

    size: (width, height) in pixels.
    """
    pixels, (width, height) = pack.level(res), size
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    order = np.random.default_rng(0).permutation(len(pixels))
    chosen = np.sort(order[:MOST_REALS])
    return np.stack([kept(pixels[number, top : top + height, left : left + width]) for number in chosen])


def kept(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: as much of a picture as the measures look at."""
    return spaces.read_one(picture) if picture.shape[0] * picture.shape[1] > spaces.SIDE**2 else picture


def evaluate(state: TrainState, alpha: float, against: Reference) -> Evaluation:
    """Measures the average of G at the state's resolution and, of fewer samples, G itself. Raises UserError."""
    seed = Stream(state.config.training.seed).integer("measured samples")
    num = min(state.config.run.eval_samples, against.count)  # more would not be looked at
    scores = score(against, samples(state.G_ema, alpha, seed, num, state.batch()))
    with at_rest(state.G) as raw:
        few = score(against, samples(raw, alpha, seed, min(num, RAW_NUM), state.batch()), copies=False)
    of_raw = {key.replace("/", "/raw_"): few.figures[key] for key in RAW if key in few.figures}
    figures = {**scores.figures, "diversity/verdict": VERDICTS.index(scores.verdict), **of_raw}
    known = {key: float(value) for key, value in figures.items() if math.isfinite(value)}
    return Evaluation(known, scores.verdict, scores.reason)


def samples(generator: Generator, alpha: float, seed: int, count: int, batch: int) -> np.ndarray:
    """uint8 [count, H, W, 3], no larger than they are measured; drawn in smaller batches where memory is short."""
    while True:
        try:
            drawn = draw_batches(generator, alpha, seed, count, batch=batch)
            return np.stack([kept(picture) for pictures in drawn for picture in pictures])
        except (RuntimeError, MemoryError) as error:
            if batch == 1 or not out_of_memory(error):
                raise
        batch //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def at_rest(G: Generator) -> Iterator[Generator]:
    """G as samples are drawn of it: in full precision, and batch norm by what it has measured, measuring nothing."""
    training, half = G.training, G.autocast_dtype
    G.autocast_dtype = None
    G.eval()
    try:
        yield G
    finally:
        G.autocast_dtype = half
        G.train(training)


def seconds(config: Config, seconds_a_step: float) -> float:
    """About what an evaluation may take before one was timed. seconds_a_step: of training, for each picture."""
    count = config.run.eval_samples + min(RAW_NUM, config.run.eval_samples)
    return count * (SECONDS_A_PICTURE + seconds_a_step / DRAWN_IN_A_STEP)
