"""A generator's file draws what its checkpoint draws, and is whole or refused. A start file begins new runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import changed, refusal
from runs import ROOT

from pggan.config.schema import from_dict
from pggan.errors import OtherFormat, UserError
from pggan.evaluation.opening import open_set
from pggan.evaluation.samples import draw
from pggan.training import checkpoint
from pggan.training.exported import load_values, save_generator, save_start
from pggan.training.loading import load_generator, state_from
from pggan.training.state import new_state

SMALL = {"start_res": 8, "max_res": 8, "latent": 8, "fmap_base": 64, "fmap_max": 8}
SHIPPED = [*ROOT.glob("results/**/*.pt"), *ROOT.glob("results/**/*.safetensors")]
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


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ("/home/me/private/monet", "monet"),
        ("C:\\Users\\private\\monet.zip", "monet.zip"),
        ("private/builtin", "./builtin"),  # a folder of this name is not the built-in images
        ("builtin:7", "builtin:7"),
        (".", "data"),
    ],
)
def test_no_folder_and_no_thread_count_of_this_machine_is_in_a_file(data, kept, tmp_path):
    values = values_of(data=data, threads=7)
    for write, name in ((save_generator, "g.safetensors"), (save_start, "start.pt")):
        write(values, tmp_path / name)
        assert b"private" not in (tmp_path / name).read_bytes()
        config = from_dict(load_values(tmp_path / name)["config"])
        assert (config.data.data, config.training.threads) == (kept, 0)


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
    assert "above 65,504" in refusal(save_generator, values, tmp_path / "g.safetensors")
    assert not list(tmp_path.iterdir())


def test_training_does_not_take_it(path):
    assert "holds a generator alone" in refusal(checkpoint.load, path)


@pytest.mark.parametrize("arch", ["style", "dcgan"])
def test_a_start_file_has_all_networks_in_half_precision_and_no_moments_and_no_history(arch, tmp_path):
    values = values_of(arch=arch)
    moments = {"step": torch.ones(()), "exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3)}
    values |= {"opt_G": {"x": moments}, "opt_D": {"x": moments}, "history": [{"nimg": 1}], "growth": [{"reason": ""}]}
    save_start(values, tmp_path / "start.pt")
    found = checkpoint.load(tmp_path / "start.pt")
    assert not any(found[name] for name in ("opt_G", "opt_D", "history", "growth"))
    assert {value.dtype for value in found["G"].values()} <= {torch.float16, torch.int64}
    state = state_from(found, torch.device("cpu"))
    for name in ("G", "D", "G_ema"):
        for key, weight in getattr(state, name).state_dict().items():
            torch.testing.assert_close(weight, values[name][key], rtol=2**-11, atol=1e-7)


def test_the_measuring_tools_take_it_like_a_checkpoint(path):
    opened = open_set(str(path), num=5, seed=3)
    assert (opened.read(np.asarray) == draw(*load_generator(path), 3, 5)).all()


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_file_opens_and_is_small(shipped):
    assert shipped.stat().st_size < 4 * 2**20
    images = draw(*load_generator(shipped), 0, 16)
    assert images.std(axis=0).mean() > 20  # the samples differ
