"""A generator's file draws what its checkpoint draws, and is whole or refused. A start file begins new runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import changed, refusal
from safetensors import safe_open

from pggan.errors import OtherFormat, UserError
from pggan.evaluation.samples import draw
from pggan.training import checkpoint
from pggan.training.exported import load_values, save_generator, save_start
from pggan.training.loading import load_generator, state_from
from pggan.training.state import new_state

SMALL = {"start_res": 8, "max_res": 8, "latent": 8, "fmap_base": 64, "fmap_max": 8}
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def values_of(**more: object) -> dict:
    return new_state(changed(**SMALL, **more), torch.device("cpu")).to_dict()


@pytest.fixture
def path(tmp_path) -> Path:
    save_generator(values_of(), tmp_path / "g.safetensors")
    return tmp_path / "g.safetensors"


@pytest.mark.parametrize("arch", ["paper", "style", "dcgan"])
def test_images_are_those_of_the_checkpoint_up_to_the_rounding_of_half_precision(arch, tmp_path):
    values = values_of(arch=arch)
    for name, weight in values["G_ema"].items():
        weight *= 30 if arch == "dcgan" and "rgb" in name else 1  # its first images are gray
    checkpoint.save(values, tmp_path / "whole.pt")
    save_generator(values, tmp_path / "g.safetensors")
    whole, small = (draw(*load_generator(tmp_path / name), 0, 16) for name in ("whole.pt", "g.safetensors"))
    difference = np.abs(whole.astype(int) - small.astype(int))
    assert difference.max() <= 2 and whole.std() > 1


def test_alpha_of_a_fade_is_kept(tmp_path):
    values = values_of()
    values["stage"]["plan"] |= {"start": 100, "fade": 200}
    values["nimg"] = 150
    save_generator(values, tmp_path / "g.safetensors")
    assert load_generator(tmp_path / "g.safetensors")[1] == 0.25


def test_no_folder_of_this_machine_is_in_the_file(tmp_path):
    values = values_of(data="/home/me/private/monet")
    save_generator(values, tmp_path / "g.safetensors")
    with safe_open(tmp_path / "g.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["pggan"])
    assert facts["config"]["data"]["data"] == "monet"
    assert b"private" not in (tmp_path / "g.safetensors").read_bytes()


@quick
@given(data=st.data())
def test_a_byte_changed_anywhere_never_changes_a_weight_or_setting_unseen(path, data):
    whole, before = path.read_bytes(), load_values(path)
    place, other = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    flipped = path.with_name("flipped.safetensors")
    flipped.write_bytes(whole[:place] + bytes([whole[place] ^ other]) + whole[place + 1 :])
    try:
        values = load_values(flipped)
    except UserError as error:
        assert "flipped.safetensors" in str(error) and "\n" not in str(error)
    else:
        assert checkpoint.digest(values) == checkpoint.digest(before)


def test_a_file_that_is_cut_is_refused(path):
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "cut short" in refusal(load_values, path)


def test_other_safetensors_files_and_formats_are_refused(tmp_path, path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    assert "no generator of this project" in refusal(load_values, tmp_path / "other.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "newer.safetensors", {"pggan": '{"format": 99}'})
    with pytest.raises(OtherFormat, match="format 99"):
        load_values(tmp_path / "newer.safetensors")


def test_weights_too_large_for_half_precision_are_refused_and_nothing_is_written(tmp_path):
    values = values_of()
    next(iter(values["G_ema"].values())).fill_(1e6)
    assert "too large" in refusal(save_generator, values, tmp_path / "g.safetensors")
    assert not list(tmp_path.iterdir())


def test_training_does_not_take_it(path):
    assert "holds a generator alone" in refusal(checkpoint.load, path)


def test_a_start_file_has_all_networks_up_to_the_rounding_of_half_precision_and_no_moments(tmp_path):
    values = values_of()
    save_start(values, tmp_path / "start.pt")
    state = state_from(checkpoint.load(tmp_path / "start.pt"), torch.device("cpu"))
    for name in ("G", "D", "G_ema"):
        for key, weight in getattr(state, name).state_dict().items():
            torch.testing.assert_close(weight, values[name][key], rtol=2**-11, atol=1e-7)
    assert not any(state.moments().values())


def test_a_start_file_keeps_no_folder_and_no_history_of_its_run(tmp_path):
    values = {**values_of(data="/home/me/private/monet"), "history": [{"nimg": 1}], "growth": [{"reason": "private"}]}
    save_start(values, tmp_path / "start.pt")
    assert b"private" not in (tmp_path / "start.pt").read_bytes()
    found = checkpoint.load(tmp_path / "start.pt")
    assert found["config"]["data"]["data"] == "monet" and found["history"] == found["growth"] == []
