"""The settings: resolutions, formats of text, and the way to a dict and back."""

import ast
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import changed, refusal

from pggan.config import network, schema
from pggan.config.network import NetworkConfig
from pggan.config.presets import preset
from pggan.config.schema import GROUPS, Config, flat, from_dict, grid_shape, seconds, to_dict
from pggan.config.tables import PRESETS
from pggan.errors import UserError

# --- resolutions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "stages"),
    [
        ("4x4", [32, 64, 128, 256]),
        ("3x3", [24, 48, 96, 192]),
        ("4x5", [32, 64, 128, 256]),
        ("5x4", [32, 64, 128, 256]),
        ("5x7", [20, 40, 80, 160]),
        ("16x16", [32, 64, 128, 256]),
    ],
)
def test_start_and_max_left_out_are_the_largest_resolutions_up_to_32_and_256(base, stages):
    network = NetworkConfig(base=base)
    assert network.stages() == stages and network.ends() == (stages[0], stages[-1])


def test_sizes_are_the_base_doubled():
    assert [NetworkConfig(base="4x5").size(res) for res in (4, 32, 256)] == [(4, 5), (32, 40), (256, 320)]
    assert NetworkConfig(base="5x4").size(256) == (320, 256)
    assert [NetworkConfig(base="3x3").size(res) for res in (96, 192)] == [(96, 96), (192, 192)]


def test_a_start_above_256_is_the_end_too_when_no_max_is_given():
    assert NetworkConfig(start_res=512, fmap_base=8192).ends() == (512, 512)


@pytest.mark.parametrize(("base", "top"), [("4x4", 16), ("3x3", 6)])
def test_a_start_left_out_is_never_above_the_max(base, top):
    assert NetworkConfig(base=base, max_res=top).stages() == [top]


@pytest.mark.parametrize("base", ["4x4", "3x3", "4x5"])
def test_level_k_has_the_feature_maps_of_4_times_2_to_the_k(base):
    network = NetworkConfig(base=base, fmap_base=8192)
    fmaps = [network.fmaps(network.level(res)) for res in network.resolutions()[:9]]
    assert fmaps == [512, 512, 512, 512, 256, 128, 64, 32, 16] and network.fmaps(-1) == 512


def test_d_has_its_share_of_the_feature_maps_at_each_resolution():
    network = NetworkConfig(fmap_base=1024, fmap_max=64, d_width=0.25)
    d = network.of_d()
    assert [d.fmaps(level) for level in range(-1, 7)] == [16, 16, 16, 16, 16, 8, 4, 2]
    assert [network.fmaps(level) for level in range(-1, 7)] == [64, 64, 64, 64, 64, 32, 16, 8] and d.of_d() == d
    assert network.can_have(512) and not network.can_have(1024)  # G would have one map there, and D none


@pytest.mark.parametrize("width", [0, 0.002, 0.03])
def test_a_d_without_feature_maps_is_refused_by_the_flag_that_makes_it_so(width):
    said = refusal(partial(NetworkConfig, d_width=width, fmap_base=256, max_res=16))
    assert said == f"--d-width {width:g} leaves D no feature maps at 16 px: raise it"


@pytest.mark.parametrize("name", ["start_res", "max_res"])
@pytest.mark.parametrize("res", [0, -32, 33, 4096])
def test_a_resolution_that_the_base_does_not_lead_to_is_refused_and_the_others_are_named(name, res):
    message = refusal(lambda: NetworkConfig(**{name: res}))
    assert f"--{name.replace('_', '-')} {res} is no resolution" in message and "4, 8, 16, 32, 64" in message


def test_a_max_below_the_start_is_refused():
    assert "below --start-res" in refusal(lambda: NetworkConfig(start_res=128, max_res=64))


@pytest.mark.parametrize("base", ["", "4", "4x", "x4", "4x4x4", "1x4", "17x4", "-4x4", "4.5x4", "4 x 4", "axb"])
def test_a_base_that_is_no_pair_of_sides_is_refused(base):
    assert f"--base {base} is not WIDTHxHEIGHT" in refusal(lambda: NetworkConfig(base=base))


@pytest.mark.parametrize(
    ("name", "value"), [("fmap_base", 0), ("fmap_max", 0), ("latent", 0), ("stddev_group", -1), ("fmap_base", 64)]
)
def test_too_few_feature_maps_are_refused(name, value):
    assert f"--{name.replace('_', '-')}" in refusal(lambda: NetworkConfig(**{name: value}))


# --- formats of text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "8", "0x4", "8x65", "8x-1", "8x6x2"])
def test_a_sample_grid_in_another_format_is_refused(text):
    assert "--grid" in refusal(grid_shape, text)
    assert grid_shape("8x6") == (8, 6)


@pytest.mark.parametrize("name", ["penalty_weight", "ema_kimg", "fade_kimg", "eval_kimg"])
def test_a_bad_value_per_resolution_is_refused_with_its_flag(name):
    assert f"--{name.replace('_', '-')}: '64:often'" in refusal(lambda: changed(**{name: "64:often"}))


def test_times_are_written_in_hours_minutes_and_seconds():
    times = {"25m": 1500, "1h30m": 5400, "90s": 90, "1h": 3600, "1.5h": 5400, "2h5s": 7205, "0.5m": 30, " 25M ": 1500}
    assert {text: seconds(text) for text in times} == times


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_a_time_written_as_text_is_read_back(h, m, s):
    assert seconds(f"{h}h{m}m{s}s") == 3600 * h + 60 * m + s


@pytest.mark.parametrize(
    "text", ["", "25", "m", "0m", "0h0m0s", "-5m", "5m1h", "5 m", "1h 30m", "1e3s", "nan", "9" * 9 + "h"]
)
def test_a_time_in_another_format_is_refused_and_quoted(text):
    assert f"'{text}' is no time" in refusal(seconds, text)


# --- the tree ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_settings_survive_the_way_through_a_dict(name):
    assert from_dict(to_dict(preset(name))) == preset(name)


def test_a_dict_with_a_setting_that_does_not_exist_is_refused():
    values = to_dict(Config())
    values["training"]["augment_control"] = True
    assert "another version of the project: it has a setting augment_control" in refusal(from_dict, values)
    assert "its settings have another form" in refusal(from_dict, "settings")
    assert "color" in refusal(from_dict, {"color": 1})
    assert "another version" in refusal(from_dict, {"data": None})


OF_ANOTHER_VERSION = [  # setting, stored value, what the message says
    ("schedule", "patient", "--schedule is 'patient', but known here are fixed, manual"),
    ("loss", "cubic", "--loss is 'cubic', but known here are logistic, wgan-gp, "),
    ("arch", ["mono"], "--arch is \"['mono']\", but known here are paper, style, "),
    ("preset", "x", "--preset is 'x', but known here are paintings, paper, "),
    ("latent", "512", "--latent is '512', but here it is a whole number"),
    ("latent", True, "--latent is 'True', but here it is a whole number"),
    ("max_res", 64.0, "--max-res is '64.0', but here it is a whole number or none"),
    ("beta1", None, "--beta1 is 'None', but here it is a number"),
    ("mirror", 1, "--mirror is '1', but here it is true or false"),
    ("lr", {"64": 1}, "but here it is a number or RES:VALUE pairs"),
]


@pytest.mark.parametrize(("name", "value", "said"), OF_ANOTHER_VERSION)
def test_a_stored_value_that_this_version_does_not_know_is_refused_with_the_choices(name, value, said):
    values = to_dict(Config())
    next(group for group in (*(values[key] for key in GROUPS), values) if name in group)[name] = value
    with pytest.raises(UserError, match="another version of the project: ") as caught:
        from_dict(values)
    message = str(caught.value)
    assert said in message and message.endswith("or start a new run") and "\n" not in message and len(message) < 300


def test_names_of_settings_are_unique_over_the_groups():
    names = [item.name for group in GROUPS.values() for item in fields(group)]
    assert len(names) == len(set(names)) and {"preset", *names} == set(flat(Config()))


def test_every_setting_has_a_docstring():
    """It is the --help text. Groups have class docstrings."""
    trees = [ast.parse(Path(module.__file__).read_text()) for module in (network, schema)]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 1 + len(GROUPS) and all(ast.get_docstring(node) for node in classes)
    texts = {
        item.target.id: following.value.value
        for node in classes
        for item, following in zip(node.body[:-1], node.body[1:], strict=True)
        if isinstance(item, ast.AnnAssign) and isinstance(following, ast.Expr)
    }
    assert texts.keys() == flat(Config()).keys() and all(text.strip() for text in texts.values())
