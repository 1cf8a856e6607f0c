"""Times repeated work: first until its speed is steady, then in windows, each ending with one wait for the device."""

import math
import time
from collections.abc import Callable
from statistics import median

import torch

AGREE = 1.1  # the last three times of steady work differ by less than this factor
LEAST_WARM_UPS, MOST_WARM_UPS = 3, 20


def finish(device: torch.device) -> None:
    """Waits until the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize()


def measured(
    work: Callable[[], object], device: torch.device, seconds: float, repeat: int
) -> tuple[list[float], float]:
    """Times `work` in `repeat` windows of about `seconds` in all, after a warm-up, which includes compiling.

    Returns (mean seconds of one piece of work in each window, seconds lost in the warm-up). A window does the work at
    least once.
    """
    before = [window(work, device)]
    while not steady(before) and len(before) < MOST_WARM_UPS:
        before.append(window(work, device))
    count = max(1, math.ceil(seconds / repeat / min(before)))
    windows = [window(work, device, count) for _ in range(repeat)]
    return windows, max(sum(before) - len(before) * median(windows), 0.0)


def steady(times: list[float]) -> bool:
    """Whether the last three times agree, and none before was faster."""
    last = times[-LEAST_WARM_UPS:]
    return len(last) == LEAST_WARM_UPS and max(last) <= AGREE * min(times)


def window(work: Callable[[], object], device: torch.device, count: int = 1) -> float:
    """Mean seconds of one piece of work, done `count` times without a wait in between."""
    finish(device)
    start = time.perf_counter()
    for _ in range(count):
        work()
    finish(device)
    return (time.perf_counter() - start) / count
