"""Prints the plan of a run (--dry-run): stages, memory, speed and time, from a few steps on this machine."""

import time
from dataclasses import replace

import torch

from pggan.config.presets import with_settings
from pggan.config.schema import Config
from pggan.config.validation import validate
from pggan.errors import explaining_full_memory
from pggan.models.networks import Discriminator, Generator
from pggan.run.devices import pick_precision
from pggan.run.planning import over, stage_start
from pggan.run.profiling import StepCost, computed_peak, step_cost, trial_state
from pggan.run.progress import duration
from pggan.run.setup import begin, complete, open_folder, open_images, what_next
from pggan.schedule import scheduler_for
from pggan.schedule.budget import expected_speed
from pggan.schedule.forecast import forecast
from pggan.schedule.stages import Stage
from pggan.training.gradient_workers import GradientWorkers, gradient_workers
from pggan.training.state import TrainState

MOST_SECONDS = 60.0  # for all trials; larger resolutions are then estimated from smaller ones
SECONDS_TO_START = 5.0  # of a budget, before the first step


def dry_run(config: Config) -> None:
    """Prints the plan of a run, and trains nothing. Raises UserError for what would stop the run itself."""
    validate(config)
    folder = open_folder(config)
    config = complete(config, folder)
    with explaining_full_memory("the networks do not fit into memory: lower --fmap-base, --fmap-max or --latent"):
        state = begin(config, folder)
    scheduler = scheduler_for(config.schedule, state.replay)
    if over(state, scheduler):
        print(what_next(folder, state))
        return
    source = open_images(state, folder)
    kind = state.device.type
    machine = torch.cuda.get_device_name(state.device) if kind == "cuda" else f"{kind}, {cores_used(state)}"
    print(f"{len(source):,} pictures in {config.data.data}; {machine}, {state.precision}; {_networks(config)}")
    with gradient_workers(state.processes, state.threads) as workers:
        costs = step_costs(config, state.device, (state.res, *state.later), workers)
    start = stage_start(state, state.seconds + SECONDS_TO_START)
    stages = forecast(scheduler, start, state.history, lambda res: costs[res].images_per_s, state.stage.seconds)
    print("\n".join(_table(config, stages, costs)))
    if config.schedule.schedule == "manual":
        print("it stops at the end of each resolution, until tools/grow.py has grown it")
    if folder.config():
        print(f"{folder.path} is at {state.res} px, {state.nimg / 1000:.2f} kimg, and would go on from there")


def cores_used(state: TrainState) -> str:
    """The threads of a run on a CPU, and its processes if there are several."""
    processes = f"{state.processes} processes with together " if state.processes > 1 else ""
    return f"{processes}{state.threads} threads"


def step_costs(
    config: Config, device: torch.device, resolutions: tuple[int, ...], workers: GradientWorkers | None = None
) -> dict[int, StepCost]:
    """{resolution: the cost of a step}. Slow resolutions are estimated. Raises UserError if memory is too small."""
    costs, started = {}, time.monotonic()
    for res in resolutions:
        if costs and time.monotonic() - started > MOST_SECONDS:
            costs[res] = estimate(config, costs, res, device)
            continue
        tried = f"out of memory at {res} px, with the smallest micro-batches and no activations kept"
        with explaining_full_memory(f"{tried}: lower --batch, --fmap-base or --max-res"):
            costs[res] = step_cost(config, res, device, workers)
    return costs


def estimate(config: Config, costs: dict[int, StepCost], res: int, device: torch.device) -> StepCost:
    """Estimates a step: its speed from smaller resolutions, its memory by `computed_peak`.

    costs: of smaller resolutions, not empty; the last one says how many micro-batches there are, if the batch allows.
    """
    speed = expected_speed({known: cost.images_per_s for known, cost in costs.items()}, res)
    last, batch = [*costs.values()][-1], int(config.training.batch.at(res))
    config = with_settings(config, {"precision": pick_precision(config.training.precision, device)})
    state = trial_state(config, res, torch.device("cpu"))
    groups = batch // (min(config.network.stddev_group, batch) or 1)
    micro_batches = max(count for count in range(1, last.micro_batches + 1) if groups % count == 0)
    state.stage.micro_batches, state.stage.recompute = micro_batches, last.recompute
    return StepCost(speed, computed_peak(state, batch), micro_batches, last.recompute, estimated=True)


def _table(config: Config, stages: list[tuple[Stage, float]], costs: dict[int, StepCost]) -> list[str]:
    lines = ["   res  batch  fade kimg  stable kimg  images/s     memory      time"]
    for stage, seconds in stages:
        cost, batch = costs[stage.res], int(config.training.batch.at(stage.res))
        lines.append(
            f"{stage.res:>4}px {batch:>6} {stage.fade / 1000:>10.2f} {stage.stable / 1000:>12.2f} "
            f"{cost.images_per_s:>9.1f} {cost.memory / 2**30:>6.2f} GiB {duration(seconds):>9}"
            + "".join(f"  {remark}" for remark in _remarks(cost))
        )
    total = duration(sum(seconds for _, seconds in stages))
    budget = config.schedule.budget
    rest = f"of a budget of {budget}" if budget else "for packing, saving and grids: more"
    return [*lines, f"{stages[-1][0].end / 1000:.2f} kimg, about {total} of training; {rest}"]


def _remarks(cost: StepCost) -> list[str]:
    memory = [f"in {cost.micro_batches} micro-batches"] if cost.micro_batches > 1 else []
    memory += ["recomputed"] if cost.recompute else []
    return [", ".join(memory)] * bool(memory) + ["estimated"] * cost.estimated


def _networks(config: Config) -> str:
    """Sizes of the networks at the last resolution, counted without making them."""
    with torch.device("meta"):
        network = replace(config.network, start_res=config.network.ends()[1])
        sizes = [sum(p.numel() for p in net(network).parameters()) / 1e6 for net in (Generator, Discriminator)]
    heads = "" if network.features == "none" else f", heads on features of {network.features}"
    return f"{network.arch} networks of {sizes[0]:.2f} and {sizes[1]:.2f} million weights{heads}"
