"""The loop: steps, stages, and what happens at their ends."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from pggan import checkpoint, ema
from pggan.config import Config, at, differences, faded, from_dict, validate
from pggan.data.batches import Pictures
from pggan.data.packing import Pack, pack
from pggan.data.sources import open_source
from pggan.errors import Diverged, UserError
from pggan.folder import RunFolder
from pggan.growth import with_room_for
from pggan.losses import LOSSES
from pggan.networks import fade_reals
from pggan.optimizer import set_lr
from pggan.run import Interrupted, NonFiniteError, Run, Signals, newest_grid, wall_clock
from pggan.schedule import Stage, finished, planned_images
from pggan.state import TrainState, new_state, state_from

MOST_ROLLBACKS = 3
CROP_MARGIN = 1.25  # how much larger pictures are packed for random crops


def train(config: Config, clock: Callable[[], float] = wall_clock) -> Path:
    """Runs `config`, or goes on with the unfinished run in its folder; returns the folder.

    Raises UserError for what the user can mend, Diverged, and Interrupted after a signal, when all is saved.
    """
    config = with_room_for(config, 0)
    validate(config)
    folder = RunFolder(Path(config.run.out or default_folder(config)))
    state = begin(config, folder)
    if not over(state):
        pictures = load_pictures(config, state, folder)
        with folder.alone():
            state = begin(config, folder)  # again: another process may have trained here while this one packed
            if not over(state):
                write_down(config, state, pictures, folder)
                go_on(config, folder, state, pictures, clock)
                return folder.path
    print(f"{folder.path} is finished: {state.res} px at {state.nimg / 1000:.2f} kimg; raise --max-res to go on")
    return folder.path


def go_on(
    config: Config, folder: RunFolder, state: TrainState, pictures: Pack, clock: Callable[[], float] = wall_clock
) -> None:
    """All that is left of a run, from `state` on; the folder's records are cut to it. Raises as `train` does."""
    folder.cut_metrics(state.metrics_bytes)
    folder.write_growth(state.growth)
    later = [res for res in config.network.stages() if res > state.res]
    run = Run(folder, state, state.stage().end + planned_images(config.schedule, later, first=False), clock)
    with Signals() as signals:
        try:
            run_stages(run, state, pictures, signals)
        except Interrupted as interrupted:
            run.progress.say(f"saved at {interrupted.nimg / 1000:.2f} kimg; the same command goes on from there")
            raise interrupted from None
        finally:
            run.close()


def run_stages(run: Run, state: TrainState, pack: Pack, signals: Signals) -> None:
    """All stages that are left, from wherever `state` is."""
    run.save(state)  # something to roll back to, and a disk that cannot be written is found out now
    while True:
        stage = state.stage()
        pictures = pictures_at(pack, state)
        try:
            while not (decision := finished(stage, state.nimg, state.stage_seconds)):
                with run.watch("step"):
                    step(run, state, stage, pictures)
                before, state.nimg = state.nimg, state.nimg + state.batch()
                if before < stage.fade_end <= state.nimg and state.config.training.adam_at_growth == "reset":
                    state.renew_adam(carry=False)
                run.after_step(state, stage, before, signals)
            run.end_stage(state, decision)
        except NonFiniteError as error:
            state = roll_back(run, state, error)
            continue
        last = state.res == state.config.network.stages()[-1]
        state.log("stop" if last else "grow", state.res if last else 2 * state.res, decision.reason, decision.numbers)
        if not last:
            state.grow()
        run.folder.write_growth(state.growth)
        run.save(state)
        if last:
            return


def step(run: Run, state: TrainState, stage: Stage, pictures: Pictures) -> None:
    """One step of D, one of G, one of the average, on the images state.nimg .. state.nimg + batch - 1."""
    settings, batch, nimg, stream = state.config.training, state.batch(), state.nimg, state.stream
    G, D, loss, alpha = state.G, state.D, LOSSES[state.config.training.loss], stage.alpha(state.nimg)
    critic = partial(D, alpha=alpha)

    with run.watch("data"):
        reals = pictures.batch(nimg, batch)
    reals = fade_reals(reals, alpha)
    latents = {
        player: torch.from_numpy(stream.normal(f"latents {player}", nimg, batch, G.config.latent)).to(state.device)
        for player in "DG"
    }
    mix = torch.from_numpy(stream.uniform("mix", nimg, batch, 1)[:, 0]).float().to(state.device)
    warmth = 1.0
    if len(G.rgb) == 2 and settings.warmup_kimg:  # it has grown
        warmth = min(1.0, (nimg - stage.start + batch) / (1000 * settings.warmup_kimg))
    for optimizer in (state.adam_d, state.adam_g):
        set_lr(optimizer, at(settings.lr, state.res) * state.lr_factor, warmth)

    with torch.no_grad():
        fakes = G(latents["D"], alpha)
    weight = faded(settings.penalty, state.res, alpha)
    d_loss, d_stats = loss.discriminator(critic, reals, fakes, mix, weight, settings.drift)
    state.adam_d.zero_grad()
    d_loss.backward()
    state.adam_d.step()

    D.requires_grad_(False)
    g_loss, g_stats = loss.generator(critic, G(latents["G"], alpha))
    state.adam_g.zero_grad()
    g_loss.backward()
    state.adam_g.step()
    D.requires_grad_(True)

    half_life = 1000 * at(settings.ema_kimg, state.res)
    if settings.ema_ramp:
        half_life = min(half_life, settings.ema_ramp * (nimg + batch))
    ema.update(state.average, G, ema.decay(batch, half_life))
    state.add({**d_stats, **g_stats})


def begin(config: Config, folder: RunFolder) -> TrainState:
    """The state to start from: the folder's own, else that of --resume, else a new one. Raises UserError."""
    device = pick_device(config.training.device)
    known = folder.config()
    if known and (changed := differences(with_room_for(known, 0), config)):
        raise UserError(f"{folder.path} holds another run ({'; '.join(changed)}): take its settings, or another --out")
    if known and config.run.resume and known.run.resume != config.run.resume:
        raise UserError(f"{folder.path} holds another run: name another --out for what --resume begins")
    values = checkpoint.load_latest(folder.checkpoints)
    if values is None and config.run.resume:
        values = begun_elsewhere(config)
    threads = config.training.threads or (values["threads"] if values else torch.get_num_threads())
    torch.set_num_threads(threads)
    state = state_from(values, device, config) if values else new_state(config, device)
    state.threads = threads
    if state.res > config.network.ends()[1]:
        raise UserError(f"the run is at {state.res} px already: --max-res {config.network.ends()[1]} is below that")
    if values and values["torch"] != torch.__version__:
        print(f"begun with torch {values['torch']}, going on with {torch.__version__}: not bit for bit the same")
    return state


def begun_elsewhere(config: Config) -> dict:
    """The values of --resume's checkpoint, as the start of a new run. Raises UserError when its networks differ."""
    path = Path(config.run.resume)
    values = checkpoint.load(path)
    was, now = (asdict(part.network) for part in (from_dict(values["config"]), config))
    other = [f"--{name.replace('_', '-')} {was[name]}" for name in was if name != "max_res" and was[name] != now[name]]
    if other:
        raise UserError(f"{path} was made with {', '.join(other)}: leave these flags and --preset out")
    return {**values, "metrics_bytes": 0, "data": ""}


def load_pictures(config: Config, state: TrainState, folder: RunFolder) -> Pack:
    """The packed pictures of all stages left, checked to be this run's. Raises UserError."""
    source = open_source(config.data.data, config.data.builtin_pictures, cache=config.data.cache)
    known = folder.record()
    before = state.data or (known["data"]["fingerprint"] if known else "")
    if before and before != source.fingerprint:
        raise UserError(f"the pictures in {config.data.data} are not those of {folder.path}: name another --out")
    stages = [res for res in config.network.stages() if res >= state.res]
    largest = max(int(at(config.training.batch, res)) for res in stages)
    check_enough(config, len(source), largest)
    packed = pack(
        source,
        [(res, *config.network.size(res)) for res in stages],
        fit=config.data.fit,
        crop_margin=CROP_MARGIN if config.data.random_crop else 1.0,
        cache=config.data.cache,
    )
    print("\n".join(packed.notes()), flush=True)
    check_enough(config, len(packed), largest)
    return packed


def write_down(config: Config, state: TrainState, packed: Pack, folder: RunFolder) -> None:
    """config.json, and in the state which pictures it is trained on."""
    state.data = packed.fingerprint
    facts = {"fingerprint": packed.fingerprint, "pictures": len(packed), "unreadable": list(packed.unreadable)}
    folder.write_config(config, {"seed": config.training.seed, "threads": state.threads, "data": facts})


def check_enough(config: Config, count: int, batch: int) -> None:
    if count < batch:
        raise UserError(f"{config.data.data} has {count} pictures, fewer than a batch of {batch}: lower --batch")


def pictures_at(pack: Pack, state: TrainState) -> Pictures:
    settings = state.config.data
    return Pictures(
        pack,
        state.res,
        state.config.network.size(state.res),
        state.stream,
        mirror=settings.mirror,
        random_crop=settings.random_crop,
        device=state.device,
    )


def roll_back(run: Run, failed: TrainState, error: NonFiniteError) -> TrainState:
    """The last good state, with other random numbers and half the learning rate. Raises Diverged after too many."""
    attempt = failed.attempt + 1
    if attempt > MOST_ROLLBACKS:
        raise Diverged(f"{error} at {failed.nimg / 1000:.2f} kimg, after {MOST_ROLLBACKS} rollbacks: lower --lr")
    state = state_from(checkpoint.load_latest(run.folder.checkpoints), failed.device, failed.config)
    state.attempt, state.lr_factor = attempt, failed.lr_factor / 2
    state.metrics_bytes = run.folder.metrics.stat().st_size
    state.log("rollback", state.res, str(error), {"failed_nimg": failed.nimg, "lr_factor": state.lr_factor})
    run.progress.say(
        f"{error} at {failed.nimg / 1000:.2f} kimg: back to {state.nimg / 1000:.2f} kimg "
        f"with half the learning rate, attempt {attempt}"
    )
    run.folder.write_growth(state.growth)
    run.measure_from(state)
    run.save(state)
    return state


def over(state: TrainState) -> bool:
    """Whether the run has stopped and its settings ask for no more."""
    stopped = bool(state.growth) and state.growth[-1]["action"] == "stop"
    last = state.res == state.config.network.stages()[-1]
    return stopped and last and finished(state.stage(), state.nimg, state.stage_seconds) is not None


def pick_device(name: str) -> torch.device:
    """`auto`: cuda, else mps, else cpu. Raises UserError when the one asked for is not here."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, here in have.items() if here)
    if not have[name]:
        raise UserError(f"--device {name} is not available here: use --device auto")
    return torch.device(name)


def default_folder(config: Config) -> str:
    """runs/<data>-<preset>-<max-res>: the same command finds the same folder again."""
    data = config.data.data
    name = data.replace(":", "-") if data.partition(":")[0] == "builtin" else Path(data).resolve().stem
    return f"runs/{name}-{config.preset}-{config.network.ends()[1]}"


def summary(folder: Path) -> str:
    """What a finished run leaves to look at, and what to type next."""
    checkpoints = folder / "checkpoints"
    return (
        f"samples      {newest_grid(RunFolder(folder))}\n"
        f"checkpoints  {', '.join(str(path) for path in sorted(checkpoints.glob('res-*.pt')))}\n"
        f"more of them: python tools/sample.py {checkpoints / 'latest.pt'} --num 64 --out samples"
    )
