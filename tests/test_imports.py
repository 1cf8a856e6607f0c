"""Imports point one way, and what must start quickly stays light."""

import ast
import subprocess
import sys
from pathlib import Path

from runs import ROOT

# A package may import those of lower rank, and nothing else of pggan.
RANKS = {
    **dict.fromkeys(("errors", "randomness"), 0),
    "system": 1,
    "config": 2,
    **dict.fromkeys(("data", "models", "schedule"), 3),
    "metrics": 4,
    "training": 5,
    "evaluation": 6,
    "run": 7,
}


def room(path: Path) -> str:
    """`pggan/data/packing.py` -> data; `pggan/run/events.py` -> run."""
    return path.relative_to(ROOT / "pggan").parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms of pggan that a file imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in modules if name.startswith("pggan.")} & set(RANKS)


def test_imports_point_one_way():
    files = [path for path in (ROOT / "pggan").rglob("*.py") if path.name != "__init__.py"]
    assert {room(path) for path in files} == set(RANKS)
    wrong = [
        f"{path.name} imports {name}"
        for path in files
        for name in imported(path)
        if name != room(path) and RANKS[name] >= RANKS[room(path)]
    ]
    assert not wrong


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_command_line_and_the_schedule_need_no_torch():
    loaded = modules_after("import train, pggan.schedule.stages, pggan.data.builtin")
    assert not loaded & {"torch", "torchvision", "wandb", "scipy", "matplotlib"}


def test_the_public_names_load_from_the_package():
    statement = "import pggan; [getattr(pggan, name) for name in pggan.__all__]; from pggan import Generator"
    assert "pggan.models.networks" in modules_after(statement)
