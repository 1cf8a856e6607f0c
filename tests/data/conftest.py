"""Fixtures that several tests of the data use."""

from pathlib import Path

import pytest
from image_files import save

from pggan.data import reading


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twelve images in two classes."""
    for number in range(12):
        save(tmp_path / "data" / ("ink" if number % 3 else "oil") / f"{number:02d}.png", number)
    return tmp_path / "data"


@pytest.fixture
def small_folder(tmp_path) -> Path:
    """Three images of different kinds, without classes."""
    for number, name in enumerate(["b.jpg", "a.png", "deep/er/c.webp"]):
        save(tmp_path / "data" / name, number)
    return tmp_path / "data"


@pytest.fixture
def png(tmp_path) -> bytes:
    save(tmp_path / "one.png")
    return (tmp_path / "one.png").read_bytes()


@pytest.fixture
def decodes(monkeypatch) -> list[str]:
    """The names of the images decoded in this process."""
    names, pyramid = [], reading.pyramid
    monkeypatch.setattr(reading, "pyramid", lambda data, name, *rest: names.append(name) or pyramid(data, name, *rest))
    return names
