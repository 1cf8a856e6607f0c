"""How a run begins or continues: its state, images and folder, all checked before anything is written."""

import json
import os
import shlex
from pathlib import Path

import torch

from pggan.config.presets import with_settings
from pggan.config.schema import Config, from_dict
from pggan.config.validation import differences
from pggan.data.batches import BatchLoader
from pggan.data.index import changed_since, first
from pggan.data.packing import ImageCache, pack
from pggan.data.sources import Source, open_source
from pggan.errors import UserError, plain, refuse_if
from pggan.run.devices import pick_device, pick_precision
from pggan.run.planning import stops_now, waits
from pggan.run.run_dir import RunDir
from pggan.schedule import scheduler_for
from pggan.schedule.forecast import forecast
from pggan.schedule.replay import ReplayScheduler, check_growth
from pggan.schedule.stages import StageStart
from pggan.system import usable_cores
from pggan.training import checkpoint
from pggan.training.compile import graphs_for
from pggan.training.gradient_workers import ranks_for
from pggan.training.loading import state_from
from pggan.training.state import TrainState, allow_tf32, new_state

CROP_MARGIN = 1.25  # for random crops, images are packed larger by this factor


def complete(config: Config, folder: RunDir) -> Config:
    """`config` with its first and last resolution filled in; a run that is continued keeps its first one."""
    known = folder.config()
    if known and config.network.start_res is None:
        config = with_settings(config, {"start_res": known.network.start_res})
    start, top = config.network.ends()
    return with_settings(config, {"start_res": start, "max_res": top})


def begin(config: Config, folder: RunDir) -> TrainState:
    """The state to start from: that of the run in the folder, else of --resume, else new. Raises UserError."""
    device = pick_device(config.training.device)
    known = folder.config()
    if known and (changed := differences(known, config)):
        raise UserError(f"{folder.path} holds another run ({'; '.join(changed)}): take its settings, or another --out")
    if known and config.run.resume and not same_file(known.run.resume, config.run.resume):
        raise UserError(f"{folder.path} holds another run: name another --out for the run that --resume begins")
    values = checkpoint.load_latest(folder.checkpoints)
    if values is None and folder.last_record():
        raise UserError(f"the checkpoints of {folder.path} are gone: restore latest.pt there, or name another --out")
    if values is None and config.run.resume:
        values = begun_elsewhere(config, device)
    threads = config.training.threads or (values or {}).get("threads") or torch.get_num_threads()
    torch.set_num_threads(threads)
    precision = pick_precision(config.training.precision, device)
    allow_tf32(precision)
    if values and values["precision"] != precision:
        print(f"trained in {values['precision']} so far, going on in {precision}, which suits {device.type} here")
        values["precision"] = precision
    state = state_from(values, device, config) if values else new_state(config, device, precision=precision)
    state.threads, state.processes = threads, processes_for(config, device, values.get("processes", 0) if values else 0)
    state.replay = growth_to_replay(state, goes_on=bool(known and values))
    state.graphs = graphs_for(config.training.compile, device)
    if values and not known and stops_now(state, scheduler_for(config.schedule, state.replay)):
        raise UserError(f"{config.run.resume} is the end of its run: raise --max-res or --stable-kimg to go on from it")
    if state.res > config.network.ends()[1]:
        raise UserError(f"the run is at {state.res} px already: --max-res {config.network.ends()[1]} is below that")
    if values and values["torch"] != torch.__version__:
        print(f"begun with torch {values['torch']}, going on with {torch.__version__}: not bit for bit the same")
    return state


def processes_for(config: Config, device: torch.device, known: int = 0) -> int:
    """How many processes share a gradient: --processes, or `known` if it is 0, or what suits the machine.

    Raises UserError if there can be no more than one, or not so many.
    """
    asked, group = config.training.processes, config.network.stddev_group
    if device.type != "cpu":
        refuse_if(asked > 1, f"--processes {asked} is for the CPU: with {device.type}, leave it out")
        return 1
    batches = [int(config.training.batch.at(res)) for res in config.network.stages()]
    most = max(ranks_for(batch, group, 1, asked or usable_cores()) for batch in batches)
    shared = f"no batch has whole groups of {group or 1} images for each of so many processes"
    refuse_if(asked > most, f"--processes {asked}: {shared}: give {most}, or a larger --batch")
    return asked or known or most


def begun_elsewhere(config: Config, device: torch.device) -> dict:
    """The values of --resume's checkpoint as the start of a new run. Raises UserError if the networks differ."""
    path = Path(os.path.expanduser(config.run.resume))
    values = checkpoint.load(path)
    settings = from_dict(values["config"])
    was, now = (vars(part.network) for part in (settings, config))
    other = [f"--{name.replace('_', '-')} {was[name]}" for name in was if name != "max_res" and was[name] != now[name]]
    if other:
        raise UserError(f"{path} was made with {', '.join(other)}: leave these flags and --preset out")
    dropped = {
        "metrics_bytes",
        "processes",
        "threads",
        "data",
        "seconds",
        "speeds",
        "replay",
        "history",
        "best",
        "attempt",
        "lr_factor",
    }
    if not settings.training.ada:
        dropped.add("augment")  # --ada does not begin with a fixed p
    plan = {**values["stage"]["plan"], "until": 0.0, "budget": 0.0}  # seconds of another run's budget
    precision = pick_precision(config.training.precision, device)
    kept = {name: value for name, value in values.items() if name not in dropped}
    return kept | {"stage": {"plan": plan, "timed_from": values["nimg"]}, "precision": precision}


def same_file(one: str | None, other: str) -> bool:
    return one is not None and Path(one).expanduser().resolve() == Path(other).expanduser().resolve()


def growth_to_replay(state: TrainState, goes_on: bool) -> list[dict]:
    """The growth.json of --plan, [] for none. Raises UserError when it cannot be repeated, or is not this run's.

    goes_on: whether the run is continued; a run repeats a plan from its first image or not at all.
    """
    known, schedule = state.replay, state.config.schedule
    if known and not schedule.plan:
        other = ", which leaves nothing for --budget to decide" if schedule.budget else ": give --plan again"
        raise UserError(f"this run repeats a plan{other}, or name another --out")
    if not schedule.plan:
        return []
    path = Path(schedule.plan).expanduser()
    if known and not path.exists():
        return known  # it is in the checkpoint
    if goes_on and not known:
        raise UserError("this run did not begin with a plan: --plan is for a new one, so name another --out")
    try:
        growth = check_growth(json.loads(path.read_text()))
    except IsADirectoryError:
        raise UserError(f"--plan {path} is a folder: name the growth.json of a run") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--plan {path} cannot be read ({reason}): name the growth.json of a run") from None
    if known and growth != known:
        raise UserError(f"--plan {path} is not the plan that this run began with: put that back, or name another --out")
    _check_stages(path, growth, state)
    if any(entry["action"] == "rollback" for entry in growth):
        print(f"{path} has a rollback, which is not repeated: only when to fade, grow and stop is", flush=True)
    return growth


def _check_stages(path: Path, growth: list[dict], state: TrainState) -> None:
    """Raises UserError unless growth.json has every stage that is left, and says where it stops early."""
    scheduler, start = ReplayScheduler(growth), StageStart(state.res, state.stage.plan.start, later=state.later)
    for stage, _ in forecast(scheduler, start, [], lambda res: 1.0):
        if not state.replay and stage.end <= state.nimg:
            end = f"--plan {path} ends {stage.res} px at image {stage.end}"
            raise UserError(f"{end}, and this is at {state.nimg} already")
    if stage.final and stage.res < state.config.network.ends()[1]:
        print(f"{path} stops at {stage.res} px, and so will this run", flush=True)


def what_next(folder: RunDir, state: TrainState) -> str:
    """Text for the user of a run that has nothing left to do: its state, and the commands to continue it."""
    latest = shlex.quote(str(folder.checkpoints / "latest.pt"))
    where = f"{state.res} px at {state.nimg / 1000:.2f} kimg"
    if waits(state, scheduler_for(state.config.schedule, state.replay)):
        return (
            f"{folder.path} has come to the end of {where}\n"
            f"to grow:       python tools/grow.py {latest}, then the same command again\n"
            f"to stay on:    the same command with a higher --stable-kimg"
        )
    more = "--budget" if state.config.schedule.budget else "--max-res or --stable-kimg"
    return f"{folder.path} is finished: {where}; to go on, raise {more}, with --out {folder.path}"


def open_images(state: TrainState, folder: RunDir) -> Source:
    """The source of the images. Raises UserError if they are too few, or not those that the run was begun with."""
    data = state.config.data
    source = open_source(data.data, data.builtin_images, cache=data.cache)
    known = folder.record()
    before = state.data or (known["data"]["fingerprint"] if known else "")
    changed = changed_since(source, before, known["data"]["unreadable"] if known else []) if before else []
    if changed != []:
        raise other_pictures(source, folder, changed)
    check_enough(state.config, len(source), [state.res, *state.later])
    return source


def other_pictures(source: Source, folder: RunDir, changed: list[str] | None) -> UserError:
    """changed: the names of the images that are not those of the run, None if unknown."""
    known = folder.config()
    begun = f", which was begun with {plain(known.data.data)}" if known and known.data.data != source.spec else ""
    some = f" ({first(map(plain, changed), len(changed))})" if changed else ""
    other = f"the pictures in {plain(source.spec)} are not those of {folder.path}{begun}{some}"
    return UserError(f"{other}: put them back as they were, or name another --out")


def load_images(state: TrainState, folder: RunDir) -> ImageCache:
    """Packs the images for all stages that are left. Raises UserError as `open_images` does."""
    stages = [state.res, *state.later]
    images = pack_images(state.config, source := open_images(state, folder), stages)
    if state.data and state.data != images.fingerprint:  # a picture that could not be read has been repaired
        raise other_pictures(source, folder, None)
    print("\n".join(images.notes()), flush=True)
    check_enough(state.config, len(images), stages)
    return images


def pack_images(config: Config, source: Source, resolutions: list[int]) -> ImageCache:
    """The images at these resolutions, cropped or padded as the settings say."""
    sizes = [(res, *config.network.size(res)) for res in resolutions]
    return pack(source, sizes, config.data.fit, CROP_MARGIN if config.data.random_crop else 1.0)


def check_enough(config: Config, count: int, resolutions: list[int]) -> None:
    """Raises UserError if `count` images are fewer than the largest batch at these resolutions."""
    batch = max(int(config.training.batch.at(res)) for res in resolutions)
    if count < batch:
        raise UserError(f"{config.data.data} has {count} pictures, fewer than a batch of {batch}: lower --batch")


def write_config(state: TrainState, images: ImageCache, folder: RunDir) -> None:
    """Writes config.json, and notes in the state which images it is trained on."""
    state.data = images.fingerprint
    facts = {"fingerprint": images.fingerprint, "pictures": len(images), "unreadable": list(images.unreadable)}
    folder.write_config(state.config, {"seed": state.config.training.seed, "threads": state.threads, "data": facts})


def batches_at(images: ImageCache, state: TrainState) -> BatchLoader:
    """The batches of the current stage; each depends only on its position."""
    data, size = state.config.data, state.config.network.size(state.res)
    return BatchLoader(images, state.res, size, state.stream, data.mirror, data.random_crop, state.device)


def open_folder(config: Config) -> RunDir:
    """The folder --out, or runs/<data>-<preset>-<max-res>: the same command finds the same folder again."""
    data = config.data.data
    place = Path(os.path.expanduser(data)).resolve()
    name = place.stem if place.suffix.lower() == ".zip" else place.name
    name = data.replace(":", "-") if data.partition(":")[0] == "builtin" else name
    default = f"runs/{name}-{config.preset}-{config.network.ends()[1]}"
    path = Path(os.path.expanduser(config.run.out or default))
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    refuse_if(not os.access(existing, os.W_OK), f"--out {path} cannot be written in {existing}: name another folder")
    return RunDir(path)
