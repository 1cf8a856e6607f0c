"""Whether the steps of a stage are compiled; and the next graphs, made ready in another process beside the training."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import torch

from pggan import system
from pggan.config.schema import Config, NetworkConfig
from pggan.models.networks import fade_reals
from pggan.run.dry_run import images_per_s, state_at
from pggan.schedule.stages import Stage
from pggan.training import phases
from pggan.training.compile import Graphs, inductor
from pggan.training.state import TrainState
from pggan.training.step import inputs, numbers

# Seconds of uncompiled training that compiling is worth. A CPU needs about four minutes for the graphs of a stage and
# is then faster by a sixth to a quarter (results/speed); a GPU's share is an assumption, for want of one to measure on.
REPAID = {"cpu": 40 * 60.0, "cuda": 5 * 60.0}
CPU_RATE = 30e9  # operations a second and thread; assumed, not measured, so that a run decides the same again
PASSES = 18  # of a network forward that a step with a penalty costs


def open_graphs(state: TrainState, stage: Stage, wall: float, say: Callable[[str], None]) -> None:
    """Gives the state its graphs, or none, for the stage that begins or goes on; what was decided for it stays.

    wall: seconds since the start of the run, against which a stage's share of a budget ends.
    """
    setting = state.config.training.compile
    if setting != "auto":
        state.compiled = setting == "on"
    elif state.compiled is None:
        state.compiled = repays(state, stage, wall)
    state.graphs = Graphs(inductor, must=setting == "on", say=say) if state.compiled else Graphs()
    if state.compiled:
        say(f"the steps of {state.res} px are compiled: this may take minutes, and seconds where it was done before")


def repays(state: TrainState, stage: Stage, wall: float) -> bool:
    """Whether the stage is long enough. On a CPU by arithmetic alone, so that a resumed run decides the same."""
    kind = state.device.type
    if kind not in REPAID:
        return False
    if stage.until:
        return stage.until - wall >= REPAID[kind]
    if kind == "cpu":
        threads = state.threads or torch.get_num_threads()  # 0 in a state that no run has begun with
        speed = threads * CPU_RATE / (PASSES * operations(state.config.network, state.res))
    else:
        speed = images_per_s(state.config, state.res, state.device)
    seconds = (stage.end - stage.start) / speed
    if stage.seconds:  # its clock, which waits for the fade and the floor
        seconds = min(seconds, max(stage.seconds, (stage.fade + stage.floor) / speed))
    return seconds >= REPAID[kind]


def operations(network: NetworkConfig, res: int) -> float:
    """Multiplications and additions of D for one picture, about: the two 3x3 convolutions of each of its blocks."""
    total = 0.0
    for level in range(network.level(res) + 1):
        width, height = network.size(network.resolutions()[level])
        fan, out = network.fmaps(level), network.fmaps(level - 1)
        total += 2 * 9 * width * height * fan * (fan + out)
    return total


class Preparation:
    """Graphs compiled ahead of their use, by a process of low priority; the compiler's cache on disk hands them over.

    It is a help and no more: whatever happens to it, the training compiles what it needs itself.
    """

    def __init__(self):
        self.process: multiprocessing.Process | None = None

    def __enter__(self) -> "Preparation":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def open_graphs(self, state: TrainState, stage: Stage, wall: float, say: Callable[[str], None]) -> None:
        """See the function of this name; and whatever is compiled is followed by what comes next."""
        self.stop()
        open_graphs(state, stage, wall, say)
        if state.compiled:
            self.begin(state, stage)

    def begin(self, state: TrainState, stage: Stage) -> None:
        """Starts on what comes after the graphs that the stage needs at once: without a fade, the next stage's."""
        jobs = [(state.res, False)] if stage.fade else []
        if state.res != state.config.network.stages()[-1]:
            jobs.append((2 * state.res, True))
        if jobs:
            given = state.config, jobs, str(state.device), state.threads
            self.process = multiprocessing.get_context("spawn").Process(target=compile_ahead, args=given, daemon=True)
            self.process.start()

    def stop(self) -> None:
        """What is done by now is remembered; the rest the training does faster itself, at its own priority."""
        if self.process:
            self.process.kill()
            self.process.join()
        self.process = None


def compile_ahead(
    config: Config, jobs: list[tuple[int, bool]], device: str, threads: int
) -> None:  # pragma: no cover (in a process of its own)
    """The graphs of each (resolution, fading)."""
    threading.Thread(target=_end_with_the_training, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the training
    system.lowest_priority()
    torch.set_num_threads(threads)
    with suppress(Exception):  # the training will say what cannot be compiled
        for res, fading in jobs:
            compile_for(state_at(config, res, torch.device(device)), fading, inductor)


def _end_with_the_training() -> None:  # pragma: no cover (in a process of its own)
    """Where that is killed, nobody else ends this process."""
    multiprocessing.parent_process().join()
    os._exit(1)


def compile_for(state: TrainState, fading: bool, compiler: Callable) -> Graphs:
    """All graphs that a step at the state's resolution needs."""
    batch = int(state.config.training.batch.at(state.res))
    every = state.config.training.penalty_interval
    stage = Stage(state.res, 0, fade=4 * batch * every if fading else 0, stable=10**9)
    state.nimg = 2 * batch * every  # one of the steps with a penalty
    width, height = state.config.network.size(state.res)
    reals = torch.zeros(batch, 3, height, width, device=state.device)
    given = inputs(state, fade_reals(reals, stage.alpha(state.nimg), state.D.arch))
    now, lazy = numbers(state, stage)
    graphs = Graphs(compiler)
    for turn, which in ((phases.discriminator, now), (phases.penalty, lazy), (phases.generator, now)):
        if which:
            graphs.graph(turn, state.config.training, state.G, state.D, given, which)
    return graphs
