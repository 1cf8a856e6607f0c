"""How far a run is, for the one who watches it."""

import os
import sys
import time

import torch
from tqdm import tqdm

from pggan import system
from pggan.training.state import TrainState

SECONDS_BETWEEN_LINES = 10  # where the output is no terminal


class Progress:
    """How far the run is: a tqdm bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self, planned: float, done: float):
        look = "{percentage:3.0f}% |{bar}| {desc}"
        self.bar = tqdm(total=planned, initial=done, disable=None, dynamic_ncols=True, bar_format=look)
        self.printed = -float("inf")

    def show(
        self,
        state: TrainState,
        alpha: float,
        images_per_s: float,
        memory: float,
        seconds_left: float,
        done: float | None = None,
    ) -> None:
        """One line: resolution, alpha, kimg, images/s, memory (bytes), time left (seconds).

        done: of what is planned; None: images.
        """
        text = (
            f"{state.res:>4} px  alpha {alpha:.2f}  {state.nimg / 1000:8.2f} kimg  {images_per_s:7.1f} img/s  "
            f"{memory / 2**30:5.2f} GiB  about {duration(seconds_left)} left"
        )
        if not self.bar.disable:
            self.bar.set_description_str(text, refresh=False)
            self.bar.n = min(state.nimg if done is None else done, self.bar.total)
            self.bar.refresh()
        elif time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES:
            self.printed = time.monotonic()
            tell(text)

    def say(self, text: str) -> None:
        """A line of its own, above the bar if there is one."""
        self.bar.clear()
        tell(text)

    def close(self) -> None:
        self.bar.close()


def tell(text: str) -> None:
    """A line on stdout. Who read it may have left (`| head`, a closed terminal): training goes on, silently."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for as long as the process lives)


def duration(seconds: float) -> str:
    """`"2h05m"`, `"3m20s"`, `"12s"`"""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 60}m{seconds % 60:02d}s" if seconds >= 60 else f"{seconds}s"


def peak_memory(device: torch.device) -> int:
    """Bytes at the most so far: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return system.peak_memory()
