"""The progress bar of a run."""

import os
import sys
import time

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10  # where the output is no terminal


class ProgressBar:
    """A tqdm bar on a terminal, a line of text now and then elsewhere.

    total, done: of the whole run and so far, in images or in seconds.
    """

    def __init__(self, total: float, done: float):
        look = "{percentage:3.0f}% |{bar}| {desc}"
        self.bar = tqdm(total=total, initial=done, disable=None, dynamic_ncols=True, bar_format=look)
        self.printed = -float("inf")

    def show(
        self, res: int, nimg: int, alpha: float, images_per_s: float, memory: float, seconds_left: float, done: float
    ) -> None:
        """Updates the bar, or prints a line if the last one is long ago.

        nimg: real images shown. memory: bytes. done: so far, in the unit of `total`.
        """
        text = (
            f"{res:>4} px  alpha {alpha:.2f}  {nimg / 1000:8.2f} kimg  {images_per_s:7.1f} img/s  "
            f"{memory / 2**30:5.2f} GiB  about {duration(seconds_left)} left"
        )
        if not self.bar.disable:
            self.bar.set_description_str(text, refresh=False)
            self.bar.n = min(done, self.bar.total)
            self.bar.refresh()
        elif time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES:
            self.printed = time.monotonic()
            print_safely(text)

    def print_line(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        self.bar.clear()
        print_safely(text)

    def close(self) -> None:
        self.bar.close()


def print_safely(text: str) -> None:
    """Prints a line. If stdout is closed (`| head`, a closed terminal), training goes on silently."""
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
