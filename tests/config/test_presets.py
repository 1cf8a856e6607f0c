"""Presets, and the settings that an architecture and a loss bring along."""

from typing import get_args

import pytest

from pggan.config import cli
from pggan.config.network import ArchName
from pggan.config.presets import before_flags, last_value, preset, with_defaults_for, with_settings
from pggan.config.schema import Config, LossName, PresetName, flat
from pggan.config.tables import ARCH_TABLE, LOSS_SETTINGS, LOSS_TABLE, PENALIZED, PRESET_TABLE, PRESETS
from pggan.config.validation import check_ignored, validate

EACH_PRESET = pytest.mark.parametrize("name", PRESETS)


def test_the_flags_offer_the_names_in_the_tables():
    assert get_args(PresetName) == PRESETS and Config().preset in PRESETS and preset() == preset("paintings")
    assert get_args(ArchName) == tuple(ARCH_TABLE) and get_args(LossName) == tuple(LOSS_TABLE)


def test_every_row_of_the_preset_table_is_a_setting_with_a_value_per_preset():
    assert PRESET_TABLE.keys() <= flat(Config()).keys()
    assert all(len(row) == len(PRESETS) for row in PRESET_TABLE.values())


@EACH_PRESET
def test_a_preset_has_the_values_of_its_column_and_of_the_types_of_the_fields(name):
    ours, default = flat(preset(name)), flat(Config())
    assert ours["preset"] == name
    for setting, row in PRESET_TABLE.items():
        value = row[PRESETS.index(name)]
        assert ours[setting] == (default[setting] if value is None else value)
        assert default[setting] is None or type(ours[setting]) is type(default[setting]), setting


def test_the_paper_preset_has_the_papers_values():
    ours = flat(preset("paper"))
    published = {"fmap_base": 8192, "fmap_max": 512, "latent": 512, "stddev_group": 4, "mirror": True, "drift": 0.001}
    published |= {"loss": "wgan-gp", "penalty_weight": "10", "beta1": 0.0, "beta2": 0.99, "adam_at_growth": "reset"}
    published |= {"warmup_kimg": 0.0, "ema_rampup": 0.0, "fade_kimg": "600", "stable_kimg": "600", "stage_minutes": "0"}
    assert published.items() <= ours.items()
    training, resolutions = preset("paper").training, [4, 8, 16, 32, 64, 128, 256, 512]
    assert [training.batch.at(res) for res in resolutions] == [128, 128, 128, 64, 32, 16, 8, 4]
    assert [training.lr.at(res) for res in [*resolutions, 1024]] == 8 * [0.001] + [0.0015]


# --- what an architecture and a loss bring ------------------------------------------------------------------------


def test_the_tables_bring_values_of_the_types_of_the_fields():
    default = flat(Config())
    rows = [*ARCH_TABLE.values(), *(dict(zip(LOSS_SETTINGS, row, strict=True)) for row in LOSS_TABLE.values())]
    assert all(type(value) is type(default[name]) for row in rows for name, value in row.items())


@EACH_PRESET
def test_every_architecture_goes_with_every_loss_in_every_preset(name):
    for arch in ARCH_TABLE:
        for loss in (None, *LOSS_TABLE):
            config = preset(name, arch, loss)
            validate(config)
            check_ignored(config, config)
            assert config.network.arch == arch and config.training.loss == (loss or config.training.loss)


@pytest.mark.parametrize("loss", LOSS_TABLE)
def test_a_loss_brings_its_penalty_drift_and_clip(loss):
    training = preset("smoke", None, loss).training
    assert (str(training.penalty_weight), training.drift, training.clip) == LOSS_TABLE[loss]


def test_dcgan_brings_what_its_authors_published_and_its_own_loss():
    ours = flat(preset("smoke", "dcgan"))
    published = {"lr": "0.0002", "beta1": 0.5, "beta2": 0.999, "loss": "bce", "penalty_weight": "0"}
    assert (published | {"critic_norm": "batch", "stddev_group": 0}).items() <= ours.items()
    assert ours["fmap_max"] == flat(preset("smoke"))["fmap_max"]


@pytest.mark.parametrize("loss", LOSS_TABLE)
def test_the_critic_of_dcgan_has_batch_norm_except_with_a_penalty(loss):
    assert preset("smoke", "dcgan", loss).network.critic_norm == ("layer" if loss in PENALIZED else "batch")
    assert with_defaults_for(preset("smoke", "dcgan"), None, loss) == preset("smoke", "dcgan", loss)


def test_the_clip_is_the_published_one_for_dcgan_and_1_for_equalized_weights():
    clips = {arch: preset("smoke", arch, "wgan").training.clip for arch in ("paper", "style", "dcgan")}
    assert clips == {"paper": 1.0, "style": 1.0, "dcgan": 0.01}
    assert preset("smoke", "dcgan", "wgan").training.beta1 == 0.0


def test_a_loss_without_a_penalty_brings_no_interval_of_one():
    assert preset("cpu").training.penalty_interval == preset("cpu", None, "wgan-gp").training.penalty_interval == 8
    assert preset("cpu", None, "bce").training.penalty_interval == 1


@EACH_PRESET
def test_style_keeps_the_loss_of_the_preset_and_asking_for_the_same_changes_nothing(name):
    config = preset(name)
    assert preset(name, "style") == with_settings(config, {"arch": "style"})
    assert preset(name, config.network.arch, config.training.loss) == config == with_defaults_for(config)


def test_defaults_replace_settings_only_when_the_architecture_or_the_loss_changes():
    own = with_settings(preset("paper"), {"penalty_weight": "7", "lr": "0.1", "clip": 0.0})
    assert with_defaults_for(own, "paper", "wgan-gp") == own
    assert str(with_defaults_for(own, None, "logistic").training.penalty_weight) == LOSS_TABLE["logistic"][0]
    again = with_settings(preset("smoke", "dcgan", "wgan"), {"clip": 0.02, "lr": "0.1", "critic_norm": "layer"})
    assert with_defaults_for(again, "dcgan", "wgan") == again  # a run that is continued by the same command
    again = with_settings(preset("smoke", "dcgan", "logistic"), {"critic_norm": "none"})
    assert with_defaults_for(again, "dcgan", "logistic") == again


def test_flags_go_over_the_defaults_of_an_architecture_and_a_loss():
    argv = ["--preset=smoke", "--arch", "dcgan", "--loss", "logistic", "--lr", "0.001", "--penalty-weight", "2"]
    config = cli.parse(Config, argv, before_flags(argv))
    assert before_flags(argv) == preset("smoke", "dcgan", "logistic")
    assert (str(config.training.lr), str(config.training.penalty_weight)) == ("0.001", "2")
    assert (config.network.critic_norm, config.training.beta1, config.preset) == ("layer", 0.5, "smoke")


def test_the_last_value_of_a_flag_counts():
    assert last_value(["--preset", "smoke", "--preset=cpu"], "--preset") == "cpu"
    assert last_value(["--preset"], "--preset") == "" and last_value(["--presets", "cpu"], "--preset") is None


def test_settings_are_changed_in_every_group():
    new = with_settings(Config(), {"latent": 7, "seed": 3, "out": "there"})
    assert (new.network.latent, new.training.seed, new.run.out) == (7, 3, "there") and new.data == Config().data
