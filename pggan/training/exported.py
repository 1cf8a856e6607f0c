"""Small files made from a checkpoint, with weights in half precision.

save_generator: G_ema alone, as safetensors, to draw samples. The settings and a checksum are in the file's metadata.
save_start: a checkpoint without Adam's moments, to start new runs from.
float16 has 11 significant bits: images differ by up to about 2 of 255 from those of the checkpoint.
"""

import json
from pathlib import Path, PureWindowsPath

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pggan import system
from pggan.config.presets import with_settings
from pggan.config.schema import from_dict, to_dict
from pggan.errors import OtherFormat, UserError, disk_full, first_line
from pggan.training import checkpoint
from pggan.training.checkpoint import GENERATOR_ENDING, digest

FORMAT = 1
KEPT = ("res", "nimg", "stage")  # values of the checkpoint that drawing samples needs, beside its settings and G_ema
NETWORKS = ("G", "D", "G_ema", "heads")
LEFT_OUT = ("history", "growth", "replay", "best", "sums", "counts", "speeds")


def save_generator(values: dict, path: Path) -> None:
    """Writes G_ema of a checkpoint's values to `path`. Of the path of its data, only the last part is kept.

    Raises UserError if the file cannot be written, or if a weight is too large for float16.
    """
    weights = _halved(values["G_ema"])
    facts = {"format": FORMAT, "config": _shareable(values), **{name: values[name] for name in KEPT}}
    facts["sha256"] = digest({**facts, "G_ema": weights})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with system.replacing(path) as temporary:
            Path(temporary).write_bytes(save(weights, {"pggan": json.dumps(facts)}))
            system.flush_to_disk(temporary)
    except OSError as error:
        why = "the disk is full" if disk_full(error) else first_line(error)
        raise UserError(f"cannot write {path}: {why}") from error


def save_start(values: dict, path: Path) -> None:
    """Writes a checkpoint without Adam's moments and the history of its run. Data and errors: see `save_generator`."""
    weights = {name: _halved(values[name]) for name in NETWORKS if values.get(name)}
    empty = {name: type(values[name])() for name in values if name.startswith("opt_") or name in LEFT_OUT}
    whole = {**values, **weights, **empty, "config": _shareable(values)}
    checkpoint.save({name: value for name, value in whole.items() if name not in ("format", "sha256")}, path)


def _halved(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    half = _cast(weights, torch.float16)
    if not all(torch.isfinite(value).all() for value in half.values()):
        raise UserError("this checkpoint has a weight above 65,504, or one that is not finite: it cannot be exported")
    return half


def _cast(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Contiguous tensors of this dtype; counters stay integers."""
    of = {name: dtype if value.is_floating_point() else value.dtype for name, value in weights.items()}
    return {name: value.to(of[name]).contiguous() for name, value in weights.items()}


def _shareable(values: dict) -> dict:
    """The settings, without what holds for one machine: its folders and its number of threads.

    The only path in a checkpoint is that of its data.
    """
    config = from_dict(values["config"])
    return to_dict(with_settings(config, {"data": _last_part(config.data.data), "threads": 0}))


def _last_part(data: str) -> str:
    """The name of a folder or zip, of any operating system; built-in images keep theirs."""
    if data.partition(":")[0] == "builtin":
        return data
    name = PureWindowsPath(data).name or "data"
    return f"./{name}" if name.startswith("builtin") else name


def load_values(path: Path) -> dict:
    """The values that drawing samples needs, of a checkpoint or of a file of `save_generator`. Raises UserError.

    Weights of a file of `save_generator` are given as float32. See `checkpoint.load` for all that a checkpoint holds.
    """
    if path.suffix.lower() != GENERATOR_ENDING or not path.is_file():
        return checkpoint.load(path)
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("pggan", "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is cut short, or no safetensors file ({first_line(error)})") from None
    if not isinstance(facts, dict):
        raise UserError(f"{path} is no generator of this project")
    if facts.get("format") != FORMAT:
        raise OtherFormat(f"{path} has format {facts.get('format')} and this version reads format {FORMAT}")
    unsigned = {name: value for name, value in facts.items() if name != "sha256"}
    if digest({**unsigned, "G_ema": weights}) != facts.get("sha256"):
        raise UserError(f"{path} is damaged: its checksum does not match")
    return {**facts, "G_ema": _cast(weights, torch.float32)}
