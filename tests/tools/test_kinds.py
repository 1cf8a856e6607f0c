"""kinds.py as a command."""

import json

import kinds
import pytest
from sets import make_checkpoint

from pggan.errors import UserError


def test_every_sample_is_counted_once(tmp_path, capsys):
    flags = ["--num", "70", "--json", str(tmp_path / "kinds.json")]
    kinds.main([str(make_checkpoint(tmp_path / "latest.pt", res=16)), *flags])
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
        kinds.main([str(make_checkpoint(tmp_path / "latest.pt", **{"res": 16, **made})), *flags])
