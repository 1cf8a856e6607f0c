"""States with heads on features, for the tests of their steps."""

from pathlib import Path

import torch
from short import make_settings
from torch import Tensor

from pggan.schedule.stages import Stage
from pggan.training import compile
from pggan.training.phases import StepInputs, StepScalars
from pggan.training.state import TrainState, new_state
from pggan.training.step import phase_scalars, step_inputs, step_phases, step_scalars

CPU = torch.device("cpu")
FEATURES = ["--features", "efficientnet-lite0"]
FADE = Stage(8, 104, fade=100, stable=10**6)


def fresh(*flags: object, precision: str = "fp32", double: bool = False, features: bool = True, **kind) -> TrainState:
    """A state at 8 px in mid-fade, in the sixth step of its stage."""
    flags = (*(FEATURES if features else ()), "--batch", 8, "--max-res", 8, *flags)
    state = new_state(make_settings(Path("cache"), Path("run"), *flags, **kind), CPU, precision=precision)
    state.nimg = 104
    state.grow(FADE)
    state.nimg = 152
    for network in state.networks.values() if double else ():
        network.double()
    return state


def reals(state: TrainState) -> Tensor:
    dtype = next(state.G.parameters()).dtype
    return torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(5)).to(dtype) * 2 - 1


def doubled(inputs: StepInputs) -> StepInputs:
    return StepInputs(*(None if value is None else value.double() for value in vars(inputs).values()))


def gradients(state: TrainState, number: int, **scalars: object) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """({player.parameter: gradient}, stats) of a phase of the coming step, in the state's own precision."""
    phase = step_phases(state)[number]
    inputs, given = step_inputs(state, reals(state)), phase_scalars(state, phase, step_scalars(state))
    if next(state.G.parameters()).dtype == torch.float64:
        inputs = doubled(inputs)
        given = StepScalars(**{name: v.double() if isinstance(v, Tensor) else v for name, v in vars(given).items()})
    vars(given).update(scalars)
    found, stats = compile.gradients(phase, state.config.training, state.players, inputs, given)
    names = [f"{player}.{name}" for player in phase.players for name, _ in state.players[player].named_parameters()]
    return {name: value for name, value in zip(names, found, strict=True) if value is not None}, stats
