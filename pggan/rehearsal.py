"""The road before it is taken: stages, memory, speed and time, by a step at each resolution on this machine."""

import os
import time
import weakref
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pggan import ema
from pggan.budget import decide, expected_speed, replayed
from pggan.config import Config, at
from pggan.data.sources import open_source
from pggan.folder import RunFolder
from pggan.networks import Discriminator, Generator
from pggan.progress import duration
from pggan.schedule import Stage, stage_of
from pggan.starting import begin, complete, default_folder, pick_device, pick_precision
from pggan.state import TrainState, new_state
from pggan.step import step
from pggan.validation import validate

MOST_SECONDS = 60.0  # of all rehearsals; the speed of resolutions after that is estimated from those before
SLOW_STEP = 3.0  # seconds; a step that takes longer is not taken a second time
SECONDS_TO_START = 5.0  # of a budget, before the first step


@dataclass(frozen=True)
class Rehearsed:
    """What a resolution is going to cost. memory: bytes of tensors at the most; parts: that a batch is trained in."""

    images_per_s: float
    memory: float
    parts: int = 1
    estimated: bool = False


def dry_run(config: Config) -> None:
    """Prints the plan of a run, and trains nothing. Raises UserError for what would stop the run itself."""
    validate(config)
    folder = RunFolder(Path(os.path.expanduser(config.run.out or default_folder(config))))
    config = complete(config, folder)
    device = pick_device(config.training.device)
    state = begin(config, folder)
    source = open_source(config.data.data, config.data.builtin_pictures, cache=config.data.cache)
    print(f"{len(source):,} pictures in {config.data.data}; {_device(device, state)}; {_networks(config)}")
    costs = rehearse_all(config, device)
    stages = plan_stages(config, costs, state.plan)
    print("\n".join(_table(config, stages, costs)))
    if folder.config():
        print(f"{folder.path} is at {state.res} px, {state.nimg / 1000:.2f} kimg, and would go on from there")


def rehearse_all(config: Config, device: torch.device) -> dict[int, Rehearsed]:
    """What each resolution of the run costs; those that are too slow to try are estimated."""
    costs, started = {}, time.monotonic()
    for res in config.network.stages():
        if costs and time.monotonic() - started > MOST_SECONDS:
            costs[res] = estimate(costs, res)
        else:
            costs[res] = rehearse(config, res, device)
    return costs


def estimate(costs: dict[int, Rehearsed], res: int) -> Rehearsed:
    """From the resolutions below: speed by their ratio, memory by that of the last two, or twice the last."""
    speed = expected_speed({str(known): cost.images_per_s for known, cost in costs.items()}, res)
    *_, before, last = [None, *costs.values()]
    growth = last.memory / before.memory if before else 2.0
    return Rehearsed(speed, last.memory * growth, last.parts, estimated=True)


def rehearse(config: Config, res: int, device: torch.device) -> Rehearsed:
    """A step or two of a run of its own at `res`, in mid-fade if it has a fade; on a CPU with few pictures."""
    batch = int(at(config.training.batch, res))
    tried = batch if device.type == "cuda" else min(batch, config.network.stddev_group or 4)
    state = _state_at(config, res, tried, device)
    stage = Stage(res, 0, fade=2 * tried if state.G.grown else 0, stable=10**9)
    state.nimg = tried
    width, height = config.network.size(res)
    reals = torch.zeros(tried, 3, height, width, device=device)
    with MemoryWatch() as watch:
        took = _timed(state, stage, reals)
    if took < SLOW_STEP:
        took = _timed(state, stage, reals)
    networks = sum(tensor.nbytes for net in (state.G, state.D, state.average) for tensor in ema.tensors(net).values())
    lasting, passing = networks + watch.alive, watch.peak - watch.alive
    return Rehearsed(tried / took, lasting + passing * batch / tried, state.pieces)


def _state_at(config: Config, res: int, batch: int, device: torch.device) -> TrainState:
    first = max(config.network.ends()[0], res // 2) if res > config.network.ends()[0] else res
    network = replace(config.network, start_res=first, max_res=res)
    training = replace(config.training, batch=str(batch))
    precision = pick_precision(config.training.precision, device)
    state = new_state(replace(config, network=network, training=training), device, precision=precision)
    if state.res < res:
        state.grow()
    return state


def _timed(state: TrainState, stage: Stage, reals: torch.Tensor) -> float:
    start = time.perf_counter()
    step(state, stage, reals, say=lambda text: None)
    if state.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def images_per_s(config: Config, res: int, device: torch.device) -> float:
    """The speed to be expected at `res`, by a step or two."""
    return rehearse(config, res, device).images_per_s


class MemoryWatch(TorchDispatchMode):
    """The most bytes of tensors made within it that are alive at a time, counted by storages."""

    def __init__(self):
        super().__init__()
        self.seen, self.alive, self.peak = set(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self.seen:
            return
        self.seen.add(place)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self.seen.discard(place)
        self.alive -= size


def plan_stages(config: Config, costs: dict[int, Rehearsed], plan: list[dict]) -> list[Stage]:
    """The stages as settings, plan or budget have them; under a budget as long as the speeds let them be."""
    stages, start, spent = [], 0, SECONDS_TO_START
    resolutions = config.network.stages()
    for number, res in enumerate(resolutions):
        decided, speed = {}, costs[res].images_per_s
        if plan:
            decided = replayed(plan, res)
        elif config.schedule.budget:
            decided = decide(config.schedule, res, resolutions[number + 1 :], spent, speed if number else None)
        stage = stage_of(config.schedule, res, start, first=number == 0, decided=decided)
        if stage.until:
            images = round((stage.until - spent) * speed)
            stage, spent = replace(stage, stable=max(images - stage.fade, 0)), stage.until
        stages.append(stage)
        start = stage.end
    return stages


def _table(config: Config, stages: list[Stage], costs: dict[int, Rehearsed]) -> list[str]:
    lines = ["   res  batch  fade kimg  stable kimg  images/s     memory      time"]
    total = 0.0
    for stage in stages:
        cost, batch = costs[stage.res], int(at(config.training.batch, stage.res))
        took = (stage.fade + stage.stable) / cost.images_per_s
        took = min(took, stage.seconds) if stage.seconds else took
        total += took
        lines.append(
            f"{stage.res:>4}px {batch:>6} {stage.fade / 1000:>10.2f} {stage.stable / 1000:>12.2f} "
            f"{cost.images_per_s:>9.1f} {cost.memory / 2**30:>6.2f} GiB {duration(took):>9}"
            + (f"  in {cost.parts} parts" if cost.parts > 1 else "")
            + ("  estimated" if cost.estimated else "")
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
