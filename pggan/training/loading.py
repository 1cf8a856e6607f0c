"""From the values of a checkpoint to a state, or to a generator alone."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import torch

from pggan.config.schema import Config, from_dict
from pggan.errors import UserError, first_line
from pggan.models.feature_heads import FeatureHeads
from pggan.models.networks import Generator, Growing
from pggan.schedule.stages import Stage
from pggan.training.state import StageState, TrainState, new_state, placed


def state_from(values: dict, device: torch.device, config: Config | None = None) -> TrainState:
    """Returns the state of `values`, which `TrainState.to_dict` or `checkpoint.load` returned, on any device.

    config: settings to continue with; None: the saved ones. Raises UserError if the tensors do not fit the networks.
    """
    with _explaining_misfits():
        config = config or from_dict(values["config"])
        state = new_state(config, device, values.get("attempt", 0), values.get("precision", "fp32"))
        for name, network in state.networks.items():
            load_weights(network, values[name], values["res"])
        state.G_ema.requires_grad_(False)
        state.stage = StageState(Stage(state.res))
        state.renew_adam({player: values[f"opt_{player}"] for player in state.players})
        if values["scaler"]:  # empty unless the precision is fp16
            state.scaler.load_state_dict(values["scaler"])
        special = {"config", *state.networks, *(f"opt_{player}" for player in state.players)}
        for name in values.keys() & {item.name for item in fields(state)} - special:
            setattr(state, name, _restored(getattr(state, name), values[name], device))
    return state


def generator_from(values: dict, device: torch.device) -> tuple[Generator, float]:
    """Returns (G_ema, alpha) of the same values as `state_from`, without any other network. Raises UserError."""
    with _explaining_misfits():
        G = placed(Generator(from_dict(values["config"]).network, torch.Generator()), device)
        load_weights(G, values["G_ema"], values["res"])
        stage = _restored(StageState(Stage(G.res)), values["stage"], device)
        return G.requires_grad_(False).eval(), stage.plan.alpha(values["nimg"])


def load_generator(path: str | Path, device: str | torch.device = "cpu") -> tuple[Generator, float]:
    """Returns (G_ema, alpha) of a checkpoint, or of a file of tools/export.py; `G_ema(z, alpha)` draws images.

    Raises UserError if it cannot be read.
    """
    from pggan.training.exported import load_values  # needs safetensors, which training does not

    return generator_from(load_values(Path(path)), torch.device(device))


@contextmanager
def _explaining_misfits() -> Iterator[None]:
    """Raises UserError if a checkpoint lacks something, or has tensors of another shape than its settings say."""
    try:
        yield
    except KeyError as error:
        raise UserError(f"this checkpoint lacks {error}: it is of another version of the project") from error
    except (RuntimeError, ValueError) as error:
        why = f"it has another shape than its settings say: {first_line(error)}"
        raise UserError(f"this checkpoint is damaged, or of another version ({why})") from error


def load_weights(network: Growing | FeatureHeads, weights: dict[str, torch.Tensor], res: int) -> None:
    """Grows the network to `res`, and gives it the weights. Raises ValueError or RuntimeError if they do not fit."""
    if res not in network.config.resolutions():
        raise ValueError(f"{res} px is none of its resolutions")
    device = next(network.parameters()).device
    while network.res < res:
        network.grow(torch.Generator())  # all that is drawn here is overwritten
    placed(network, device).load_state_dict(weights)


def _restored(now: object, saved: object, device: torch.device) -> object:
    """The inverse of `_plain`: `saved` as a value like `now`. Fields that `saved` lacks keep their values in `now`."""
    if is_dataclass(now):
        known = [item.name for item in fields(now) if item.name in saved]
        return replace(now, **{name: _restored(getattr(now, name), saved[name], device) for name in known})
    if isinstance(saved, torch.Tensor):
        return saved.to(device)
    if isinstance(saved, dict):
        return {key: _restored(None, value, device) for key, value in saved.items()}
    return copy.deepcopy(saved)
