"""Files of a generator alone: the weights of G_ema in half precision, as safetensors. Small, to draw samples from.

The settings and a checksum are in the file's metadata.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pggan import system
from pggan.config.presets import with_settings
from pggan.config.schema import from_dict, to_dict
from pggan.errors import OtherFormat, UserError, disk_full, first_line
from pggan.training import checkpoint
from pggan.training.checkpoint import GENERATOR_ENDING, digest

FORMAT = 1
KEPT = ("res", "nimg", "stage")  # values of the checkpoint, beside its settings and G_ema


def save_generator(values: dict, path: Path) -> None:
    """Writes G_ema of `values`, a checkpoint's, to `path`. Of the path of its data, only the last part is kept.

    float16 has 11 bits: images differ by up to about 2 of 255 from those of the checkpoint. Raises UserError if the
    file cannot be written, or if a weight is too large for float16.
    """
    weights = {name: value.half().contiguous() for name, value in values["G_ema"].items()}
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise UserError("a weight of this generator is too large for float16: it has diverged")
    config = from_dict(values["config"])
    config = with_settings(config, {"data": Path(config.data.data).name})
    facts = {"format": FORMAT, "config": to_dict(config), **{name: values[name] for name in KEPT}}
    facts["sha256"] = digest({**facts, "G_ema": weights})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with system.replacing(path) as temporary:
            Path(temporary).write_bytes(save(weights, {"pggan": json.dumps(facts)}))
    except OSError as error:
        full = "the disk is full"
        raise UserError(f"cannot write {path}: {full if disk_full(error) else first_line(error)}") from error


def load_values(path: Path) -> dict:
    """The values that drawing samples needs, of a checkpoint or of a file of `save_generator`. Raises UserError.

    Weights are float32. See `checkpoint.load` for all that a checkpoint holds.
    """
    if path.suffix != GENERATOR_ENDING or not path.is_file():
        return checkpoint.load(path)
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("pggan", "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is cut short, or no safetensors file ({first_line(error)})") from None
    if not isinstance(facts, dict):
        raise UserError(f"{path} is no generator of this project")
    if facts.get("format") != FORMAT:
        raise OtherFormat(f"{path} has format {facts.get('format')} and this version reads format {FORMAT}")
    unsigned = {name: value for name, value in facts.items() if name != "sha256"}
    if digest({**unsigned, "G_ema": weights}) != facts.get("sha256"):
        raise UserError(f"{path} is damaged: its checksum does not match")
    return {**facts, "G_ema": {name: value.float() for name, value in weights.items()}}
