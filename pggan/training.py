"""The loop: steps, stages, and what happens at their ends."""

import os
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from pggan import checkpoint, ema
from pggan.config import Config, at, faded
from pggan.data.batches import Pictures
from pggan.data.packing import Pack
from pggan.errors import Diverged, Interrupted, UserError
from pggan.folder import RunFolder
from pggan.losses import LOSSES
from pggan.networks import fade_reals
from pggan.optimizer import set_lr
from pggan.run import NonFiniteError, Run, Signals, wall_clock
from pggan.schedule import Stage, finished, planned_images
from pggan.starting import begin, complete, default_folder, load_pictures, over, write_down
from pggan.state import TrainState, state_from
from pggan.validation import validate

MOST_ROLLBACKS = 3


def train(config: Config, clock: Callable[[], float] = wall_clock) -> Path:
    """Runs `config`, or goes on with the unfinished run in its folder; returns the folder.

    Raises UserError for what the user can mend, Diverged, and Interrupted after a signal, when all is saved.
    """
    validate(config)
    with RunFolder(Path(os.path.expanduser(config.run.out or default_folder(config)))) as folder:
        config = complete(config, folder)
        try:
            state = begin(config, folder)
            if over(state):
                where = f"{state.res} px at {state.nimg / 1000:.2f} kimg"
                print(f"{folder.path} is finished: {where}; to go on, raise --max-res, with --out {folder.path}")
                return folder.path
            pictures = load_pictures(config, state, folder)
            folder.make_mine()
            write_down(config, state, pictures, folder)
            go_on(config, folder, state, pictures, clock)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise UserError(
                f"out of memory ({str(error).splitlines()[0][:120]}): what is saved stays; begin anew with a smaller "
                f"--batch or --fmap-base and another --out"
            ) from error
    return folder.path


def out_of_memory(error: Exception) -> bool:
    """Of the device or of the machine; torch tells the second in words only."""
    said = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in said


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
    G, D, settings, alpha = state.G, state.D, state.config.training, stage.alpha(state.nimg)
    loss, critic = LOSSES[settings.loss], partial(D, alpha=alpha)
    with run.watch("data"):
        reals = pictures.batch(state.nimg, state.batch())
    reals = fade_reals(reals, alpha)
    latents_d, latents_g, mix = noise(state)
    set_rates(state, stage)

    with torch.no_grad():
        fakes = G(latents_d, alpha)
    weight = faded(settings.penalty, state.res, alpha)
    d_loss, d_stats = loss.discriminator(critic, reals, fakes, mix, weight, settings.drift)
    descend(state.adam_d, d_loss)

    D.requires_grad_(False)
    g_loss, g_stats = loss.generator(critic, G(latents_g, alpha))
    descend(state.adam_g, g_loss)
    D.requires_grad_(True)

    seen = state.nimg + state.batch()
    lives = ema.half_lives(1000 * at(settings.ema_kimg, state.res), settings.ema_ramp, seen, seen - stage.start)
    ema.update(state.average, G, *(ema.decay(state.batch(), life) for life in lives))
    state.add({**d_stats, **g_stats})


def noise(state: TrainState) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents for D's step and for G's, [batch, Z], and a number in [0, 1) for each picture, [batch]."""
    stream, nimg, batch, width = state.stream, state.nimg, state.batch(), state.config.network.latent
    numbers = [stream.normal(f"latents {player}", nimg, batch, width) for player in "DG"]
    numbers.append(stream.uniform("mix", nimg, batch, 1)[:, 0].astype("float32"))
    return tuple(torch.from_numpy(array).to(state.device) for array in numbers)


def set_rates(state: TrainState, stage: Stage) -> None:
    """The learning rates of this step; weights that are new since the last growth are warmed up."""
    settings, warmth = state.config.training, 1.0
    if len(state.G.rgb) == 2 and settings.warmup_kimg:  # it has grown
        warmth = min(1.0, (state.nimg - stage.start + state.batch()) / (1000 * settings.warmup_kimg))
    for optimizer in (state.adam_d, state.adam_g):
        set_lr(optimizer, at(settings.lr, state.res) * state.lr_factor, warmth)


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


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
        failed.log("stop", failed.res, f"{error}, after {MOST_ROLLBACKS} rollbacks", {"lr_factor": failed.lr_factor})
        run.folder.write_growth(failed.growth)
        raise Diverged(
            f"{error} at {failed.nimg / 1000:.2f} kimg, after {MOST_ROLLBACKS} rollbacks: "
            f"begin anew with a lower --lr and another --out"
        )
    state = state_from(checkpoint.load_latest(run.folder.checkpoints), failed.device, failed.config)
    state.attempt, state.lr_factor = attempt, failed.lr_factor / 2
    if state.res == failed.res:
        state.stage_seconds = failed.stage_seconds  # a stage's clock counts what failed, too
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


def summary(folder: Path) -> str:
    """What a finished run leaves to look at, and what to type next."""
    checkpoints = folder / "checkpoints"
    return (
        f"samples      {RunFolder(folder).newest_grid()}\n"
        f"checkpoints  {', '.join(str(path) for path in sorted(checkpoints.glob('res-*.pt')))}\n"
        f"more of them: python tools/sample.py {shlex.quote(str(checkpoints / 'latest.pt'))} --num 64 --out samples"
    )
