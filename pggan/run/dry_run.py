"""The road before it is taken: stages, memory, speed and time, by a step at each resolution on this machine."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pggan.config.schema import Config
from pggan.config.validation import validate
from pggan.errors import UserError, out_of_memory
from pggan.models.networks import Discriminator, Generator
from pggan.run.profiling import MemoryWatch, computed_peak, lasting, step_of
from pggan.run.progress import duration
from pggan.run.run_dir import RunDir
from pggan.run.setup import (
    begin,
    check_enough,
    complete,
    default_folder,
    open_images,
    over,
    pick_device,
    pick_precision,
    what_next,
)
from pggan.schedule.budget import decide, expected_speed, replayed
from pggan.schedule.stages import Stage, stage_of, stage_seconds
from pggan.training.state import TrainState, allow_tf32, new_state
from pggan.training.step import step

MOST_SECONDS = 60.0  # of all rehearsals; the speed of resolutions after that is estimated from those before
SLOW_STEP = 3.0  # seconds; a step that takes longer is not taken once more, nor is a whole batch tried on a CPU
SECONDS_TO_START = 5.0  # of a budget, before the first step


@dataclass(frozen=True)
class Rehearsed:
    """What a resolution is going to cost. memory: bytes of tensors at the most; parts: that a batch is trained in;
    recomputed: activations are not kept."""

    images_per_s: float
    memory: float
    parts: int = 1
    recomputed: bool = False
    estimated: bool = False

    def remarks(self) -> list[str]:
        parts = [f"in {self.parts} parts"] if self.parts > 1 else []
        parts += ["recomputed"] if self.recomputed else []
        return [", ".join(parts)] * bool(parts) + ["estimated"] * self.estimated


def dry_run(config: Config) -> None:
    """Prints the plan of a run, and trains nothing. Raises UserError for what would stop the run itself."""
    validate(config)
    folder = RunDir(Path(os.path.expanduser(config.run.out or default_folder(config))))
    config = complete(config, folder)
    device = pick_device(config.training.device)
    try:
        state = begin(config, folder)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError("the networks do not fit into memory: lower --fmap-base, --fmap-max or --latent") from None
    if over(state):
        print(what_next(folder, state))
        return
    source = open_images(config, state, folder)
    check_enough(config, len(source), max(int(config.training.batch.at(res)) for res in config.network.stages()))
    print(f"{len(source):,} pictures in {config.data.data}; {_device(device, state)}; {_networks(config)}")
    costs = rehearse_all(config, device, state.res)
    stages = plan_stages(config, costs, state.plan, state)
    print("\n".join(_table(config, stages, costs, state.nimg)))
    if config.schedule.schedule == "manual":
        print("it stops at the end of each resolution, until tools/grow.py has grown it")
    if folder.config():
        print(f"{folder.path} is at {state.res} px, {state.nimg / 1000:.2f} kimg, and would go on from there")


def rehearse_all(config: Config, device: torch.device, start: int = 0) -> dict[int, Rehearsed]:
    """What each resolution from `start` on costs; those that are too slow to try are estimated. Raises UserError."""
    costs, started = {}, time.monotonic()
    for res in (res for res in config.network.stages() if res >= start):
        if costs and time.monotonic() - started > MOST_SECONDS:
            costs[res] = estimate(config, costs, res, device)
            continue
        try:
            costs[res] = rehearse(config, res, device)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                f"out of memory at {res} px, with the batch in as many parts as it can be and no activations kept: "
                f"lower --batch, --fmap-base or --max-res"
            ) from None
    return costs


def estimate(config: Config, costs: dict[int, Rehearsed], res: int, device: torch.device) -> Rehearsed:
    """Speed by the ratio of the resolutions below; memory computed, with as many parts as the last of them needed."""
    speed = expected_speed({str(known): cost.images_per_s for known, cost in costs.items()}, res)
    last, batch = [*costs.values()][-1], int(config.training.batch.at(res))
    precision = pick_precision(config.training.precision, device)
    state = state_at(replace(config, training=replace(config.training, precision=precision)), res, torch.device("cpu"))
    groups = batch // (min(config.network.stddev_group, batch) or 1)
    state.micro_batches = max(parts for parts in range(1, last.parts + 1) if groups % parts == 0)
    state.recompute = last.recomputed
    return Rehearsed(speed, computed_peak(state, batch), state.micro_batches, state.recompute, estimated=True)


def rehearse(config: Config, res: int, device: torch.device) -> Rehearsed:
    """Three steps of a run of its own at `res`, in mid-fade if it has a fade: one to warm up, one for the memory, one
    for the time. On a CPU the first is of few pictures, and the others too when the whole batch would take too long.
    """
    batch = int(config.training.batch.at(res))
    few = batch if device.type == "cuda" else min(batch, config.network.stddev_group or 4)
    state = state_at(config, res, device)
    lazy = config.training.penalty_interval  # of so many steps one has the penalty, and needs the most memory
    took = _timed(state, few, lazy)
    tried = batch if took * batch / few < SLOW_STEP else few
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        took = _mean_time(state, tried, lazy)
        return Rehearsed(tried / took, torch.cuda.max_memory_allocated(device), state.micro_batches, state.recompute)
    with MemoryWatch(lasting(state)) as watch:
        took = _timed(state, tried, lazy)
    if took < SLOW_STEP or lazy > 1:
        took = _mean_time(state, tried, lazy)
    peak = watch.alive + (watch.peak - watch.alive) * batch / tried
    return Rehearsed(tried / took, peak, state.micro_batches, state.recompute)


def state_at(config: Config, res: int, device: torch.device) -> TrainState:
    first = max(config.network.ends()[0], res // 2) if res > config.network.ends()[0] else res
    network = replace(config.network, start_res=first, max_res=res)
    precision = pick_precision(config.training.precision, device)
    allow_tf32(precision)
    state = new_state(replace(config, network=network), device, precision=precision)
    if state.res < res:
        state.grow()
    return state


def _mean_time(state: TrainState, batch: int, lazy: int) -> float:
    """Seconds of a step in the mean, with a penalty in one of `lazy`."""
    full = _timed(state, batch, lazy)
    return full if lazy == 1 else (full + (lazy - 1) * _timed(state, batch, lazy + 1)) / lazy


def _timed(state: TrainState, batch: int, number: int = 1) -> float:
    """Seconds of one step of `batch` black pictures, the `number`th of its stage."""
    stage, reals = step_of(state, batch, number)
    _finish(state.device)
    start = time.perf_counter()
    step(state, stage, reals, say=lambda text: None)
    _finish(state.device)
    return time.perf_counter() - start


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def images_per_s(config: Config, res: int, device: torch.device) -> float:
    """The speed to be expected at `res`, by a step or two."""
    return rehearse(config, res, device).images_per_s


def plan_stages(
    config: Config, costs: dict[int, Rehearsed], plan: list[dict], state: TrainState | None = None
) -> list[Stage]:
    """The stages as settings, plan or budget have them; under a budget as long as the speeds let them be.

    state: where the run is, if it has begun; stages that are over are left out.
    """
    start, spent = (state.stage_start, state.seconds + SECONDS_TO_START) if state else (0, SECONDS_TO_START)
    stages, resolutions = [], list(costs)
    begun = state is not None and state.G.grown
    for number, res in enumerate(resolutions):
        decided, speed = {}, costs[res].images_per_s
        if number == 0 and state and state.decided:
            decided = state.decided
        elif plan:
            decided = replayed(plan, res)
        elif config.schedule.budget:
            decided = decide(config.schedule, res, resolutions[number + 1 :], spent, speed if number or begun else None)
        stage = stage_of(config.schedule, res, start, first=number == 0 and not begun, decided=decided)
        if stage.until:
            shown = state.nimg - start if state and number == 0 else 0
            images = shown + round(max(stage.until - spent, 0.0) * speed)
            stage, spent = replace(stage, stable=max(images - stage.fade, 0)), stage.until
        stages.append(stage)
        start = stage.end
        if stage.stops:
            break
    return stages


def _table(config: Config, stages: list[Stage], costs: dict[int, Rehearsed], nimg: int = 0) -> list[str]:
    lines = ["   res  batch  fade kimg  stable kimg  images/s     memory      time"]
    total = 0.0
    for stage in stages:
        cost, batch = costs[stage.res], int(config.training.batch.at(stage.res))
        took = stage_seconds(stage, max(stage.start, nimg), cost.images_per_s)
        total += took
        lines.append(
            f"{stage.res:>4}px {batch:>6} {stage.fade / 1000:>10.2f} {stage.stable / 1000:>12.2f} "
            f"{cost.images_per_s:>9.1f} {cost.memory / 2**30:>6.2f} GiB {duration(took):>9}"
            + "".join(f"  {remark}" for remark in cost.remarks())
        )
    whole = (
        f"of a budget of {config.schedule.budget}" if config.schedule.budget else "for packing, saving and grids: more"
    )
    return [*lines, f"{stages[-1].end / 1000:.2f} kimg, about {duration(total)} of training; {whole}"]


def _device(device: torch.device, state: TrainState) -> str:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {state.threads} threads"
    return f"{where}, {state.precision}"


def _networks(config: Config) -> str:
    """Sizes of the networks at the last resolution, counted without making them."""
    with torch.device("meta"):
        network = replace(config.network, start_res=config.network.ends()[1])
        sizes = [sum(p.numel() for p in net(network).parameters()) / 1e6 for net in (Generator, Discriminator)]
    return f"{config.network.arch} networks of {sizes[0]:.2f} and {sizes[1]:.2f} million weights"
