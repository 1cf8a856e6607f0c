"""How much time fetching batches takes beside the steps, with the class that training uses."""

import time
from statistics import median

import numpy as np
from case import Case
from sides import open_side
from worker import finish

from pggan.data.batches import BatchLoader

IMAGES = 1400  # as many as a small data set has


def waiting(case: Case, rounds: int, seconds: float) -> dict:
    """The share of the time spent on fetching batches, and how much slower steps are with it. The images are noise."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (IMAGES, case.res, case.res, 3), dtype=np.uint8)
    side = open_side(case)
    cache = type("Noise", (), {"images": lambda self, res: pixels})()
    size = (case.res, case.res)
    batches = BatchLoader(cache, case.res, size, side.state.stream, mirror=True, random_crop=False, device=case.device)

    def run(steps: int, fetched: bool) -> tuple[float, float]:
        """(total seconds, seconds of fetching)"""
        finish(case.device)
        start, fetching = time.perf_counter(), 0.0
        for _ in range(steps):
            if fetched:
                began = time.perf_counter()
                side.reals = batches.batch(side.state.nimg, case.batch)
                fetching += time.perf_counter() - began
            side.step()
        finish(case.device)
        return time.perf_counter() - start, fetching

    run(3, True)
    steps = max(2, round(seconds / run(1, True)[0]))
    turns = [(run(steps, True), run(steps, False)[0]) for _ in range(rounds)]
    return {
        "res": case.res,
        "batch": case.batch,
        "s_per_kimg": median(1000 * fetching / (steps * case.batch) for (_, fetching), _ in turns),
        "host_share": median(fetching / took for (took, fetching), _ in turns),
        "slower_by": [took / without - 1 for (took, _), without in turns],
    }
