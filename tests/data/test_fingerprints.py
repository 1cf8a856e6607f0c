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


def settle(monkeypatch) -> None:
    """Lets files be remembered however young they are."""
    monkeypatch.setattr(fingerprints, "SETTLED_NS", -(10**12))


def test_a_second_start_reads_no_file_and_sees_a_touched_one(small_folder, monkeypatch):
    settle(monkeypatch)
    first = opened(small_folder).fingerprint
    read, digest = [], fingerprints.hashlib.file_digest
    monkeypatch.setattr(
        fingerprints.hashlib, "file_digest", lambda file, how: read.append(file.name) or digest(file, how)
    )
    assert opened(small_folder).fingerprint == first and read == []
    os.utime(small_folder / "a.png", (2 * 10**9, 10**9 + 1))
    assert opened(small_folder).fingerprint == first and read == [str(small_folder / "a.png")]


def test_other_pixels_of_the_same_size_and_date_are_another_fingerprint(small_folder, monkeypatch):
    """As after unzipping other pictures over a folder: the archive's old date is set on the new file."""
    settle(monkeypatch)
    path = small_folder / "a.png"
    first, before = opened(small_folder).fingerprint, path.stat()
    assert opened(small_folder).fingerprint == first
    data = path.read_bytes()
    path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert opened(small_folder).fingerprint != first


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
