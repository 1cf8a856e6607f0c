"""Where the time of a step goes: the next batch, D, its penalty, G, and G_ema."""

import time
from collections import Counter

from benchmarks.timing import finish, measured
from benchmarks.trial import Trial

from pggan.config.presets import with_settings


def shares(trial: Trial, cycles: int) -> dict[str, float]:
    """Mean seconds a step, over `cycles`, by purpose.

    data: the next batch. d: until the optimizer steps of D and of the heads on features, with latents, fakes and
    penalty. g: until G's. ema: the update of G_ema, and the rest. Hooks of the optimizers measure it and wait for the
    device each time, so the sum may exceed the time of a step.
    """
    state, spent = trial.state, Counter()
    last = time.perf_counter()

    def mark(name: str) -> None:
        nonlocal last
        finish(trial.device)
        now = time.perf_counter()
        spent[name] += now - last
        last = now

    names = {"D": "d", "heads": "d", "G": "g"}
    hooks = [
        adam.register_step_post_hook(lambda *_, name=names[player]: mark(name))
        for player, adam in state.optimizers.items()
    ]
    steps = cycles * trial.steps_a_cycle
    try:
        for _ in range(steps):
            mark("between")
            reals = trial.reals()
            mark("data")
            trial.train(reals)
            mark("ema")
    finally:
        for hook in hooks:
            hook.remove()
    return {name: spent[name] / steps for name in ("data", "d", "g", "ema")}


def shares_with_penalty(trial: Trial, cycles: int) -> dict[str, float]:
    """`shares`, and the penalty: the time of D with it minus the time without it. The trial loses its penalty."""
    whole = {**shares(trial, cycles), "penalty": 0.0}
    if trial.state.config.training.penalty_weight.at(trial.state.res):
        trial.state.config = with_settings(trial.state.config, {"penalty_weight": "0"})
        measured(trial.cycle, trial.device, 0, 1)  # warm-up: D without a penalty may have to be compiled
        bare = shares(trial, cycles)["d"]
        whole["penalty"], whole["d"] = whole["d"] - bare, bare
    return whole
