"""Where the time of a step goes: to each player's turn, and to convolutions and matrix products or all else."""

import os
import re
import time
from collections import Counter

from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import finish, measured, window
from benchmarks.trial import Trial

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # its profiler says on stderr that it begins, and that there is no GPU

# torch's operators that are convolutions and matrix products, forward and backward, whatever library does the work
DENSE = re.compile(r"\w+::(\w*conv(?!ert)\w*|(add|b|addb|baddb)?mm|\w*_linear\w*)")


def turns(trial: Trial, cycles: int) -> dict[str, float]:
    """Seconds of a step by what they are for, in the mean of `cycles`.

    data: the next batch of pictures; d: until D's weights are changed, its latents, fakes and penalty included; g:
    until those of G are; average: the moving average, and the rest. The moments are those of Adam's own hooks, with a
    wait for the device at each, so that the sum may be above the time of a step without them.
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


def turns_and_penalty(trial: Trial, cycles: int) -> dict[str, float]:
    """`turns`, with the penalty apart: what D's turn takes longer than without one. The trial has none afterwards."""
    taken = {**turns(trial, cycles), "penalty": 0.0}
    if trial.penalized:
        trial.without_penalty()
        measured(trial.cycle, trial.device, 0, 1)  # to warm up: without a penalty D may have to be compiled anew
        bare = turns(trial, cycles)["d"]
        taken["penalty"], taken["d"] = taken["d"] - bare, bare
    return taken


def dense_share(trial: Trial, step_s: float) -> float | None:
    """The part of a step spent inside convolutions and matrix products, by torch's profiler; None where it cannot tell.

    step_s: seconds of a step as it is without the profiler, which on a GPU the kernels' own seconds are held against.
    On a CPU they are those of the operators, held against the profiled step itself.
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
