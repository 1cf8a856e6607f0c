"""Values that cannot be, settings that contradict each other, and settings that may not change."""

from dataclasses import replace

import pytest
from refusals import changed, refusal

from pggan.config.presets import with_settings
from pggan.config.schema import Config, fixed_settings, flat
from pggan.config.tables import LOSS_TABLE
from pggan.config.validation import check_ignored, differences, validate

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
    ("--record-kimg", {"record_kimg": float("nan")}),
    ("--sample-kimg", {"sample_kimg": float("inf")}),
    ("--warmup-kimg", {"warmup_kimg": -1.0}),
    ("--warmup-kimg", {"warmup_kimg": float("nan")}),
    ("--warmup-kimg", {"warmup_kimg": float("inf")}),
    ("--floor-kimg", {"floor_kimg": -1.0}),
    ("--floor-kimg", {"floor_kimg": float("nan")}),
    ("--floor-kimg", {"floor_kimg": float("inf")}),
    ("--threads", {"threads": -1}),
    ("--processes", {"processes": -1}),
    ("--seed", {"seed": -1}),
    ("--builtin-images", {"builtin_images": 0}),
    ("--grid", {"grid": "big"}),
]
FEATURES = {"features": "efficientnet-lite0"}


@pytest.mark.parametrize(("named", "settings"), CONTRADICTIONS)
def test_values_that_cannot_be_or_contradict_are_refused_by_name(named, settings):
    assert named in refusal(validate, changed(**settings))


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
    (
        "--penalty-interval 4 needs a penalty, but",
        {"penalty_interval": 4, "penalty_weight": "0"},
        {"penalty_weight": "1"},
    ),
    (
        "give --penalty-interval 1",
        {"penalty_interval": 4, "penalty_weight": "0", "loss": "bce"},
        {"penalty_interval": 1},
    ),
    ("--loss wgan needs --clip above 0", {"loss": "wgan", "penalty_weight": "0"}, {"clip": 0.01}),
    ("--clip belongs to --loss wgan: with --loss logistic, set it to 0", {"clip": 0.01}, {"clip": 0.0}),
    ("--drift belongs to --loss wgan-gp: with --loss logistic", {"drift": 0.001}, {"loss": "wgan-gp"}),
    ("--residual belongs to --arch dcgan; --arch paper", {"residual": True}, DCGAN),
    ("--residual belongs to --arch dcgan; --arch style", {"residual": True, "arch": "style"}, {"residual": False}),
    ("--critic-norm belongs to --arch dcgan; --arch paper", {"critic_norm": "layer"}, {"arch": "dcgan"}),
    ("--critic-norm belongs to --arch dcgan; --arch style", {"critic_norm": "batch", "arch": "style"}, DCGAN),
    ("use --critic-norm layer", {**DCGAN, "loss": "logistic", "penalty_weight": "1"}, {"critic_norm": "layer"}),
    ("use --critic-norm layer", {**DCGAN, "loss": "wgan-gp", "penalty_weight": "1"}, {"penalty_weight": "0"}),
    ("--beta1 must be below 1", {"beta1": 1.0}, {"beta1": 0.99}),
    ("--threads 1025 is more than any machine has", {"threads": 1025}, {"threads": 1024}),
    ("--processes 1025 is more than any machine has", {"processes": 1025}, {"processes": 1024}),
    ("--budget: 'soon' is no time", {"budget": "soon"}, {"budget": "25m"}),
    ("--budget is empty", {"budget": ""}, {"budget": None}),
    ("--budget-share must be above 0", {"budget": "25m", "budget_share": "32:0,64:1"}, {"budget_share": "32:1"}),
    ("--budget decides by the clock and --plan repeats", {"budget": "25m", "plan": "growth.json"}, {"plan": None}),
    ("--plan is empty", {"plan": ""}, {"plan": None}),
    ("--schedule manual and --budget both", {"budget": "25m", "schedule": "manual"}, {"schedule": "fixed"}),
    ("--schedule manual and --plan both", {"plan": "growth.json", "schedule": "manual"}, {"plan": None}),
    ("--schedule new and --budget both", {"budget": "25m", "schedule": "new"}, {"budget": None}),
    ("--features-res is 63 at 32 px", {**FEATURES, "features_res": "63"}, {"features_res": "64"}),
    ("--features-res is 72.5 at 128 px", {**FEATURES, "features_res": "64,128:72.5"}, {"features_res": "64,128:72"}),
    ("--features-weight must be above 0 at 64 px", {**FEATURES, "features_weight": "1,64:0"}, {"features": "none"}),
    ("--features-lr must be above 0 at 32 px", {**FEATURES, "features_lr": "0"}, {"features_lr": "0.001"}),
    ("--d-interval is 0 at 256 px", {**FEATURES, "d_interval": "2,256:0"}, {"d_interval": "2,256:1"}),
    ("--d-interval is 1.5 at 32 px", {**FEATURES, "d_interval": "1.5"}, {"d_interval": "2"}),
]


@pytest.mark.parametrize(("said", "asked", "mended"), IGNORED)
def test_settings_that_contradict_are_refused_with_the_reason_and_pass_without(said, asked, mended):
    assert said in refusal(validate, changed(**asked))
    validate(changed(**{**asked, **mended}))


def test_a_new_loss_may_have_the_drift_and_the_clip_of_its_row(monkeypatch):
    monkeypatch.setitem(LOSS_TABLE, "new", ("0", 0.001, 0.5))
    new = changed(loss="new", penalty_weight="0", drift=0.01, clip=2.0)
    validate(new)
    assert "--loss wgan or new: with --loss hinge" in refusal(validate, with_settings(new, {"loss": "hinge"}))
    assert "--loss new needs --clip" in refusal(validate, with_settings(new, {"clip": 0.0}))


KIMG = {"fade_kimg": "3", "stable_kimg": "4", "stage_minutes": "5", "floor_kimg": 0.5}


@pytest.mark.parametrize("name", KIMG)
@pytest.mark.parametrize("other", [{"budget": "25m"}, {"plan": "growth.json"}])
def test_a_schedule_in_kimg_beside_a_budget_or_a_plan_is_refused(name, other):
    flag, (second,) = "--" + name.replace("_", "-"), other
    message = refusal(check_ignored, changed(**{name: KIMG[name]}, **other), Config())
    assert flag in message and f"--{second}" in message
    of_the_preset = changed(**{name: KIMG[name]})  # what the flags were laid over asks for nothing
    check_ignored(changed(**{name: KIMG[name]}, **other), of_the_preset)


WITHOUT_EFFECT = [  # a setting, the flag that it needs, settings without that, settings with it
    ({"budget_share": "1"}, "--budget", {"plan": "growth.json"}, {"budget": "25m"}),
    ({"floor_kimg": 2.0}, "--stage-minutes", {}, {"stage_minutes": "0,64:3"}),
    ({"eval_samples": 900}, "--eval-kimg above 0", {"eval_kimg": "0"}, {"eval_kimg": "0,64:9"}),
    ({"ema_rampup": 0.1}, "--ema-kimg above 0", {"ema_kimg": "0"}, {"ema_kimg": "0,64:9"}),
    ({"features_res": "96"}, "--features", {}, FEATURES),
    ({"features_weight": "2"}, "--features", {}, FEATURES),
    ({"features_lr": "0.002"}, "--features", {}, FEATURES),
    ({"d_interval": "2"}, "--features", {}, FEATURES),
]


@pytest.mark.parametrize(("setting", "needed", "without", "beside"), WITHOUT_EFFECT)
def test_a_flag_without_effect_is_refused_with_the_flag_that_it_needs(setting, needed, without, beside):
    (name,) = setting
    message = refusal(check_ignored, changed(**setting, **without), Config())
    assert message.startswith(f"--{name.replace('_', '-')} has no effect without {needed}:")
    check_ignored(changed(**setting, **beside), Config())


def test_kimg_go_with_a_manual_schedule():
    check_ignored(changed(**{**KIMG, "schedule": "manual"}), Config())


def another(name: str, value: object) -> object:
    """Returns a value that the setting `name` does not have."""
    known = {"base": "4x5", "start_res": 16, "max_res": 512, "preset": "paper"}
    if name in known or value is None:
        return known.get(name, "somewhere")
    if isinstance(value, str):
        return "7" if value[0].isdecimal() else value + "x"
    return not value if isinstance(value, bool) else value + 1


@pytest.mark.parametrize("name", flat(Config()))
def test_a_continued_run_may_change_some_settings_and_no_others(name):
    value = flat(Config())[name]
    new = replace(Config(), preset="paper") if name == "preset" else changed(**{name: another(name, value)})
    lines = [f"--{name.replace('_', '-')}: {value} -> {another(name, value)}"] if name in fixed_settings() else []
    assert new != Config() and differences(Config(), new) == lines


def test_the_settings_that_may_change():
    assert flat(Config()).keys() - fixed_settings() == {
        *("max_res", "fade_kimg", "stable_kimg", "stage_minutes", "floor_kimg", "out", "resume", "save_minutes"),
        *("record_kimg", "sample_kimg", "grid", "wandb", "tensorboard", "device", "threads", "processes", "cache"),
        *("eval_kimg", "compile", "budget", "budget_share", "plan", "dry_run"),
    }
