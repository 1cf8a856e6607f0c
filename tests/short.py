"""Short runs in this process, watched from within, for the tests of the loop."""

import json
import os
import signal
from pathlib import Path

from runs import TINY

from pggan.config import cli
from pggan.config.presets import preset
from pggan.config.schema import Config
from pggan.data.batches import BatchLoader
from pggan.run import loop
from pggan.training import checkpoint, phases

# 4 -> 8 px in 38 steps
SHORT = ["--max-res", "8", "--stable-kimg", "0.1", "--fade-kimg", "0.1", "--sample-kimg", "10"]


def make_settings(cache: Path, out: Path, *flags: object, base: str = "smoke", **kind: str) -> Config:
    """The Config of a short run in `out`; kind: arch, loss."""
    words = [*TINY[2:], *SHORT, "--cache", cache, "--out", out, *flags]
    return cli.parse(Config, [str(word) for word in words], preset(base, **kind))


def growth(run: Path) -> list[dict]:
    return json.loads((run / "growth.json").read_text())


def latest(run: Path) -> dict:
    return checkpoint.load(run / "checkpoints" / "latest.pt")


def watch_steps(monkeypatch, before=None, after=None) -> None:
    """Calls before(state, reals) and after(state, reals) around every step."""
    real = loop.step

    def step(state, reals, say):
        if before:
            before(state, reals)
        real(state, reals, say)
        if after:
            after(state, reals)

    monkeypatch.setattr(loop, "step", step)


def watch_losses(monkeypatch, discriminator=None, generator=None) -> None:
    """Calls discriminator(reals, fakes, mix, weight), generator(fakes) for every loss; either may return a factor."""
    d_loss, g_loss = phases.discriminator_loss, phases.generator_loss

    def times(result, factor):
        loss, stats = result
        return result if factor is None else (loss * factor, {name: value * factor for name, value in stats.items()})

    def d(loss, critic, reals, fakes, mix, weight, *more):
        factor = discriminator and discriminator(reals, fakes, mix, weight)
        return times(d_loss(loss, critic, reals, fakes, mix, weight, *more), factor)

    def g(loss, critic, fakes, reals):
        factor = generator and generator(fakes)
        return times(g_loss(loss, critic, fakes, reals), factor)

    monkeypatch.setattr(phases, "discriminator_loss", d)
    monkeypatch.setattr(phases, "generator_loss", g)


def watch_pictures(monkeypatch) -> list[BatchLoader]:
    """The batches' source of each stage, as the loop opens it."""
    opened, real = [], loop.batches_at
    monkeypatch.setattr(loop, "batches_at", lambda *given: opened.append(real(*given)) or opened[-1])
    return opened


def interrupt_at(monkeypatch, nimg: int) -> None:
    """SIGTERM during the step that begins at image `nimg`."""
    watch_steps(monkeypatch, before=lambda state, *_: state.nimg == nimg and os.kill(os.getpid(), signal.SIGTERM))
