import os
import tempfile
from pathlib import Path

import pytest
import torch

# The tests start many short processes. Without a cache of bytecode, each would compile for ten seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(tempfile.gettempdir(), "pggan-tests-pycache")))


@pytest.fixture(autouse=True)
def one_thread():
    """One thread: beside another busy process, networks this small are a hundred times slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
