"""Checkpoint files: tensors and plain containers, with a checksum.

A file is written under another name and then renamed, so a killed process leaves no half-written checkpoint. The
checksum covers every tensor and value, so a damaged file is always noticed. `previous.pt` is the `latest.pt` before
this one.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import torch

from pggan import system
from pggan.errors import OtherFormat, UserError, disk_full, first_line

FORMAT = 3
GENERATOR_ENDING = ".safetensors"  # of files that hold a generator alone: exported.py
NEWEST_FIRST = ("latest.pt", "next.pt", "previous.pt")  # next.pt is left by a kill between two renames


def save(values: dict, path: Path) -> None:
    """Writes `values` (tensors, dicts, lists, str, numbers, None) to `path`.

    Raises UserError when the disk is full or cannot be written; an older file at `path` is then still there.
    """
    whole = {"format": FORMAT, **values}
    whole["sha256"] = digest(whole)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with system.replacing(path) as temporary:
            with open(temporary, "wb") as file:
                torch.save(whole, file)
            system.flush_to_disk(temporary)
    except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
        full = "the disk is full: free some room and start the same command again"
        raise UserError(f"cannot write {path}: {full if disk_full(error) else first_line(error)}") from error


def save_latest(values: dict, folder: Path) -> None:
    """Replaces latest.pt, and keeps the one before it as previous.pt."""
    latest, fresh = folder / "latest.pt", folder / "next.pt"
    save(values, fresh)
    if latest.exists():
        os.replace(latest, folder / "previous.pt")
    os.replace(fresh, latest)


def load_latest(folder: Path) -> dict | None:
    """The newest intact checkpoint of a run, with a message if it is not latest.pt; None if there is none.

    Raises UserError if all of them are damaged, or if one is of another version.
    """
    problems = []
    for path in filter(Path.exists, (folder / name for name in NEWEST_FIRST)):
        try:
            values = load(path)
        except OtherFormat:
            raise
        except UserError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            print(f"{problem}; going on from {path.name}", flush=True)
        return values
    if problems:
        raise UserError("; ".join(problems))
    return None


def load(path: Path) -> dict:
    """The values of a checkpoint, on the CPU. Raises UserError if it is missing, damaged, or not a checkpoint."""
    if path.suffix.lower() == GENERATOR_ENDING and path.is_file():
        raise UserError(f"{path} holds a generator alone, to draw samples from: take the checkpoint, a .pt file")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except IsADirectoryError:
        inside = path / "latest.pt" if (path / "latest.pt").exists() else path / "checkpoints" / "latest.pt"
        raise UserError(f"{path} is a folder: name a checkpoint in it, such as {inside}") from None
    except Exception as error:  # the unpickler may raise anything on damaged bytes
        raise UserError(f"{path} is cut short, or no checkpoint of this project ({type(error).__name__})") from None
    if not isinstance(values, dict) or "sha256" not in values:
        raise UserError(f"{path} is no checkpoint of this project")
    if values.get("format") != FORMAT:
        raise OtherFormat(
            f"{path} has format {values.get('format')} and this version reads format {FORMAT}: continue it with the "
            f"version that wrote it (the commit is in its run's config.json)"
        )
    with suppress(TypeError, RuntimeError):  # a changed byte can give a tensor an impossible shape
        if digest({key: value for key, value in values.items() if key != "sha256"}) == values["sha256"]:
            return values
    raise UserError(f"{path} is damaged: its checksum does not match")


def digest(values: object) -> str:
    """sha256 of all tensors and plain values; it does not depend on the order of dicts or on memory formats.

    Raises TypeError for other values: `load` could not read them.
    """
    total = hashlib.sha256()
    _feed(total, values)
    return total.hexdigest()


def _feed(total, value: object) -> None:
    if isinstance(value, dict):
        total.update(f"dict {len(value)}".encode())
        for key in sorted(value):
            _feed(total, key)
            _feed(total, value[key])
    elif isinstance(value, (list, tuple)):
        total.update(f"list {len(value)}".encode())
        for item in value:
            _feed(total, item)
    elif isinstance(value, torch.Tensor):
        array = value.detach().cpu().contiguous()
        total.update(f"tensor {array.dtype} {tuple(array.shape)}".encode())
        total.update(array.flatten().view(torch.uint8).numpy().data)
    elif type(value) in (str, int, float, bool, type(None)):  # not subclasses such as np.float64
        total.update(f"{type(value).__name__} {value!r}".encode())
    else:
        raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")
