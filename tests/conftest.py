import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are a hundred times slower on two threads than on one, when another process is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
