"""The notebook for hosted GPUs, executed on this machine's CPU by a kernel of the interpreter that runs the tests."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from runs import ROOT, TINY

NOTEBOOK = ROOT / "experiments" / "hosted-gpu" / "train.ipynb"
PACKAGES = ("nbclient", "nbformat", "ipykernel")
missing = [name for name in PACKAGES if find_spec(name) is None]
needs_kernel = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
DROPPED = {"--preset", "--data", "--max-res"}  # of TINY: the notebook has parameters for them
FLAGS = [word for pair in zip(TINY[::2], TINY[1::2], strict=True) if pair[0] not in DROPPED for word in pair]


@pytest.fixture
def kernel(tmp_path, monkeypatch) -> Path:
    """A Jupyter home of its own, with one kernel: `here`."""
    spec = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "here"}
    place = tmp_path / "jupyter" / "kernels" / "here"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps({**spec, "language": "python"}))
    for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def parameters(work: Path, extra: str = "", max_res: int = 16) -> str:
    """The first cell of a run that takes seconds."""
    values = {"DATA": "builtin:3", "WORK": str(work / "work"), "BUDGET": "", "MAX_RES": max_res, "PRESET": "smoke"}
    values |= {"EXTRA": " ".join([*FLAGS, "--cache", str(work / "cache"), extra]), "REPO": ""}
    return "\n".join(f"{name} = {value!r}" for name, value in values.items())


def executed(first_cell: str, upto: str | None = None):
    """(the notebook with its outputs, the error that ended it or None). upto: the id of the last cell to execute."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])).source = first_cell
    if upto:
        notebook.cells = notebook.cells[: [cell.id for cell in notebook.cells].index(upto) + 1]
    client = NotebookClient(
        notebook, timeout=120, kernel_name="here", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return notebook, error
    return notebook, None


def output(notebook, cell: str) -> str:
    """The text that a cell printed."""
    (found,) = [each for each in notebook.cells if each.id == cell]
    return "".join(item.get("text", "") for item in found.outputs)


def shown(notebook, cell: str, kind: str) -> list[str]:
    """The outputs of one MIME type of a cell."""
    (found,) = [each for each in notebook.cells if each.id == cell]
    return [item.data[kind] for item in found.outputs if item.output_type == "display_data" and kind in item.data]


def assert_whole(notebook) -> None:
    """Every cell has shown its grid, film or page."""
    assert len(shown(notebook, "grid", "image/png")) == len(shown(notebook, "sample", "image/png")) == 1
    assert "data:image/webp;base64," in shown(notebook, "film", "text/html")[0]
    assert "iframe" in "".join(shown(notebook, "report", "text/html")) or "no report" in output(notebook, "report")


def kill_in_the_middle(work: Path, killed: list[int]) -> None:
    """Waits until the training in `work` is in its second stage, then kills it with SIGKILL."""
    until, metrics = time.monotonic() + 60, work / "work" / "run" / "metrics.jsonl"
    while time.monotonic() < until:
        if metrics.exists() and '"growth/res": 8' in metrics.read_text():
            pid = training(work)
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            return
        time.sleep(0.02)


def training(work: Path) -> int:
    """The process that trains in `work`, not its children."""
    command = ["ps", "-ww", "-eo", "pid=,ppid=,args="]  # ww: lines of any length
    listed = [line.split() for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines()]
    ours = {int(words[0]): int(words[1]) for words in listed if str(work / "work" / "run") in words}
    (first,) = [pid for pid, parent in ours.items() if parent not in ours]
    return first


# ---- the file


def test_the_notebook_is_stored_without_outputs_and_its_first_code_cell_holds_the_parameters():
    stored = json.loads(NOTEBOOK.read_text())
    cells = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert len({cell["id"] for cell in stored["cells"]}) == len(stored["cells"])
    assert [cell["metadata"].get("tags", []) for cell in cells] == [["parameters"], *[[]] * (len(cells) - 1)]
    values: dict = {}
    exec("".join(cells[0]["source"]), values)
    assert {name for name in values if name.isupper()} == {
        *("DATA", "WORK", "BUDGET", "MAX_RES", "PRESET", "EXTRA", "REPO"),
    }
    assert (values["BUDGET"], values["MAX_RES"], values["PRESET"], values["EXTRA"]) == ("3h", 256, "paintings", "")


@pytest.mark.parametrize(("budget", "flags"), [("3h", ["--budget", "3h"]), ("", [])])
def test_the_parameters_are_handed_to_the_run(budget, flags):
    cell = next(cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["id"] == "train")
    values = {"DATA": "DIR", "PRESET": "cpu", "MAX_RES": 64, "BUDGET": budget, "EXTRA": "--grid '6x4'", "RUN": "place"}
    commands = []
    exec("".join(cell["source"]), {**values, "shlex": shlex, "run": lambda *words: commands.append(words)})
    first = ["train.py", "--data", "DIR", "--out", "place", "--preset", "cpu", "--max-res", 64]
    assert commands == [(*first, *flags, "--grid", "6x4")]


@needs_kernel
def test_the_notebook_is_valid():
    import nbformat

    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


# ---- executed


@needs_kernel
@pytest.mark.slow
def test_executed_from_the_start_it_trains_and_shows_and_again_it_says_that_the_run_is_finished(kernel):
    notebook, error = executed(parameters(kernel))
    assert error is None
    assert "16 px" in output(notebook, "train")
    assert_whole(notebook)
    latest = (kernel / "work" / "run" / "checkpoints" / "latest.pt").read_bytes()
    again, error = executed(parameters(kernel), upto="train")
    assert error is None and "is finished" in output(again, "train")
    assert (kernel / "work" / "run" / "checkpoints" / "latest.pt").read_bytes() == latest


@needs_kernel
@pytest.mark.slow
def test_killed_in_the_middle_it_says_so_and_executed_again_it_goes_on_to_the_end(kernel):
    first, killed = parameters(kernel, "--save-minutes 0.005 --stable-kimg 4:0.2,8:1,16:0.1"), []
    watcher = threading.Thread(target=kill_in_the_middle, args=(kernel, killed))
    watcher.start()
    _, error = executed(first, upto="train")
    watcher.join()
    assert killed and "killed by signal 9: run this cell again" in str(error)
    before = (kernel / "work" / "run" / "metrics.jsonl").read_bytes()
    first_stage = (kernel / "work" / "run" / "checkpoints" / "res-0004.pt").stat().st_mtime_ns
    _, error = executed(first, upto="grid")
    assert error is None
    records = [json.loads(line) for line in (kernel / "work" / "run" / "metrics.jsonl").read_text().splitlines()]
    numbers = [record["nimg"] for record in records]
    assert numbers == sorted(set(numbers)) and records[-1]["growth/res"] == 16
    kept = before.count(b"\n")
    assert 0 < kept < len(records)
    assert (kernel / "work" / "run" / "checkpoints" / "res-0004.pt").stat().st_mtime_ns == first_stage


@needs_kernel
@pytest.mark.slow
def test_what_train_py_refuses_ends_the_cell_with_its_one_line(kernel):
    notebook, error = executed(parameters(kernel, max_res=17), upto="train")
    assert error.ename == "RuntimeError" and error.evalue.startswith("error: --max-res 17 is no resolution of --base")
    assert "Traceback" not in output(notebook, "train")
