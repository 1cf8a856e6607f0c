"""How a run begins, or goes on: its state, its pictures, its folder, checked before anything is written."""

import json
import os
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import torch

from pggan.config.schema import Config, from_dict, seconds
from pggan.config.validation import differences
from pggan.data.packing import ImageCache, pack
from pggan.data.sources import Source, open_source
from pggan.errors import UserError
from pggan.run.run_dir import RunDir
from pggan.schedule import budget
from pggan.schedule.stages import finished
from pggan.training import checkpoint
from pggan.training.state import TrainState, allow_tf32, new_state, state_from

CROP_MARGIN = 1.25  # how much larger pictures are packed for random crops


def complete(config: Config, folder: RunDir) -> Config:
    """`config` with both ends of its ladder filled in; a run that is here keeps the start it had."""
    known = folder.config()
    if known and config.network.start_res is None:
        config = replace(config, network=replace(config.network, start_res=known.network.start_res))
    start, top = config.network.ends()
    return replace(config, network=replace(config.network, start_res=start, max_res=top))


def begin(config: Config, folder: RunDir) -> TrainState:
    """The state to start from: the folder's own, else that of --resume, else a new one. Raises UserError."""
    device = pick_device(config.training.device)
    known = folder.config()
    if known and (changed := differences(known, config)):
        raise UserError(f"{folder.path} holds another run ({'; '.join(changed)}): take its settings, or another --out")
    if known and config.run.resume and not same_file(known.run.resume, config.run.resume):
        raise UserError(f"{folder.path} holds another run: name another --out for what --resume begins")
    values = checkpoint.load_latest(folder.checkpoints)
    if values is None and folder.last_record():
        raise UserError(f"the checkpoints of {folder.path} are gone: restore latest.pt there, or name another --out")
    if values is None and config.run.resume:
        values = begun_elsewhere(config, device)
    threads = config.training.threads or (values["threads"] if values else torch.get_num_threads())
    torch.set_num_threads(threads)
    precision = pick_precision(config.training.precision, device)
    allow_tf32(precision)
    if values and values["precision"] != precision:
        print(f"trained in {values['precision']} so far, going on in {precision}, which suits {device.type} here")
        values["precision"] = precision
    state = state_from(values, device, config) if values else new_state(config, device, precision=precision)
    state.threads = threads
    state.plan = plan_of(config, state, known is not None and bool(values))
    if not known and over(state):
        raise UserError(f"{config.run.resume} is the end of its run: raise --max-res or --stable-kimg to go on from it")
    if state.res > config.network.ends()[1]:
        raise UserError(f"the run is at {state.res} px already: --max-res {config.network.ends()[1]} is below that")
    if values and values["torch"] != torch.__version__:
        print(f"begun with torch {values['torch']}, going on with {torch.__version__}: not bit for bit the same")
    return state


def begun_elsewhere(config: Config, device: torch.device) -> dict:
    """The values of --resume's checkpoint, as the start of a new run. Raises UserError when its networks differ."""
    path = Path(os.path.expanduser(config.run.resume))
    values = checkpoint.load(path)
    settings = from_dict(values["config"])
    was, now = (asdict(part.network) for part in (settings, config))
    other = [f"--{name.replace('_', '-')} {was[name]}" for name in was if name != "max_res" and was[name] != now[name]]
    if other:
        raise UserError(f"{path} was made with {', '.join(other)}: leave these flags and --preset out")
    anew = {"metrics_bytes": 0, "data": "", "seconds": 0.0, "plan": [], "decided": {}, "speeds": {}, "micro_batches": 1}
    anew |= {"measured": -1, "best": {}, "recompute": False, "compiled": None}
    if not settings.training.ada:
        anew["augment"] = {}  # a fixed p is none to begin a controlled one with
    return {**values, **anew, "precision": pick_precision(config.training.precision, device)}


def same_file(one: str | None, other: str) -> bool:
    return one is not None and Path(one).expanduser().resolve() == Path(other).expanduser().resolve()


def plan_of(config: Config, state: TrainState, goes_on: bool) -> list[dict]:
    """The growth.json that --plan repeats, [] for none. Raises UserError when it cannot, or is not this run's.

    goes_on: the state is that of a run under way, which repeats a plan from its first image or never.
    """
    if state.plan and config.schedule.budget:
        raise UserError("this run repeats a plan, which leaves nothing for --budget to decide: name another --out")
    if state.plan and not config.schedule.plan:
        raise UserError("this run repeats a plan: give --plan again, or name another --out")
    if not config.schedule.plan:
        return []
    path = Path(config.schedule.plan).expanduser()
    if state.plan and not path.exists():
        return state.plan  # it is in the checkpoint
    if goes_on and not state.plan:
        raise UserError("this run did not begin with a plan: --plan is for a new one, so name another --out")
    try:
        plan = budget.check_plan(json.loads(path.read_text()))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--plan {path} cannot be read: {error}") from None
    if state.plan and plan != state.plan:
        raise UserError(f"--plan {path} is not the plan that this run began with: put that back, or name another --out")
    for res in (res for res in config.network.stages() if res >= state.res):
        stage = budget.replayed(plan, res)
        if not state.plan and stage["end"] <= state.nimg:
            raise UserError(f"--plan {path} ends {res} px at image {stage['end']}, and this is at {state.nimg} already")
        if stage["stops"]:
            if res < config.network.ends()[1]:
                print(f"{path} stops at {res} px, and so will this run", flush=True)
            break
    if any(entry["action"] == "rollback" for entry in plan):
        print(f"{path} has a rollback, which is not repeated: only when to fade, grow and stop is", flush=True)
    return plan


def over(state: TrainState) -> bool:
    """Whether the run has stopped and its settings ask for no more."""
    if not state.growth or state.growth[-1]["action"] != "stop":
        return False
    entry, schedule = state.growth[-1], state.config.schedule
    if schedule.budget:
        return seconds(schedule.budget) <= entry["numbers"].get("budget_seconds", 0.0)
    pauses = schedule.schedule == "manual" or state.stage().stops
    last = state.res == state.config.network.stages()[-1]
    return (last or pauses) and finished(state.stage(), state.nimg, state.stage_seconds) is not None


def waits(state: TrainState) -> bool:
    """Whether a manual run is at the end of a resolution that is not its last."""
    return over(state) and state.config.schedule.schedule == "manual" and state.res < state.config.network.ends()[1]


def what_next(folder: RunDir, state: TrainState) -> str:
    """What to say of a run that has nothing left to do, and what to type to take it further."""
    latest = shlex.quote(str(folder.checkpoints / "latest.pt"))
    where = f"{state.res} px at {state.nimg / 1000:.2f} kimg"
    if waits(state):
        return (
            f"{folder.path} has come to the end of {where}\n"
            f"to grow:       python tools/grow.py {latest}, then the same command again\n"
            f"to stay on:    the same command with a higher --stable-kimg"
        )
    more = "--budget" if state.config.schedule.budget else "--max-res"
    return f"{folder.path} is finished: {where}; to go on, raise {more}, with --out {folder.path}"


def open_images(config: Config, state: TrainState, folder: RunDir) -> Source:
    """Where the pictures are, checked to be this run's. Raises UserError."""
    source = open_source(config.data.data, config.data.builtin_images, cache=config.data.cache)
    known = folder.record()
    before = state.data or (known["data"]["fingerprint"] if known else "")
    if before and before != source.fingerprint:
        raise UserError(
            f"the pictures in {config.data.data} are not those of {folder.path}: "
            f"put them back as they were, or name another --out"
        )
    return source


def load_images(config: Config, state: TrainState, folder: RunDir) -> ImageCache:
    """The packed pictures of all stages left, checked to be this run's. Raises UserError."""
    source = open_images(config, state, folder)
    stages = [res for res in config.network.stages() if res >= state.res]
    largest = max(int(config.training.batch.at(res)) for res in stages)
    check_enough(config, len(source), largest)
    packed = pack(
        source,
        [(res, *config.network.size(res)) for res in stages],
        fit=config.data.fit,
        crop_margin=CROP_MARGIN if config.data.random_crop else 1.0,
    )
    print("\n".join(packed.notes()), flush=True)
    check_enough(config, len(packed), largest)
    return packed


def write_down(config: Config, state: TrainState, packed: ImageCache, folder: RunDir) -> None:
    """config.json, and in the state which pictures it is trained on."""
    state.data = packed.fingerprint
    facts = {"fingerprint": packed.fingerprint, "pictures": len(packed), "unreadable": list(packed.unreadable)}
    folder.write_config(config, {"seed": config.training.seed, "threads": state.threads, "data": facts})


def check_enough(config: Config, count: int, batch: int) -> None:
    if count < batch:
        raise UserError(f"{config.data.data} has {count} pictures, fewer than a batch of {batch}: lower --batch")


def pick_device(name: str) -> torch.device:
    """`auto`: cuda, else mps, else cpu. Raises UserError when the one asked for is not here."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, here in have.items() if here)
    if not have[name]:
        raise UserError(f"--device {name} is not available here: use --device auto")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> str:
    """`auto`: bf16 on a GPU or CPU that computes with it, fp16 on another GPU, fp32 elsewhere."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether the processor has instructions for it (AVX-512, AMX, ARM): without, it is many times slower than fp32."""
    known = getattr(torch.cpu, "get_capabilities", dict)()  # not in torch before 2.12
    return any(have for name, have in known.items() if name.endswith("bf16"))


def default_folder(config: Config) -> str:
    """runs/<data>-<preset>-<max-res>: the same command finds the same folder again."""
    data = config.data.data
    name = data.replace(":", "-") if data.partition(":")[0] == "builtin" else Path(data).resolve().stem
    return f"runs/{name}-{config.preset}-{config.network.ends()[1]}"
