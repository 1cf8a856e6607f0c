"""Adam for a growing network: moments are kept by parameter name, and new weights have their own learning rate."""

import torch
from torch import nn

from pggan.config.schema import TrainingConfig
from pggan.models.networks import Growing

Moments = dict[str, dict[str, torch.Tensor]]
ADAM_EPS = 1e-8


def adam(network: Growing, config: TrainingConfig, kept: Moments | None = None, ratio: float = 1.0) -> torch.optim.Adam:
    """Adam with two groups of parameters: those of the last growth, and all others.

    kept: moments by parameter name, as `moments` returns them; other parameters start without. ratio: `lazy_ratio`
    for D.
    """
    newest, named = network.newest(), dict(network.named_parameters())
    groups = [{"params": [p for name, p in named.items() if (name in newest) == new]} for new in (False, True)]
    betas = (float(config.beta1) ** ratio, float(config.beta2) ** ratio)  # torch refuses a pair of int and float
    optimizer = torch.optim.Adam(groups, lr=0.0, betas=betas, eps=ADAM_EPS, fused=True)
    for name, values in (kept or {}).items():
        if name in named:
            optimizer.state[named[name]] = {key: _like(value, named[name]) for key, value in values.items()}
    return optimizer


def moments(optimizer: torch.optim.Adam, network: nn.Module) -> Moments:
    """{parameter name: {"step", "exp_avg", "exp_avg_sq"}} for every parameter that has taken a step."""
    return {name: dict(optimizer.state[p]) for name, p in network.named_parameters() if p in optimizer.state}


def lazy_ratio(config: TrainingConfig) -> float:
    """k / (k + 1) if the penalty has a step of its own every k > 1 steps, otherwise 1.

    D then takes k + 1 steps instead of k. Multiplying its learning rate by this, and raising the betas to it, keeps the
    speed of learning and forgetting (Karras et al. 2020, appendix B).
    """
    k = config.penalty_interval
    return k / (k + 1) if k > 1 else 1.0


@torch.no_grad()
def clip_weights(network: nn.Module, bound: float) -> None:
    """Clamps all parameters to [-bound, bound], biases too: Arjovsky et al. 2017, algorithm 1."""
    torch._foreach_clamp_min_([*network.parameters()], -bound)
    torch._foreach_clamp_max_([*network.parameters()], bound)


def set_lr(optimizer: torch.optim.Adam, lr: float, warmup: float) -> None:
    """Sets the learning rate; that of the newest parameters is lr * warmup, with warmup in [0, 1]."""
    older, newest = optimizer.param_groups
    older["lr"], newest["lr"] = lr, lr * warmup


def _like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A copy of a moment on the parameter's device and in its memory format; "step" is 0-d."""
    if value.ndim == 0:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
