"""The settings: ladders, resolutions, contradictions, presets."""

import ast
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.config import cli
from pggan.config import schema as module
from pggan.config.presets import ARCH_TABLE, COLUMNS, LOSS_TABLE, NAMES, TABLE, preset, suited, with_settings
from pggan.config.schema import (
    PENALIZED,
    ArchName,
    Config,
    LossName,
    NetworkConfig,
    PresetName,
    at,
    faded,
    flat,
    from_dict,
    grid_shape,
    ladder,
    seconds,
    to_dict,
)
from pggan.config.validation import CHANGEABLE, check_ignored, differences, validate
from pggan.errors import UserError

PARTS = [item.name for item in fields(Config) if is_dataclass(getattr(Config(), item.name))]
VALUES = st.floats(0, 1e9, allow_nan=False)


def refusal(act, *arguments) -> str:
    """The message of the UserError that act(*arguments) must raise: one plain line."""
    with pytest.raises(UserError) as caught:
        act(*arguments)
    message = str(caught.value)
    assert message and "\n" not in message and len(message) < 200
    return message


def changed(**settings: object) -> Config:
    return with_settings(Config(), settings)


# --- ladders -----------------------------------------------------------------------------------------------------


def test_a_ladder_is_one_value_or_pairs():
    assert ladder("16") == {0: 16.0}
    assert ladder("32:64,128:0.5") == {32: 64.0, 128: 0.5}
    assert ladder("5,64:2") == {0: 5.0, 64: 2.0}


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.integers(1, 4096), VALUES, min_size=1))
def test_a_ladder_written_down_is_read_back(values):
    assert ladder(",".join(f"{res}:{value!r}" for res, value in values.items())) == values


@pytest.mark.parametrize(
    "text", ["", "x", "32:", "32:x", "a:1", "1.5:1", "32:1,", "32:1,32:2", "1,2", "-1", "32:-1", "nan", "inf", "1:2:3"]
)
def test_what_is_no_ladder_is_refused_by_name(text):
    assert f"'{text}'" in refusal(ladder, text)


@pytest.mark.parametrize(("res", "value"), [(4, 64), (32, 64), (63, 64), (64, 32), (128, 32), (256, 8), (2048, 8)])
def test_a_ladder_gives_the_value_of_the_largest_rung_at_or_below(res, value):
    assert at("32:64,256:8,64:32", res) == value


def test_a_ladder_in_a_fade_goes_from_the_value_below_to_its_own_even_in_ratio():
    assert faded("32:1,64:16", 64, 0.0) == 1
    assert faded("32:1,64:16", 64, 0.5) == pytest.approx(4)
    assert faded("32:1,64:16", 64, 1.0) == 16
    assert faded("0.3", 64, 0.4) == pytest.approx(0.3)


@pytest.mark.parametrize("text", ["32:0,64:16", "32:16,64:0"])
def test_a_ladder_with_a_zero_does_not_fade(text):
    assert faded(text, 64, 0.5) == at(text, 64)


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
def test_start_and_max_left_out_are_the_rungs_at_or_below_32_and_256(base, stages):
    network = NetworkConfig(base=base)
    assert network.stages() == stages and network.ends() == (stages[0], stages[-1])


def test_sizes_come_from_the_base_by_doubling():
    assert [NetworkConfig(base="4x5").size(res) for res in (4, 32, 256)] == [(4, 5), (32, 40), (256, 320)]
    assert NetworkConfig(base="5x4").size(256) == (320, 256)
    assert [NetworkConfig(base="3x3").size(res) for res in (96, 192)] == [(96, 96), (192, 192)]


def test_a_start_above_256_is_where_it_ends_if_no_max_is_given():
    assert NetworkConfig(start_res=512, fmap_base=8192).ends() == (512, 512)


@pytest.mark.parametrize("base", ["4x4", "3x3", "4x5"])
def test_level_k_has_the_channels_of_4_times_2_to_the_k(base):
    network = NetworkConfig(base=base, fmap_base=8192)
    assert [network.fmaps(network.level(res)) for res in network.resolutions()[:9]] == [
        *(512, 512, 512, 512, 256, 128, 64, 32, 16)
    ]
    assert network.fmaps(-1) == 512


@pytest.mark.parametrize("name", ["start_res", "max_res"])
@pytest.mark.parametrize("res", [0, -32, 3, 33, 100, 4096])
def test_a_resolution_off_the_ladder_is_refused_and_the_ladder_named(name, res):
    message = refusal(lambda: NetworkConfig(**{name: res}))
    assert f"--{name.replace('_', '-')} {res}" in message and "4, 8, 16, 32, 64" in message


def test_a_ladder_that_goes_down_is_refused():
    assert "below --start-res" in refusal(lambda: NetworkConfig(start_res=128, max_res=64))


@pytest.mark.parametrize(("base", "top"), [("4x4", 16), ("3x3", 6)])
def test_a_start_left_out_is_never_above_the_top(base, top):
    assert NetworkConfig(base=base, max_res=top).stages() == [top]


@pytest.mark.parametrize("base", ["", "4", "4x", "x4", "4x4x4", "1x4", "17x4", "0x4", "-4x4", "4.5x4", "4 x 4", "axb"])
def test_a_base_that_is_no_grid_is_refused(base):
    assert f"--base {base} is not WIDTHxHEIGHT" in refusal(lambda: NetworkConfig(base=base))


def test_too_few_feature_maps_for_the_top_are_refused():
    assert "--fmap-base 64" in refusal(lambda: NetworkConfig(fmap_base=64))


@pytest.mark.parametrize("text", ["", "8", "0x4", "8x65", "8x-1", "8x6x2"])
def test_a_sample_grid_that_is_none_is_refused(text):
    assert "--grid" in refusal(grid_shape, text)
    assert grid_shape("8x6") == (8, 6)


# --- contradictions ----------------------------------------------------------------------------------------------

CONTRADICTIONS = [
    ("--batch", {"batch": "0"}),
    ("--batch", {"batch": "7.5"}),
    ("--batch", {"batch": "64,128:18"}),
    ("--stddev-group", {"batch": "6"}),
    ("--lr", {"lr": "0.001,256:0"}),
    ("--stable-kimg", {"stable_kimg": "0"}),
    ("--drift", {"drift": 0.001}),
    ("--drift", {"drift": -1.0, "loss": "wgan-gp"}),
    ("--warmup-kimg", {"adam_at_growth": "reset"}),
    ("--beta1", {"beta1": 1.0}),
    ("--beta2", {"beta2": -0.1}),
    ("--beta2", {"beta2": float("nan")}),
    ("--ema-rampup", {"ema_rampup": -1.0}),
    ("--save-minutes", {"save_minutes": 0.0}),
    ("--eval-samples", {"eval_samples": 99}),
    ("--eval-kimg", {"eval_kimg": "64:often"}),
    ("--record-kimg", {"record_kimg": float("nan")}),
    ("--sample-kimg", {"sample_kimg": float("inf")}),
    ("--warmup-kimg", {"warmup_kimg": -1.0}),
    ("--warmup-kimg", {"warmup_kimg": float("nan")}),
    ("--warmup-kimg", {"warmup_kimg": float("inf")}),
    ("--floor-kimg", {"floor_kimg": -1.0}),
    ("--floor-kimg", {"floor_kimg": float("nan")}),
    ("--floor-kimg", {"floor_kimg": float("inf")}),
    ("--threads", {"threads": -1}),
    ("--seed", {"seed": -1}),
    ("--builtin-images", {"builtin_images": 0}),
    ("--grid", {"grid": "big"}),
    ("'x'", {"penalty_weight": "x"}),
    ("'x'", {"ema_kimg": "x"}),
    ("'x'", {"fade_kimg": "x"}),
    ("'-1'", {"stage_minutes": "-1"}),
]


@pytest.mark.parametrize(("named", "settings"), CONTRADICTIONS)
def test_values_that_cannot_be_or_contradict_are_refused_by_name(named, settings):
    assert named in refusal(validate, changed(**settings))


@pytest.mark.parametrize(("name", "value"), [("fmap_base", 0), ("fmap_max", 0), ("latent", 0), ("stddev_group", -1)])
def test_a_network_of_nothing_is_refused(name, value):
    assert f"--{name.replace('_', '-')}" in refusal(lambda: NetworkConfig(**{name: value}))


def test_a_batch_smaller_than_the_stddev_group_is_a_group():
    validate(changed(batch="3"))


def test_without_minibatch_stddev_any_batch_will_do():
    validate(changed(batch="7", stddev_group=0))


DCGAN = {"arch": "dcgan", "loss": "bce", "penalty_weight": "0", "critic_norm": "batch", "stddev_group": 0}
IGNORED = [  # what is said, what is asked for, and the same without the contradiction
    ("--loss bce has no gradient penalty and would ignore --penalty-weight", {"loss": "bce"}, {"penalty_weight": "0"}),
    (
        "--loss lsgan has no gradient penalty",
        {"loss": "lsgan", "penalty_weight": "32:0,64:1"},
        {"penalty_weight": "32:0,64:0"},
    ),
    ("--loss hinge has no gradient penalty", {"loss": "hinge"}, {"penalty_weight": "0"}),
    ("--loss wgan has no gradient penalty", {"loss": "wgan", "clip": 1.0}, {"penalty_weight": "0"}),
    ("--penalty-interval must be at least 1", {"penalty_interval": 0}, {"penalty_interval": 1}),
    ("--penalty-interval needs a penalty", {"penalty_interval": 4, "penalty_weight": "0"}, {"penalty_weight": "1"}),
    ("--loss bce has none", {"penalty_interval": 4, "penalty_weight": "0", "loss": "bce"}, {"penalty_interval": 1}),
    ("--loss wgan needs --clip above 0", {"loss": "wgan", "penalty_weight": "0"}, {"clip": 0.01}),
    ("--loss logistic would ignore --clip", {"clip": 0.01}, {"clip": 0.0}),
    ("--loss logistic would ignore it", {"drift": 0.001}, {"loss": "wgan-gp"}),
    ("--residual belongs to --arch dcgan; --arch paper", {"residual": True}, DCGAN),
    ("--residual belongs to --arch dcgan; --arch style", {"residual": True, "arch": "style"}, {"residual": False}),
    ("--critic-norm belongs to --arch dcgan; --arch paper", {"critic_norm": "layer"}, {"arch": "dcgan"}),
    ("--critic-norm belongs to --arch dcgan; --arch style", {"critic_norm": "batch", "arch": "style"}, DCGAN),
    ("use --critic-norm layer", {**DCGAN, "loss": "logistic", "penalty_weight": "1"}, {"critic_norm": "layer"}),
    ("use --critic-norm layer", {**DCGAN, "loss": "wgan-gp", "penalty_weight": "1"}, {"penalty_weight": "0"}),
    ("--beta1 must be below 1", {"beta1": 1.0}, {"beta1": 0.99}),
    ("--threads 1025 is more than any machine has", {"threads": 1025}, {"threads": 1024}),
    ("--budget: 'soon' is no time", {"budget": "soon"}, {"budget": "25m"}),
    ("--budget is empty", {"budget": ""}, {"budget": None}),
    ("--budget-share must be above 0", {"budget": "25m", "budget_share": "32:0,64:1"}, {"budget_share": "32:1"}),
    ("--budget decides by the clock and --plan", {"budget": "25m", "plan": "growth.json"}, {"plan": None}),
    ("--plan is empty", {"plan": ""}, {"plan": None}),
    ("--budget grows by itself", {"budget": "25m", "schedule": "manual"}, {"schedule": "fixed"}),
    ("--plan grows by itself", {"plan": "growth.json", "schedule": "manual"}, {"plan": None}),
]


@pytest.mark.parametrize(("said", "asked", "mended"), IGNORED)
def test_settings_that_contradict_are_refused_with_the_reason_and_pass_without(said, asked, mended):
    assert said in refusal(validate, changed(**asked))
    validate(changed(**{**asked, **mended}))


KIMG = {"fade_kimg": "3", "stable_kimg": "4", "stage_minutes": "5", "floor_kimg": 0.5}


@pytest.mark.parametrize("name", KIMG)
@pytest.mark.parametrize("other", [{"budget": "25m"}, {"plan": "growth.json"}])
def test_a_schedule_in_kimg_beside_a_budget_or_a_plan_is_refused(name, other):
    flag, (second,) = "--" + name.replace("_", "-"), other
    message = refusal(check_ignored, changed(**{name: KIMG[name]}, **other), Config())
    assert flag in message and f"--{second}" in message
    of_the_preset = changed(**{name: KIMG[name]})  # what the flags were laid over asks for nothing
    check_ignored(changed(**{name: KIMG[name]}, **other), of_the_preset)


def test_flags_of_a_clock_that_is_not_there_are_refused():
    assert "--budget-share divides a --budget" in refusal(check_ignored, changed(budget_share="1"), Config())
    assert "--floor-kimg belongs to --stage-minutes" in refusal(check_ignored, changed(floor_kimg=2.0), Config())
    assert "--budget-share" in refusal(check_ignored, changed(budget_share="1", plan="growth.json"), Config())
    assert "--eval-samples" in refusal(check_ignored, changed(eval_samples=900, eval_kimg="0"), Config())
    check_ignored(changed(eval_samples=900, eval_kimg="0,64:9"), Config())
    check_ignored(changed(budget_share="1", budget="25m"), Config())
    check_ignored(changed(floor_kimg=2.0, stage_minutes="0,64:3"), Config())
    check_ignored(changed(**{**KIMG, "schedule": "manual"}), Config())


TIMES = {"25m": 1500, "1h30m": 5400, "90s": 90, "1h": 3600, "1.5h": 5400, "2h5s": 7205, "0.5m": 30, " 25M ": 1500}


@pytest.mark.parametrize("text", TIMES)
def test_times_are_written_in_hours_minutes_and_seconds(text):
    assert seconds(text) == TIMES[text]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_a_time_written_down_is_read_back(h, m, s):
    assert seconds(f"{h}h{m}m{s}s") == 3600 * h + 60 * m + s


@pytest.mark.parametrize(
    "text", ["", "25", "m", "0m", "0h0m0s", "-5m", "5m1h", "5 m", "1h 30m", "1e3s", "nan", "9" * 9 + "h"]
)
def test_what_is_no_time_is_refused_by_name(text):
    assert f"'{text}' is no time" in refusal(seconds, text)


# --- presets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_valid(name):
    validate(preset(name))
    assert preset(name).preset == name


def test_presets_are_those_that_the_flag_offers():
    assert set(NAMES) == set(get_args(PresetName)) and Config() == preset("paintings") == preset()


def test_every_row_of_the_table_is_a_setting_with_a_value_a_preset():
    assert TABLE.keys() <= flat(Config()).keys()
    assert all(len(row) == len(COLUMNS) for row in TABLE.values())


@pytest.mark.parametrize("name", COLUMNS)
def test_a_preset_has_the_values_of_its_column_and_of_its_fields_types(name):
    ours, default = flat(preset(name)), flat(Config())
    for setting, row in TABLE.items():
        value = row[COLUMNS.index(name)]
        assert value is None or ours[setting] == value
        assert default[setting] is None or type(ours[setting]) is type(default[setting]), setting


PAPER = {
    "fmap_base": 8192,
    "fmap_max": 512,
    "latent": 512,
    "stddev_group": 4,
    "loss": "wgan-gp",
    "penalty_weight": "10",
    "drift": 0.001,
    "mirror": True,
    "beta1": 0.0,
    "beta2": 0.99,
    "adam_at_growth": "reset",
    "warmup_kimg": 0.0,
    "ema_rampup": 0.0,
    "fade_kimg": "600",
    "stable_kimg": "600",
    "stage_minutes": "0",
}


@pytest.mark.parametrize("setting", PAPER)
def test_the_paper_preset_has_the_papers_value(setting):
    assert flat(preset("paper"))[setting] == PAPER[setting]


def test_the_paper_preset_has_the_papers_batches_and_learning_rates():
    training, resolutions = preset("paper").training, [4, 8, 16, 32, 64, 128, 256, 512]
    assert [training.batch.at(res) for res in resolutions] == [128, 128, 128, 64, 32, 16, 8, 4]
    assert [training.lr.at(res) for res in [*resolutions, 1024]] == 8 * [0.001] + [0.0015]


# --- what a network and a loss bring ------------------------------------------------------------------------------

PAIRS = [(arch, loss) for arch in get_args(ArchName) for loss in get_args(LossName)]


def test_the_tables_have_a_row_for_each_network_and_each_loss():
    assert set(ARCH_TABLE) == set(get_args(ArchName)) and set(LOSS_TABLE) == set(get_args(LossName))
    for arch, brought in ARCH_TABLE.items():
        assert all(type(value) is type(flat(Config())[name]) for name, value in brought.items()), arch
    assert set(PENALIZED) == {loss for loss, (penalty, *_) in LOSS_TABLE.items() if any(ladder(penalty).values())}


@pytest.mark.parametrize(("arch", "loss"), [*PAIRS, *((arch, None) for arch in get_args(ArchName))])
@pytest.mark.parametrize("name", NAMES)
def test_every_network_goes_with_every_loss_in_every_preset(name, arch, loss):
    config = preset(name, arch, loss)
    validate(config)
    check_ignored(config, config)
    assert config.network.arch == arch and config.training.loss == (loss or config.training.loss)


@pytest.mark.parametrize("loss", get_args(LossName))
def test_a_loss_brings_its_penalty_drift_and_clip(loss):
    training = preset("smoke", None, loss).training
    assert (training.penalty_weight, training.drift, training.clip) == LOSS_TABLE[loss]
    assert bool(training.clip) == (loss == "wgan") and bool(training.drift) == (loss == "wgan-gp")


def test_dcgan_brings_what_its_authors_published_and_its_own_loss():
    config = flat(preset("smoke", "dcgan"))
    assert {name: config[name] for name in ("lr", "beta1", "beta2", "loss", "penalty_weight", "critic_norm")} == {
        "lr": "0.0002",
        "beta1": 0.5,
        "beta2": 0.999,
        "loss": "bce",
        "penalty_weight": "0",
        "critic_norm": "batch",
    }
    assert config["stddev_group"] == 0 and config["fmap_max"] == flat(preset("smoke"))["fmap_max"]


@pytest.mark.parametrize("loss", get_args(LossName))
def test_dcgan_s_critic_has_batch_norm_but_where_a_penalty_needs_each_picture_by_itself(loss):
    assert preset("smoke", "dcgan", loss).network.critic_norm == ("layer" if loss in PENALIZED else "batch")
    assert suited(preset("smoke", "dcgan"), None, loss) == preset("smoke", "dcgan", loss)


def test_the_clip_is_dcgan_s_own_for_its_unscaled_weights_and_1_for_equalized_ones():
    clips = {arch: preset("smoke", arch, "wgan").training.clip for arch in get_args(ArchName)}
    assert clips == {"paper": 1.0, "style": 1.0, "dcgan": 0.01}


@pytest.mark.parametrize("name", NAMES)
def test_style_keeps_the_preset_s_loss_and_asking_for_what_is_there_changes_nothing(name):
    config = preset(name)
    assert preset(name, "style") == with_settings(config, {"arch": "style"})
    assert preset(name, config.network.arch, config.training.loss) == config == suited(config)


def test_what_a_preset_says_itself_survives_its_own_loss_and_gives_way_to_another():
    own = with_settings(preset("paper"), {"penalty_weight": "7", "lr": "0.1", "clip": 0.0})
    assert suited(own, "paper", "wgan-gp") == own
    assert suited(own, None, "logistic").training.penalty_weight == LOSS_TABLE["logistic"][0]
    again = with_settings(preset("smoke", "dcgan", "wgan"), {"clip": 0.02, "lr": "0.1", "critic_norm": "layer"})
    assert suited(again, "dcgan", "wgan") == again  # a run that goes on by the same command
    again = with_settings(preset("smoke", "dcgan", "logistic"), {"critic_norm": "none"})
    assert suited(again, "dcgan", "logistic") == again


def test_flags_go_over_what_a_network_and_a_loss_bring():
    config = cli.parse(Config, ["--lr", "0.001", "--penalty-weight", "2"], preset("smoke", "dcgan", "logistic"))
    assert (config.training.lr, config.training.penalty_weight, config.network.critic_norm) == ("0.001", "2", "layer")
    assert config.training.beta1 == 0.5


# --- the tree ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_config_survives_the_way_through_a_dict(name):
    assert from_dict(to_dict(preset(name))) == preset(name)


def test_a_dict_with_a_field_that_does_not_exist_is_refused():
    values = to_dict(Config())
    values["training"]["momentum"] = 1
    assert "momentum" in refusal(from_dict, values)
    assert "color" in refusal(from_dict, {"color": 1})


def test_flag_names_are_unique_over_the_tree():
    names = [item.name for part in PARTS for item in fields(getattr(Config(), part))]
    names += [item.name for item in fields(Config) if item.name not in PARTS]
    assert len(names) == len(set(names)) and set(names) == set(flat(Config()))


def test_every_field_has_a_docstring():
    """It is the --help text. The five parts of the tree are explained by their own class docstrings."""
    tree = ast.parse(Path(module.__file__).read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 1 + len(PARTS) and all(ast.get_docstring(node) for node in classes)
    bare = []
    for node in classes:
        for item, following in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(item, ast.AnnAssign) and item.target.id not in PARTS:
                documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                bare += [] if documented and following.value.value.strip() else [item.target.id]
    assert not bare


def another(name: str, value: object) -> object:
    """A value that the setting `name` does not have."""
    known = {"base": "4x5", "start_res": 16, "max_res": 512, "preset": "paper"}
    if name in known or value is None:
        return known.get(name, "somewhere")
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, (int, float)) else value + "x"


@pytest.mark.parametrize("name", flat(Config()))
def test_a_continued_run_may_change_what_is_changeable_and_nothing_else(name):
    value = flat(Config())[name]
    new = changed(**{name: another(name, value)})
    if name == "preset":
        new = replace(Config(), preset="paper")
    lines = differences(Config(), new)
    expected = [] if name in CHANGEABLE else [f"--{name.replace('_', '-')}: {value} -> {another(name, value)}"]
    assert new != Config() and lines == expected


def test_everything_changeable_is_a_setting():
    assert flat(Config()).keys() >= CHANGEABLE


def test_settings_are_changed_wherever_in_the_tree_they_are():
    new = changed(latent=7, seed=3, out="there")
    assert (new.network.latent, new.training.seed, new.run.out) == (7, 3, "there")
    assert new.data == Config().data
