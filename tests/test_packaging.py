"""requirements.txt, pyproject.toml and constraints.txt agree."""

import re
import tomllib

from runs import ROOT


def lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def package(requirement: str) -> str:
    return re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-")


def test_running_needs_the_same_packages_everywhere_and_each_has_a_tested_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert lines("requirements.txt") == project["dependencies"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    tested = {package(line): line.partition("==")[2] for line in lines("constraints.txt")}
    needed = {package(line) for line in [*project["dependencies"], *extras]} - {"pggan"}
    assert needed <= tested.keys() and all(re.fullmatch(r"[\w.]+", version) for version in tested.values())
