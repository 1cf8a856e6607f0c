"""Commands, flags and links in the pages and docstrings are those of today. Commands are parsed, never run."""

import argparse
import ast
import re
import runpy
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest
from runs import ROOT

from pggan.config import cli
from pggan.config.presets import preset
from pggan.config.schema import Config, to_dict
from pggan.config.validation import validate
from pggan.training import checkpoint

FOLDERS = ("results", "experiments", "pggan", "tools")
PAGES = [*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))]
SCRIPTS = [ROOT / "train.py", *(ROOT / "tools").glob("[a-z]*.py"), *(ROOT / "experiments").rglob("*.py")]
COMMAND = re.compile(r"python ((?:train|tools/\w+|experiments/[\w-]+/\w+)\.py(?: [^`\n#|]*)?)")
FOREIGN = {"--no-deps", "--target", "--logdir", "--samples_per_plugin", "--summary"}  # of pip, tensorboard and wandb


class ParsedError(Exception):
    """The command line was accepted, and nothing has been run yet."""


def text_of(path: Path) -> str:
    """A page, or the docstring of a script, with each command on one line."""
    text = path.read_text()
    text = ast.get_docstring(ast.parse(text)) or "" if path.suffix == ".py" else text
    text = re.sub(r"^```.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", "", text)
    return re.sub(r"`[^`]+`", lambda code: " ".join(code[0].split()), text)


FOUND = {found for path in [*PAGES, *SCRIPTS, ROOT / "Makefile"] for found in COMMAND.findall(text_of(path))}
COMMANDS = sorted({re.sub(r"[][]", "", found).strip() for found in FOUND})  # [--flag VALUE]: optional


@pytest.fixture
def parse(monkeypatch, capsys):
    """parse(script, *flags): what the script prints until it has parsed its flags. Fails where it refuses them."""
    read, read_plain = cli.parse, argparse.ArgumentParser.parse_args

    def parsed(kind, argv, *default, **more):
        value = read(kind, argv, *default, **more)
        if isinstance(value, Config):
            validate(value)
        raise ParsedError

    def parsed_plain(parser, argv=None):
        read_plain(parser, argv)
        raise ParsedError

    monkeypatch.setattr(cli, "parse", parsed)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed_plain)
    monkeypatch.setattr(checkpoint, "load", lambda path: {"config": to_dict(preset("paintings"))})  # for --resume

    def run(script: str, *flags: str) -> str:
        place, known = (ROOT / script).parent, set(sys.modules)
        monkeypatch.setattr(sys, "argv", [script, *flags])
        monkeypatch.setattr(sys, "path", [str(place), *sys.path])
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except ParsedError:
            pass
        except SystemExit as end:
            assert not end.code, capsys.readouterr().err
        finally:  # several experiments have a module of the same name
            for name in set(sys.modules) - known:
                if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == place:
                    del sys.modules[name]
        return capsys.readouterr().out

    return run


def test_there_are_commands():
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_is_accepted(command, parse):
    parse(*shlex.split(command))


@cache
def known_flags(parse) -> set[str]:
    helps = [parse("train.py", "--help"), *(parse("tools/bench.py", name, "--help") for name in ("train", "limits"))]
    helps += [parse(f"tools/{path.name}", "--help") for path in (ROOT / "tools").glob("[a-z]*.py")]
    return set(re.findall(r"--[a-z][a-z0-9-]*", "\n".join([*helps, *(path.read_text() for path in SCRIPTS)])))


def test_flags_that_are_mentioned_exist(parse):
    known = known_flags(parse) | FOREIGN
    told = {(path.name, flag) for path in PAGES for flag in re.findall(r"(?<!\S)[`(]?(--[a-z][\w-]*)", text_of(path))}
    assert not {(name, flag) for name, flag in told if flag not in known or flag in cli.RENAMED}


def anchors(path: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_its_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        place, _, anchor = link.partition("#")
        if "://" not in link:
            target = (page.parent / place).resolve() if place else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_the_design_page_names_every_module():
    page, root = (ROOT / "pggan" / "DESIGN.md").read_text(), ROOT / "pggan"
    rows = dict(re.findall(r"^\| `(\w+)/` \| (.*) \|$", page, re.MULTILINE))
    packages = {path.parent.name: path.parent for path in root.glob("*/__init__.py")}
    assert rows.keys() == {"pggan", *packages}
    for name, folder in {"pggan": root, **packages}.items():
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        inner = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")} if folder != root else set()
        assert modules | inner == set(re.findall(r"`(\w+/?)`", rows[name])), name
