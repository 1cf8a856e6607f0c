"""Growing a checkpoint outside the loop, for tools/grow.py and for runs with --schedule manual."""

from pathlib import Path

import torch

from pggan.errors import UserError
from pggan.run.run_dir import RunDir
from pggan.training import checkpoint
from pggan.training.growth import Probe, grow_state
from pggan.training.loading import state_from
from pggan.training.state import TrainState


def grow_file(path: Path, out: Path | None = None) -> tuple[int, TrainState, Path, bool]:
    """Grows the checkpoint at `path`; returns (resolution before, grown state, its file, whether it replaced `path`).

    out: None: grown-RES.pt beside `path`; but the latest.pt of a run with `--schedule manual` is replaced, and the
    growth written to growth.json, so that the run can go on. Raises UserError, with nothing written.
    """
    run = path.resolve().parent.parent
    in_a_run = path.name == "latest.pt" and (run / "config.json").exists()
    if out is None and in_a_run and RunDir(run).config().schedule.schedule == "manual":
        with RunDir(run) as folder:  # locked while it is read and replaced
            before, state = _grown(path)
            folder.save(state)
            folder.write_growth(state.growth)
        return before, state, path, True
    before, state = _grown(path)
    out = out or path.with_name(f"grown-{state.res:04d}.pt")
    if out.exists() and out.resolve() == path.resolve():
        raise UserError(f"--out {out} is the checkpoint itself: name another file")
    checkpoint.save(state.to_dict(), out)
    return before, state, out, False


def _grown(path: Path) -> tuple[int, TrainState]:
    state = state_from(checkpoint.load(path), torch.device("cpu"))
    before = Probe(state)
    grow_state(state, reason=f"tools/grow.py {path.name}")
    before.check(state)
    return before.res, state
