"""Full disks, damaged files and killed processes leave nothing that is used later."""

import errno
import os
import shutil
import time

import numpy as np
import pytest
from image_files import SIZES, packed

from pggan.data import cache_files, sources, workers
from pggan.errors import UserError


def test_a_disk_too_small_is_told_before_anything_is_written(folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(UserError, match=r"need 11,520 bytes and .* has 5 free"):
        packed(folder)


def test_a_disk_that_fills_up_is_one_plain_line_and_leaves_nothing(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(workers, "_do", full)
    with pytest.raises(UserError, match="make room or choose another"):
        packed(folder)
    assert not [path for path in (folder / sources.CACHE_NAME).glob("*/*") if path.is_file()]


def test_what_a_killed_packing_left_is_removed_and_what_another_is_writing_is_not(folder):
    where = packed(folder, SIZES[:1]).folder
    for name, age in [("old.tmp", 2 * cache_files.STALE_SECONDS), ("new.tmp", 60)]:
        (where / name).write_bytes(b"x")
        os.utime(where / name, (time.time() - age,) * 2)
    packed(folder)
    assert [path.name for path in where.glob("*.tmp")] == ["new.tmp"]


@pytest.mark.parametrize("damage", ["cut", "gone", "other shape", "no index"])
def test_a_damaged_resolution_is_packed_again(folder, damage):
    first = packed(folder)
    expected, path = np.array(first.images(16)), first.folder / "0016.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "gone":
        path.unlink()
    elif damage == "other shape":
        np.save(path, expected[:5])
    else:
        (first.folder / "index.json").write_text("{")
    assert np.array_equal(packed(folder).images(16), expected)
