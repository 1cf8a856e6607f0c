"""Fingerprints follow the bytes of files, which are read once."""

import os
import shutil
from pathlib import Path

from image_files import opened, save

from pggan.data import fingerprints, sources


def test_copying_a_folder_keeps_its_fingerprint(small_folder, tmp_path):
    shutil.copytree(small_folder, tmp_path / "copy")
    assert opened(small_folder).fingerprint == opened(tmp_path / "copy").fingerprint


def test_changing_moving_adding_or_removing_an_image_changes_the_fingerprint(small_folder):
    seen = {opened(small_folder).fingerprint}
    data = bytearray((small_folder / "a.png").read_bytes())
    data[-1] ^= 1
    (small_folder / "a.png").write_bytes(data)  # of the same size, moments later
    seen.add(opened(small_folder).fingerprint)
    (small_folder / "b.jpg").rename(small_folder / "bb.jpg")
    seen.add(opened(small_folder).fingerprint)
    save(small_folder / "new.png")
    seen.add(opened(small_folder).fingerprint)
    (small_folder / "bb.jpg").unlink()
    seen.add(opened(small_folder).fingerprint)
    assert len(seen) == 5


def test_a_second_start_reads_no_file_and_sees_a_touched_one(small_folder, monkeypatch):
    for path in small_folder.rglob("*.*"):
        os.utime(path, (10**9, 10**9))
    first = opened(small_folder).fingerprint
    read, digest = [], fingerprints.hashlib.file_digest
    monkeypatch.setattr(
        fingerprints.hashlib, "file_digest", lambda file, how: read.append(file.name) or digest(file, how)
    )
    assert opened(small_folder).fingerprint == first and read == []
    os.utime(small_folder / "a.png", (2 * 10**9, 10**9 + 1))
    assert opened(small_folder).fingerprint == first and read == [str(small_folder / "a.png")]


def test_a_damaged_or_unwritable_memory_only_costs_time(small_folder, monkeypatch):
    first = opened(small_folder).fingerprint
    for path in (small_folder / sources.CACHE_NAME).glob("fingerprints-*.json"):
        path.write_text("{")
    assert opened(small_folder).fingerprint == first
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert opened(small_folder).fingerprint == first
    monkeypatch.undo()
    monkeypatch.setattr(Path, "write_text", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert opened(small_folder).fingerprint == first
