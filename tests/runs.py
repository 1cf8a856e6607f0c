"""Whole runs in processes of their own, for the tests that start, kill and compare them."""

import io
import json
import os
import runpy
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

# 4 -> 16 px in a few hundred steps: every event of a long run, in seconds
TINY = [
    *("--preset", "smoke", "--data", "builtin:3", "--builtin-images", "40", "--start-res", "4", "--max-res", "16"),
    *("--fmap-base", "32", "--fmap-max", "8", "--latent", "8", "--batch", "8", "--stable-kimg", "0.2"),
    *("--fade-kimg", "0.12", "--record-kimg", "0.05", "--sample-kimg", "0.1", "--grid", "2x2", "--wandb", "off"),
    *("--threads", "1", "--device", "cpu"),
]


def command(*flags: object, script: str = "train.py") -> list[str]:
    return [sys.executable, str(ROOT / script), *map(str, flags)]


def start(*flags: object, script: str = "train.py", cwd: Path = ROOT, **env: str) -> subprocess.Popen:
    """The process of a command, with its output in pipes."""
    return subprocess.Popen(
        command(*flags, script=script),
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*flags: object, script: str = "train.py", cwd: Path = ROOT, **env: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command run to its end."""
    process = start(*flags, script=script, cwd=cwd, **env)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def refused(*flags: object, script: str = "train.py", cwd: Path = ROOT, **env: str) -> str:
    """The one line of a command that must end with exit code 2."""
    code, _, err = finish(*flags, script=script, cwd=cwd, **env)
    assert code == 2, (code, err)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def refused_here(*flags: object, script: str) -> str:
    """As `refused`, but the script runs in this process, which saves seconds of imports."""
    err = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(err), pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", [script, *map(str, flags)])
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert end.value.code == 2
    (line,) = err.getvalue().splitlines()
    assert line.startswith("error: ")
    return line


def assert_same(a: object, b: object, where: str = "") -> None:
    """All tensors and plain values equal, bit for bit."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{number}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    else:
        assert a == b, where


def records(run: Path) -> list[dict]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(("speed/", "memory/", "wall/"))} for line in lines]


def content(path: Path) -> dict:
    """A checkpoint without the settings of saving and logging, which may differ, and so without its checksum."""
    values = torch.load(path, weights_only=True)
    return {**values, "sha256": "", "config": {**values["config"], "run": {}}}


def assert_same_run(a: Path, b: Path) -> None:
    """Two run folders that hold one and the same run: checkpoints, records, growth log, grids."""
    names = sorted(path.name for path in (a / "checkpoints").glob("*.pt") if path.name != "previous.pt")
    assert names == sorted(path.name for path in (b / "checkpoints").glob("*.pt") if path.name != "previous.pt")
    for name in names:
        assert_same(content(a / "checkpoints" / name), content(b / "checkpoints" / name), name)
    assert records(a) == records(b)
    assert (a / "growth.json").read_text() == (b / "growth.json").read_text()
    grids = sorted(path.name for path in (a / "samples").glob("*"))
    assert grids == sorted(path.name for path in (b / "samples").glob("*"))
    for name in grids:
        assert (a / "samples" / name).read_bytes() == (b / "samples" / name).read_bytes(), name
