import os
import tempfile
from pathlib import Path

import pytest
import torch

# The tests start many short processes. Where Python may not keep what it compiles, each would take ten seconds for it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(tempfile.gettempdir(), "pggan-tests-pycache")))


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are a hundred times slower on two threads than on one, when another process is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
