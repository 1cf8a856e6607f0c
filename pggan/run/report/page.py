"""report.html: all of a run on one page, made again and again from the files of its folder. No torch here."""

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path

from pggan.run.report import facts as run_facts
from pggan.run.report.charts import alpha_of, curves
from pggan.run.report.commands import commands
from pggan.run.report.grids import Grid, Grids
from pggan.run.report.parts import command_blocks, config_tables, escaped, growth_table
from pggan.run.report.records import Records, last

NEW_AT_ONCE = 4  # grids
HERE = Path(__file__).resolve().parent


class Report:
    """The page of the run in `folder`. Keep it: each write after the first reads and encodes what is new only."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / "report.html"
        self.records = Records(folder / "metrics.jsonl")
        self.grids = Grids(folder / "samples")
        self.failed = False

    def write(self, most_new: float = math.inf) -> Path:
        """Makes report.html, whole or not at all, of whatever is there; returns its path. Raises OSError.

        most_new: how many grids may be encoded now, a fifth of a second each at 256 px; the rest come the next time.
        """
        text = self.page(most_new)
        beside = self.path.with_name(self.path.name + ".tmp")
        beside.write_bytes(text.encode("utf-8", "replace"))
        os.replace(beside, self.path)
        return self.path

    def update(self, say: Callable[[str], None] = print, most_new: float = NEW_AT_ONCE) -> None:
        """As `write`, for use beside training: nothing is raised, and the first failure in a row is told.

        It does not take long: after a restart, the grids of before come back `most_new` at a time.
        """
        try:
            self.write(most_new)
            self.failed = False
        except Exception as error:  # no page is worth a run
            if not self.failed:
                say(f"{self.path} could not be written: {' '.join(str(error).split()) or type(error).__name__}")
            self.failed = True

    def page(self, most_new: float = math.inf) -> str:
        """The whole page."""
        self.records.read()
        table, facts = self.records.table(), run_facts.read(self.folder)
        end = facts.end(last(table, "nimg") or 0)
        name, now = self.folder.resolve().name, datetime.now().astimezone()
        grids = [self.grid(grid, table, facts.growth) for grid in self.grids.read(most_new)]
        parts = {
            "title": escaped(name),
            "state": escaped(run_facts.state(table, facts)),
            "going_on": "no" if end else "yes",
            "iso": now.isoformat(timespec="seconds"),
            "updated": now.strftime("%Y-%m-%d %H:%M %Z"),
            "growth": growth_table(facts.growth),
            "commands": command_blocks(commands(self.folder, facts, end)),
            "config": config_tables(facts),
            "curves": harmless(curves(table, facts.growth)),
            "grids": harmless(json.dumps(grids)),
        }
        return filled({**parts, **fixed()})

    def grid(self, grid: Grid, table: dict, growth: list[dict]) -> dict:
        """A grid as the page's script takes it."""
        alpha = alpha_of(grid.res, grid.nimg, table, growth)
        return {**asdict(grid), "caption": f"{grid.res} px, {grid.nimg / 1000:,.1f} kimg, alpha {alpha:.2f}"}


@cache
def fixed() -> dict[str, str]:
    """The parts that are the same on every page; the scripts' hashes are the only ones that may run."""
    own = "".join(read(name) for name in ("numbers.js", "curves.js", "page.js"))
    scripts = {"uplot_js": read("vendor/uPlot.iife.min.js"), "page_js": f'"use strict";\n(() => {{\n{own}}})();\n'}
    allowed = " ".join(f"'sha256-{digest(text)}'" for text in scripts.values())
    return {**scripts, "allowed": allowed, "css": read("vendor/uPlot.min.css") + read("page.css")}


def digest(text: str) -> str:
    """As a content security policy has it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def harmless(text: str) -> str:
    """JSON that cannot end the script element it stands in."""
    return text.replace("<", "\\u003c")


def filled(parts: dict[str, str]) -> str:
    """The template with each {{name}} replaced, once: what is filled in is not looked through again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], read("page.html"))
