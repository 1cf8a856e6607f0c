"""Fixtures of the tests that train short runs in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from runs import TINY
from short import make_settings

import train as train_script
from pggan.config.schema import Config
from pggan.run.loop import train


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def settings(cache, tmp_path) -> Callable[..., Config]:
    """settings(*flags, base="smoke") -> Config of a short run in tmp_path/run."""

    def make(*flags: object, base: str = "smoke", out: str = "run", **kind: str) -> Config:
        return make_settings(cache, tmp_path / out, *flags, base=base, **kind)

    return make


@pytest.fixture(scope="session")
def started(cache, tmp_path_factory) -> Path:
    """A finished run at 4 px; copy it before you go on with it."""
    return train(make_settings(cache, tmp_path_factory.mktemp("started") / "run", "--max-res", 4))


@pytest.fixture(scope="session")
def tiny_run(cache, tmp_path_factory) -> Path:
    """A finished run from 4 to 16 px, made by train.py with TINY; copy it before you go on with it."""
    run = tmp_path_factory.mktemp("tiny") / "run"
    train_script.main([*TINY, "--cache", str(cache), "--out", str(run)])
    return run
