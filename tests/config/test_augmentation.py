"""--augment and its controller as settings: what is read, what is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import changed, refusal

from pggan.config import cli
from pggan.config.augmentation import AUGMENTATION_NAMES, Augmentation, augmentation
from pggan.config.presets import preset
from pggan.config.schema import Config, fixed_settings
from pggan.config.tables import PRESETS
from pggan.config.validation import check_ignored, validate

CONTROLLED = {"augment": "translation", "ada": True}
STRENGTHS = st.floats(0, 1, exclude_min=True)


def test_augmentations_are_read_with_their_strengths():
    assert augmentation("translation:0.8,color:.3") == Augmentation(translation=0.8, color=0.3)
    assert augmentation(" cutout : 1e-1 , turns") == Augmentation(cutout=0.1, turns=1.0)
    assert augmentation("none") == Augmentation()


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from(AUGMENTATION_NAMES), STRENGTHS, min_size=1))
def test_what_is_written_is_read_back(strengths):
    read = augmentation(",".join(f"{name}:{value!r}" for name, value in strengths.items()))
    assert read.strengths() == strengths and read


def test_nothing_is_nothing():
    assert not Augmentation() and not Augmentation().strengths()


@pytest.mark.parametrize("text", ["", "colour:0.3", "0.8", "translation,", "none,cutout:0.5", "Cutout:0.5"])
def test_an_unknown_augmentation_is_refused_and_the_known_ones_named(text):
    message = refusal(augmentation, text)
    assert "there is no '" in message and all(name in message for name in AUGMENTATION_NAMES)


@pytest.mark.parametrize("text", ["", "x", "0", "-0.1", "1.01", "nan", "inf", "0.5:0.5"])
def test_what_is_no_strength_is_refused(text):
    assert f"cutout:{text} is no strength" in refusal(augmentation, f"turns:0.2,cutout:{text}")


def test_an_augmentation_named_twice_is_refused():
    assert "names cutout twice" in refusal(augmentation, "cutout:0.5,color:0.2,cutout:0.5")


CONTRADICTIONS = [  # what is said, what is asked for, and the same without the contradiction
    ("there is no 'zoom'", {"augment": "zoom:0.5"}, {"augment": "cutout:0.5"}),
    ("--augment is empty", {"augment": ""}, {"augment": "none"}),
    ("give --no-mirror", {"augment": "flip:0.5"}, {"mirror": False}),
    ("--base 4x5", {"augment": "turns:0.5", "base": "4x5"}, {"base": "3x3"}),
    ("cutout on 100 % of the images leaks", {"augment": "color:0.3,cutout"}, {"augment": "color:0.3,cutout:0.99"}),
    ("color on 100 % of the images leaks", {"augment": "color:1"}, {"ada": True}),
    ("vflip on 60 % of the images leaks", {"augment": "vflip:0.6"}, {"augment": "vflip:0.5"}),
    ("turns on 80 % of the images leaks", {**CONTROLLED, "augment": "turns"}, {"augment": "turns:0.6"}),
    ("turns on 80 % of the images leaks", {**CONTROLLED, "augment": "turns"}, {"ada_max": 0.5}),
    ("--ada needs", {"ada": True}, {"augment": "color:1"}),
    *[
        (f"--{name.replace('_', '-')} must be above 0", {**CONTROLLED, name: bad}, {name: 0.5})
        for name in ("ada_target", "ada_max")
        for bad in (0.0, 1.0)
    ],
    ("--ada-kimg must be above 0", {**CONTROLLED, "ada_kimg": 0.0}, {"ada_kimg": 0.1}),
    ("and at most 10000", {**CONTROLLED, "ada_kimg": 10_001.0}, {"ada_kimg": 10_000.0}),
    ("--ada-target nan", {**CONTROLLED, "ada_target": float("nan")}, {"ada_target": None}),
]


@pytest.mark.parametrize(("said", "asked", "mended"), CONTRADICTIONS)
def test_contradictions_are_refused_with_the_reason_and_pass_without(said, asked, mended):
    assert said in refusal(validate, changed(**asked))
    validate(changed(**{**asked, **mended}))


@pytest.mark.parametrize(("name", "value"), [("target", 0.5), ("kimg", 50.0), ("max", 0.7)])
def test_settings_of_a_controller_that_is_not_there_are_refused(name, value):
    asked = {"augment": "color:0.3", f"ada_{name}": value}
    assert f"--ada-{name} has no effect without --ada:" in refusal(check_ignored, changed(**asked), Config())
    check_ignored(changed(**asked, ada=True), Config())
    check_ignored(changed(**asked), changed(**asked))  # what the flags were laid over asks for nothing


def test_no_preset_changes_colors_or_turns_pictures_or_adapts():
    """Colors would drift, and pictures that are turned leak. (The presets mirror when they read.)"""
    for name in PRESETS:
        training = preset(name).training
        assert augmentation(training.augment).strengths().keys() <= {"translation", "cutout"} and not training.ada


def test_augmentation_is_what_a_run_is():
    assert {"augment", "ada", "ada_target", "ada_kimg", "ada_max"} <= fixed_settings()


def test_the_flags():
    flags = ["--augment", "translation,color:0.3", "--ada", "--ada-target", "0.5"]
    training = cli.parse(Config, flags).training
    assert augmentation(training.augment) == Augmentation(translation=1.0, color=0.3)
    assert (training.ada, training.ada_target) == (True, 0.5)
    assert (training.ada_kimg, training.ada_max) == (100.0, 0.8)
