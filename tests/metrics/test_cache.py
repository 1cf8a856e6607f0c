"""The cache of arrays: it returns what was measured, bit for bit, or measures again; nothing stale is ever used."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import ROOT

from pggan.metrics import cache
from pggan.metrics.cache import remembered, statistics_folder

KEY = {"pictures": "abc", "size": [64, 64], "fit": "crop", "dtype": "float32"}


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "features": rng.normal(size=(40, 7)).astype(np.float32),
        "strange": np.array([np.nan, -0.0, np.inf, 5e-324]),
        "file": np.asfortranarray(rng.normal(size=(3, 4))),
        "count": np.array(40),
        "none": np.zeros((0, 5), np.int64),
        "reasons": np.array(["empty file", "not a picture"]),
    }


class Maker:
    """A `make` that counts its calls."""

    def __init__(self, seed: int = 0):
        self.calls, self.seed = 0, seed

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return arrays(self.seed)


def assert_identical(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert set(a) == set(b)
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, name
        assert a[name].tobytes() == b[name].tobytes(), name


def the_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_the_second_time_nothing_is_made_and_the_arrays_are_the_same_bit_for_bit(tmp_path):
    make = Maker()
    first, second = (remembered(KEY, make, tmp_path / "new" / "folder") for _ in range(2))
    assert make.calls == 1
    assert_identical(first, arrays())
    assert_identical(second, arrays())


def test_it_is_the_same_in_another_process(tmp_path):
    remembered(KEY, Maker(), tmp_path)
    code = f"""if True:
        from pathlib import Path
        from pggan.metrics.cache import remembered
        found = remembered({KEY!r}, lambda: 1 / 0, Path({str(tmp_path)!r}))
        print(found["features"].tobytes().hex())"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == arrays()["features"].tobytes().hex()


@pytest.mark.parametrize("change", [*({name: "other"} for name in KEY), {"more": None}, {"size": [64, 65]}])
def test_any_other_key_is_measured_anew(tmp_path, change):
    remembered(KEY, Maker(0), tmp_path)
    make = Maker(1)
    assert_identical(remembered({**KEY, **change}, make, tmp_path), arrays(1))
    assert make.calls == 1
    assert_identical(remembered(KEY, lambda: pytest.fail("made again"), tmp_path), arrays(0))


def test_the_order_of_a_key_does_not_matter(tmp_path):
    remembered(KEY, Maker(), tmp_path)
    assert_identical(remembered(dict(reversed(KEY.items())), lambda: pytest.fail("made again"), tmp_path), arrays())


def test_a_newer_version_of_what_is_kept_is_measured_anew(tmp_path, monkeypatch):
    remembered(KEY, Maker(0), tmp_path)
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    assert_identical(remembered(KEY, Maker(1), tmp_path), arrays(1))


def test_a_file_under_another_key_s_name_is_not_believed(tmp_path):
    remembered(KEY, Maker(0), tmp_path / "a")
    other = {**KEY, "pictures": "def"}
    remembered(other, Maker(1), tmp_path / "b")
    the_file(tmp_path / "a").replace(the_file(tmp_path / "b"))
    make = Maker(1)
    assert_identical(remembered(other, make, tmp_path / "b"), arrays(1))
    assert make.calls == 1


@settings(max_examples=25, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_or_truncated_file_is_never_trusted(tmp_path_factory, place, bit, cut):
    folder = tmp_path_factory.mktemp("damaged")
    remembered(KEY, Maker(), folder)
    path = the_file(folder)
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if cut:
        del content[at:]
    else:
        content[at] ^= 1 << bit
    path.write_bytes(content)
    assert_identical(remembered(KEY, Maker(), folder), arrays())


@pytest.mark.parametrize("garbage", [b"", b"hello", b"\x80\x04N.", b"PK\x03\x04" + b"x" * 50])
def test_garbage_in_its_place_is_replaced(tmp_path, garbage):
    remembered(KEY, Maker(), tmp_path)
    the_file(tmp_path).write_bytes(garbage)
    make = Maker()
    for _ in range(2):
        assert_identical(remembered(KEY, make, tmp_path), arrays())
    assert make.calls == 1


def test_no_pickle_is_written_and_none_is_read(tmp_path):
    with pytest.raises(TypeError, match="numbers or text"):
        remembered(KEY, lambda: {"x": np.array([{}], object)}, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError):
        remembered({"key": object()}, Maker(), tmp_path)


def test_a_full_disk_costs_one_line_and_nothing_else(tmp_path, monkeypatch, capsys):
    def full(file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert_identical(remembered(KEY, Maker(), tmp_path), arrays())
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "No space left" in said
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_a_folder_costs_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("precious")
    assert_identical(remembered(KEY, Maker(), tmp_path / "file" / "deeper"), arrays())
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_in_the_file_s_place_does_no_harm(tmp_path, capsys):
    remembered(KEY, Maker(), tmp_path)
    path = the_file(tmp_path)
    path.unlink()
    path.mkdir()
    assert_identical(remembered(KEY, Maker(), tmp_path), arrays())
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_make_is_the_caller_s_and_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        remembered(KEY, lambda: 1 // 0, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_one_left_is_swept_away(tmp_path):
    (tmp_path / "old.tmp").write_text("half")
    os.utime(tmp_path / "old.tmp", (0, 0))
    (tmp_path / "new.tmp").write_text("half")
    remembered(KEY, Maker(), tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npz", ".tmp"]
    assert (tmp_path / "new.tmp").exists()


def test_without_a_folder_nothing_is_remembered():
    make = Maker()
    for _ in range(2):
        assert_identical(remembered(KEY, make, None), arrays())
    assert make.calls == 2


def test_it_lies_where_the_user_says_or_else_in_the_user_s_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert statistics_folder() == tmp_path / "home" / "pggan" / "statistics"
    assert statistics_folder(tmp_path / "mine") == tmp_path / "mine" / "statistics"


def test_the_key_is_written_into_the_file_for_people_to_read(tmp_path):
    remembered(KEY, Maker(), tmp_path)
    with np.load(the_file(tmp_path)) as content:
        assert json.loads(content[cache.KEY][0]) == {"version": cache.VERSION, **KEY}
