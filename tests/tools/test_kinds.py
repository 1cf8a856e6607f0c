"""kinds.py as a command."""

import json

import kinds
import pytest
import torch

from pggan.config.schema import Config, DataConfig, NetworkConfig
from pggan.errors import UserError
from pggan.training import checkpoint
from pggan.training.state import new_state


def trained(path, res: int = 16, data: str = "builtin:3") -> str:
    """A checkpoint with new networks."""
    network = NetworkConfig(start_res=res, max_res=res, fmap_base=32, fmap_max=8, latent=8)
    state = new_state(Config(network=network, data=DataConfig(data=data)), torch.device("cpu"))
    checkpoint.save(state.to_dict(), path)
    return str(path)


def test_every_sample_is_counted_once(tmp_path, capsys):
    flags = ["--num", "70", "--json", str(tmp_path / "kinds.json")]
    kinds.main([trained(tmp_path / "latest.pt"), *flags])
    figures, said = json.loads((tmp_path / "kinds.json").read_text()), capsys.readouterr().out
    assert sum(figures["counts"].values()) + figures["none"] == figures["num"] == 70
    assert f"{figures['made']} of 10 kinds are made, among 70 samples" in said and "not made: " in said


@pytest.mark.parametrize(
    ("made", "flags", "said"),
    [
        ({"data": "photos"}, [], "was trained on photos"),
        ({"res": 8}, [], "is at 8 px"),
        ({}, ["--num", "0"], "--num must be at least 1"),
        ({}, ["--seed", "-1"], "--seed"),
    ],
)
def test_checkpoints_without_kinds_and_bad_flags_are_refused(tmp_path, made, flags, said):
    with pytest.raises(UserError, match=said):
        kinds.main([trained(tmp_path / "latest.pt", **made), *flags])
