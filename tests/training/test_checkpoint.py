"""A checkpoint is whole or refused, and the one before it is always there."""

import copy
import os
import random
from collections import OrderedDict
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import assert_same

from pggan.config.schema import Config, NetworkConfig, TrainingConfig
from pggan.errors import UserError
from pggan.schedule.stages import Stage
from pggan.training import checkpoint
from pggan.training.loading import state_from
from pggan.training.state import StageState, TrainState, new_state

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def small(number: int = 0) -> dict:
    """Every kind of value a state has."""
    rng = torch.Generator().manual_seed(number)
    return {
        "G": OrderedDict(weight=torch.randn(2, 3, 3, 3, generator=rng), bias=torch.zeros(0)),
        "step": torch.tensor(3.0),
        "half": torch.randn(5, generator=rng).bfloat16(),
        "nimg": number,
        "lr_factor": 0.1 + 0.2,
        "growth": [{"nimg": 1, "reason": "é", "numbers": {}}, {"nimg": 2, "reason": "", "numbers": {"x": 1e-300}}],
        "flags": [True, None],
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "a.pt"
    checkpoint.save(small(), path)
    return path.read_bytes()


def without_checksum(values: dict) -> dict:
    return {key: value for key, value in values.items() if key not in ("format", "sha256")}


def refused(path: Path, data: bytes) -> bool:
    """Whether `data` is refused by a plain line; when it is not, every value in it must be what it was."""
    path.write_bytes(data)
    try:
        values = checkpoint.load(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return True
    assert_same(without_checksum(values), small())
    return False


def test_values_come_back_equal_bit_for_bit(tmp_path):
    checkpoint.save(small(), tmp_path / "a.pt")
    assert_same(without_checksum(checkpoint.load(tmp_path / "a.pt")), small())


def test_a_file_cut_at_any_length_is_refused(whole, tmp_path):
    lengths = {*range(0, len(whole), 37), *range(len(whole) - 64, len(whole))}
    assert [length for length in sorted(lengths) if not refused(tmp_path / "cut.pt", whole[:length])] == []


@quick
@given(data=st.data())
def test_a_byte_changed_anywhere_never_changes_a_value_unseen(whole, tmp_path, data):
    place = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(1, 255))
    refused(tmp_path / "flip.pt", whole[:place] + bytes([whole[place] ^ other]) + whole[place + 1 :])


@pytest.mark.parametrize("kind", ["tensor", "text"])
def test_a_bit_changed_in_what_a_tensor_or_a_text_holds_is_refused(whole, tmp_path, kind):
    values = small()
    held = {"tensor": values["G"]["weight"].numpy().tobytes(), "text": "é".encode()}[kind]
    place = whole.index(held)
    for offset in range(len(held)):
        changed = bytearray(whole)
        changed[place + offset] ^= 1 << random.Random(offset).randrange(8)
        assert refused(tmp_path / "flip.pt", bytes(changed)), offset


@quick
@given(junk=st.binary(max_size=300))
def test_any_other_file_is_refused(tmp_path, junk):
    assert refused(tmp_path / "junk.pt", junk)
    assert refused(tmp_path / "junk.pt", b"PK\x03\x04" + junk)


@pytest.mark.parametrize("values", [[1], {}, {"model": torch.zeros(1)}, {"sha256": "0", "format": 1, 3: "mixed"}])
def test_a_checkpoint_of_another_program_is_refused(tmp_path, values):
    torch.save(values, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt"):
        checkpoint.load(tmp_path / "other.pt")


def test_another_format_is_refused_by_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    checkpoint.save(small(), tmp_path / "a.pt")
    monkeypatch.undo()
    with pytest.raises(UserError, match="format 99"):
        checkpoint.load(tmp_path / "a.pt")


def test_an_intact_latest_of_another_format_is_not_replaced_by_the_one_before(tmp_path, monkeypatch):
    checkpoint.save_latest({"nimg": 1}, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 99)
        checkpoint.save_latest({"nimg": 2}, tmp_path)
    with pytest.raises(UserError, match="format 99") as caught:
        checkpoint.load_latest(tmp_path)
    assert "\n" not in str(caught.value) and str(caught.value).count("has format") == 1


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path, said in ((tmp_path / "none.pt", "there is no"), (tmp_path, "is a folder")):
        with pytest.raises(UserError, match=said):
            checkpoint.load(path)


# ---- nothing but tensors and plain containers


class Touch:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickled_object_in_a_file_is_never_run(tmp_path):
    torch.save({"format": 1, "sha256": "0", "object": Touch(tmp_path / "touched")}, tmp_path / "evil.pt")
    with pytest.raises(UserError):
        checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("odd", [Path("a"), object, {1, 2}, np.float64(1), torch.float32, b"bytes", torch.__version__])
def test_what_could_not_be_loaded_again_is_not_saved(tmp_path, odd):
    path = tmp_path / "a.pt"
    with pytest.raises(TypeError, match="cannot hold"):
        checkpoint.save({"numbers": [{"odd": odd}]}, path)
    assert not list(tmp_path.iterdir())


def test_files_load_with_weights_only(whole, tmp_path):
    (tmp_path / "a.pt").write_bytes(whole)
    values = torch.load(tmp_path / "a.pt", weights_only=True)
    assert len(values["sha256"]) == 64 and values["nimg"] == 0


# ---- the checksum


def test_digest_ignores_the_order_of_dicts_and_the_layout_in_memory():
    values = small()
    turned = dict(reversed(values.items()))
    turned["G"] = dict(reversed(values["G"].items()))
    turned["G"]["weight"] = values["G"]["weight"].contiguous(memory_format=torch.channels_last)
    assert turned["G"]["weight"].stride() != values["G"]["weight"].stride()
    assert checkpoint.digest(turned) == checkpoint.digest(values)


@given(name=st.sampled_from(["weight", "step", "half"]), place=st.integers(0, 2**20), bit=st.integers(0, 7))
@settings(max_examples=50, deadline=None)
def test_digest_depends_on_every_bit_of_every_tensor(name, place, bit):
    values, before = small(), checkpoint.digest(small())
    tensor = values["G"]["weight"] if name == "weight" else values[name]
    flat = tensor.reshape(-1).view(torch.uint8)  # shares its memory
    flat[place % len(flat)] ^= 1 << bit
    assert checkpoint.digest(values) != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ("1", 1),
        (None, "None"),
        ([1, 2], [2, 1]),
        ([[1], 2], [[1, 2]]),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ({"a": None}, {}),
    ],
)
def test_digest_tells_shapes_types_and_structure_apart(one, other):
    assert checkpoint.digest(one) != checkpoint.digest(other)


# ---- full disks and kills


def nimg_of(folder: Path) -> int:
    return checkpoint.load_latest(folder)["nimg"]


def test_a_full_disk_is_named_and_the_checkpoint_before_it_still_loads(tmp_path):
    checkpoint.save_latest(small(1), tmp_path)
    (tmp_path / "next.pt.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match="the disk is full") as caught:
        checkpoint.save_latest({**small(2), "big": torch.zeros(10**6)}, tmp_path)
    assert "next.pt" in str(caught.value)
    assert nimg_of(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["latest.pt"]
    checkpoint.save_latest(small(3), tmp_path)  # the same disk, after some room was made
    assert nimg_of(tmp_path) == 3


def test_saving_over_a_file_on_a_full_disk_leaves_that_file(tmp_path):
    path = tmp_path / "res-0004.pt"
    checkpoint.save(small(1), path)
    (tmp_path / "res-0004.pt.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match="the disk is full"):
        checkpoint.save(small(2), path)
    assert checkpoint.load(path)["nimg"] == 1


class Killed(BaseException):
    """What a kill looks like from inside: nothing after it runs."""


def kill_at_rename(monkeypatch, number: int) -> None:
    """The renames before `number` are made, that one is not."""
    renames, real = [], os.replace

    def replace(source, target):
        renames.append(target)
        if len(renames) == number:
            raise Killed
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_kill_at_any_rename_leaves_a_whole_checkpoint(tmp_path, monkeypatch, number):
    checkpoint.save_latest(small(1), tmp_path)
    checkpoint.save_latest(small(2), tmp_path)
    kill_at_rename(monkeypatch, number)
    with pytest.raises(Killed):
        checkpoint.save_latest(small(3), tmp_path)
    monkeypatch.undo()
    assert nimg_of(tmp_path) in (2, 3)
    assert checkpoint.load(tmp_path / "previous.pt")["nimg"] == (2 if number == 3 else 1)
    checkpoint.save_latest(small(4), tmp_path)
    assert nimg_of(tmp_path) == 4


def test_a_kill_while_a_damaged_latest_is_replaced_loses_nothing(tmp_path, monkeypatch, capsys):
    checkpoint.save_latest(small(1), tmp_path)
    checkpoint.save_latest(small(2), tmp_path)
    os.truncate(tmp_path / "latest.pt", 100)
    assert nimg_of(tmp_path) == 1 and "going on from previous.pt" in capsys.readouterr().out
    kill_at_rename(monkeypatch, 3)
    with pytest.raises(Killed):
        checkpoint.save_latest(small(3), tmp_path)
    monkeypatch.undo()
    assert nimg_of(tmp_path) == 3


def test_a_file_half_written_beside_is_never_looked_at(tmp_path, whole):
    checkpoint.save_latest(small(1), tmp_path)
    (tmp_path / "next.pt.tmp").write_bytes(whole[:500])
    assert nimg_of(tmp_path) == 1


def test_latest_is_preferred_and_previous_is_the_one_before_it(tmp_path):
    for number in (1, 2, 3):
        checkpoint.save_latest(small(number), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.pt", "previous.pt"]
    assert nimg_of(tmp_path) == 3
    assert checkpoint.load(tmp_path / "previous.pt")["nimg"] == 2


def test_no_checkpoint_is_none_and_only_damaged_ones_are_refused_by_name(tmp_path):
    assert checkpoint.load_latest(tmp_path) is None
    checkpoint.save_latest(small(1), tmp_path)
    checkpoint.save_latest(small(2), tmp_path)
    for path in tmp_path.iterdir():
        os.truncate(path, 50)
    with pytest.raises(UserError, match=r"latest\.pt.*previous\.pt"):
        checkpoint.load_latest(tmp_path)


# ---- the fields of a state


CPU = torch.device("cpu")
PARTS = ("config", "G", "D", "G_ema", "heads", "opt_G", "opt_D", "opt_heads")  # whose shapes the settings give
PLAIN = [field.name for field in fields(TrainState) if field.name not in (*PARTS, "stage")]


@pytest.fixture(scope="module")
def state() -> TrainState:
    """A state whose every plain field has another value than its default."""
    network = NetworkConfig(start_res=4, max_res=8, fmap_base=16, fmap_max=4, latent=4)
    made = new_state(Config(network=network, training=TrainingConfig(augment="color:0.3", ada=True)), CPU, 2, "fp16")
    made.nimg = 80
    made.grow(Stage(8, 80, 40, 60, 1.0, 8, 2.0, 3.0, 8, True))
    made.stage = StageState(made.stage.plan, 1.5, 90, 2, True)
    made.nimg, made.lr_factor, made.threads, made.data, made.seconds = 100, 0.25, 3, "fingerprint", 12.5
    made.processes = 2
    made.speeds, made.growth, made.replay, made.best = {4: 8.5}, [{"nimg": 80}], [{"nimg": 81}], {4: 0.5}
    made.history, made.metrics_bytes = [{"nimg": 40, "figures": {"quality/x": 1.0}, "verdict": "healthy"}], 77
    made.sums, made.counts = {"d": torch.tensor(2.5)}, {"d": 3}
    made.augment = {"p": torch.tensor(0.3), "r_t": torch.tensor(0.7)}
    return made


def test_every_field_comes_back_from_a_checkpoint(state):
    values, default = state.to_dict(), new_state(state.config, CPU)
    assert [name for name in PLAIN if getattr(default, name) == getattr(state, name)] == []
    again = state_from(copy.deepcopy(values), CPU)
    assert_same(again.to_dict(), values)
    assert again.stage == state.stage and checkpoint.digest(again.to_dict()) == checkpoint.digest(values)


@pytest.mark.parametrize("name", PLAIN)
def test_a_field_that_a_checkpoint_lacks_has_its_default(state, name):
    values = state.to_dict()
    del values[name]
    expected = new_state(state.config, CPU)
    again = state_from(values, CPU)
    assert_same(getattr(again, name), getattr(expected, name))
    assert all(again.to_dict()[other] == values[other] for other in PLAIN if other not in (name, "sums", "augment"))


@pytest.mark.parametrize("name", [field.name for field in fields(StageState)])
def test_a_field_that_a_checkpoint_s_stage_lacks_has_its_default(state, name):
    values = state.to_dict()
    del values["stage"][name]
    again = state_from(values, CPU)
    assert getattr(again.stage, name) == getattr(StageState(Stage(8)), name)
    others = [field.name for field in fields(StageState) if field.name != name]
    assert all(getattr(again.stage, other) == getattr(state.stage, other) for other in others)


@pytest.mark.parametrize("name", [field.name for field in fields(Stage) if field.name != "res"])
def test_a_field_that_a_checkpoint_s_plan_lacks_has_its_default(state, name):
    values = state.to_dict()
    del values["stage"]["plan"][name]
    assert getattr(state_from(values, CPU).stage.plan, name) == getattr(Stage(8), name)


def test_what_a_state_cannot_be_without_is_refused_by_its_name(state):
    values = state.to_dict()
    del values["opt_D"]
    with pytest.raises(UserError, match="lacks 'opt_D'"):
        state_from(values, CPU)
