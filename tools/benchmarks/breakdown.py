"""Where the time of a step goes: to which player, and to convolutions and matrix products or to all else."""

import os
import re
import time
from collections import Counter

from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import finish, measured, window
from benchmarks.trial import Trial

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or its profiler writes notes to stderr

# torch's operators that are convolutions and matrix products, forward and backward, whatever library does the work
DENSE = re.compile(r"\w+::(\w*conv(?!ert)\w*|(add|b|addb|baddb)?mm|\w*_linear\w*)")


def split_seconds(trial: Trial, cycles: int) -> dict[str, float]:
    """Mean seconds of a step over `cycles`: data (the batch of images), d, g, and average (G_ema, and the rest).

    d lasts until D's weights are changed, latents, fakes and penalty included; g until G's weights are. Adam's hooks
    mark the ends and wait for the device, so the sum may be above the time of a step without them.
    """
    state, spent = trial.state, Counter()
    last = time.perf_counter()

    def mark(name: str) -> None:
        nonlocal last
        finish(trial.device)
        now = time.perf_counter()
        spent[name] += now - last
        last = now

    players = {"d": state.opt_D, "g": state.opt_G}
    hooks = [adam.register_step_post_hook(lambda *_, name=name: mark(name)) for name, adam in players.items()]
    try:
        for _ in range(cycles * trial.steps_a_cycle):
            mark("between")
            reals = trial.reals()
            mark("data")
            trial.train(reals)
            mark("average")
    finally:
        for hook in hooks:
            hook.remove()
    steps = cycles * trial.steps_a_cycle
    return {name: spent[name] / steps for name in ("data", "d", "g", "average")}


def player_seconds(trial: Trial, cycles: int) -> dict[str, float]:
    """`split_seconds` with the penalty apart: the seconds that D takes longer than without it.

    The trial has no penalty afterwards.
    """
    taken = {**split_seconds(trial, cycles), "penalty": 0.0}
    if trial.penalized:
        trial.without_penalty()
        measured(trial.cycle, trial.device, 0, 1)  # to warm up: without a penalty D may have to be compiled anew
        bare = split_seconds(trial, cycles)["d"]
        taken["penalty"], taken["d"] = taken["d"] - bare, bare
    return taken


def dense_share(trial: Trial, step_s: float) -> float | None:
    """The share of a step spent in convolutions and matrix products, by torch's profiler; None if it cannot tell.

    step_s: seconds of a step without the profiler. On a GPU, the share is the seconds of kernels over step_s; on a CPU,
    the seconds of operators over those of the profiled step.
    """
    kinds = {"cpu": [ProfilerActivity.CPU], "cuda": [ProfilerActivity.CPU, ProfilerActivity.CUDA]}
    if trial.device.type not in kinds:
        return None
    with profile(activities=kinds[trial.device.type]) as seen:
        seconds = window(trial.cycle, trial.device)
    cpu = trial.device.type == "cpu"
    spent = "self_cpu_time_total" if cpu else "self_device_time_total"
    dense = sum(getattr(row, spent) for row in seen.key_averages() if DENSE.fullmatch(row.key)) / 1e6  # microseconds
    whole = seconds if cpu else step_s * trial.steps_a_cycle
    return dense / whole if dense else None
