from pathlib import Path

import pytest
from PIL import Image
from sets import make_checkpoint, noise


@pytest.fixture
def folder(tmp_path) -> Path:
    """30 pictures of 24x20 px in two classes, the file of number i holding noise(i)."""
    for number in range(30):
        path = tmp_path / "pictures" / ("b" if number >= 18 else "a") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(number)).save(path)
    return tmp_path / "pictures"


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A checkpoint with new networks at 8 px."""
    return make_checkpoint(tmp_path_factory.mktemp("trained") / "latest.pt")
