"""Seconds of work that is repeated: until its speed is steady, then in windows with one wait for the device each."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

AGREE = 1.1  # how far apart the last three of a steady speed may be
LEAST_WARM_UPS, MOST_WARM_UPS = 3, 20


@dataclass(frozen=True)
class Timing:
    """Seconds of one piece of work, as measured in each window; warm_up: lost before, beyond that of steady work."""

    windows: list[float]
    warm_up: float

    @property
    def median(self) -> float:
        return median(self.windows)


def finish(device: torch.device) -> None:
    """Waits until the device has done all it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def measured(work: Callable[[], object], device: torch.device, seconds: float, repeat: int) -> Timing:
    """`repeat` windows of about `seconds` in all, after a warm-up; a window has at least one piece of `work`.

    What is compiled at its first use is in the warm-up.
    """
    before = [window(work, device)]
    while not steady(before) and len(before) < MOST_WARM_UPS:
        before.append(window(work, device))
    count = max(1, math.ceil(seconds / repeat / min(before)))
    windows = [window(work, device, count) for _ in range(repeat)]
    return Timing(windows, max(sum(before) - len(before) * median(windows), 0.0))


def steady(took: list[float]) -> bool:
    """Whether the last three agree, and nothing before was faster."""
    last = took[-LEAST_WARM_UPS:]
    return len(last) == LEAST_WARM_UPS and max(last) <= AGREE * min(took)


def window(work: Callable[[], object], device: torch.device, count: int = 1) -> float:
    """Seconds of one piece of work, in the mean of `count` without a wait between them."""
    finish(device)
    start = time.perf_counter()
    for _ in range(count):
        work()
    finish(device)
    return (time.perf_counter() - start) / count
