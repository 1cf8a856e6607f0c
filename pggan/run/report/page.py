"""report.html: the whole run on one page, made from the files of its folder. torch loads only to draw grids."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path

from pggan import system
from pggan.errors import first_line
from pggan.run.report import facts as run_facts
from pggan.run.report.charts import alpha_of, curves
from pggan.run.report.commands import commands
from pggan.run.report.grids import Grids
from pggan.run.report.parts import command_blocks, config_tables, escaped, growth_table
from pggan.run.report.records import last, read_records

MAX_NEW = 4  # grids that one update beside training encodes
HERE = Path(__file__).resolve().parent


class Report:
    """The page of the run in `folder`. Keep the object: it encodes each grid once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / "report.html"
        self.grids = Grids(folder / "samples")
        self.failed = False

    def write(self, max_new: float = math.inf) -> Path:
        """Replaces report.html; returns its path. Raises OSError.

        max_new: encode at most so many new grids, about 0.2 s each; the others come with the next call.
        """
        text = self.page(max_new)
        with system.replacing(self.path) as temporary:
            temporary.write_bytes(text.encode("utf-8", "replace"))
        return self.path

    def update(self, print_line: Callable[[str], None] = print, max_new: float = MAX_NEW) -> None:
        """As `write`, for use beside training: raises nothing. The first of several failures in a row is printed.

        After a restart, the earlier grids come back `max_new` at a time, so that no update takes long.
        """
        try:
            self.write(max_new)
            self.failed = False
        except Exception as error:  # training is worth more than its report
            if not self.failed:
                print_line(f"{self.path} could not be written: {first_line(error)}")
            self.failed = True

    def page(self, max_new: float = math.inf) -> str:
        """The page as HTML."""
        table, facts = read_records(self.folder / "metrics.jsonl"), run_facts.read(self.folder)
        end = facts.end(last(table, "nimg") or 0)
        name, now = self.folder.resolve().name, datetime.now().astimezone()
        grids = [{**grid, "caption": caption(grid, table, facts.growth)} for grid in self.grids.read(max_new)]
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


def caption(grid: dict, table: dict, growth: list[dict]) -> str:
    """`64 px, 250.0 kimg, alpha 0.50`"""
    alpha = alpha_of(grid["res"], grid["nimg"], table, growth)
    return f"{grid['res']} px, {grid['nimg'] / 1000:,.1f} kimg, alpha {alpha:.2f}"


@cache
def fixed() -> dict[str, str]:
    """The parts that are the same on every page: scripts, styles, and the hashes that allow just these scripts."""
    own = "".join(read(name) for name in ("numbers.js", "curves.js", "page.js"))
    scripts = {"uplot_js": read("vendor/uPlot.iife.min.js"), "page_js": f'"use strict";\n(() => {{\n{own}}})();\n'}
    allowed = " ".join(f"'sha256-{digest(text)}'" for text in scripts.values())
    return {**scripts, "allowed": allowed, "css": read("vendor/uPlot.min.css") + read("page.css")}


def digest(text: str) -> str:
    """The hash of a script in the form of a Content-Security-Policy."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def harmless(text: str) -> str:
    """JSON, changed so that it cannot end the script element around it."""
    return text.replace("<", "\\u003c")


def filled(parts: dict[str, str]) -> str:
    """The template with each {{name}} replaced. Text that is filled in is not searched for names."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], read("page.html"))
