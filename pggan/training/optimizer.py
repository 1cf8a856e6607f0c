"""Adam as a growing network needs it: moments kept by parameter name, new weights warmed up by a group of their own."""

import torch
from torch import nn

from pggan.config.schema import TrainingConfig
from pggan.models.networks import Growing

Moments = dict[str, dict[str, torch.Tensor]]
ADAM_EPS = 1e-8


def adam(network: Growing, config: TrainingConfig, kept: Moments | None = None, ratio: float = 1.0) -> torch.optim.Adam:
    """Adam over two groups, the parameters of the last growth and all others.

    kept: moments by parameter name, as `moments` gives them; parameters not named start afresh. ratio: `lazy_ratio`
    for D.
    """
    newest = network.newest()
    named = dict(network.named_parameters())
    groups = [
        {"params": [p for name, p in named.items() if name not in newest]},
        {"params": [p for name, p in named.items() if name in newest]},
    ]
    betas = (float(config.beta1) ** ratio, float(config.beta2) ** ratio)  # torch refuses a pair of int and float
    optimizer = torch.optim.Adam(groups, lr=0.0, betas=betas, eps=ADAM_EPS, fused=True)
    for name, values in (kept or {}).items():
        if name in named:
            optimizer.state[named[name]] = {key: _like(value, named[name]) for key, value in values.items()}
    return optimizer


def moments(optimizer: torch.optim.Adam, network: nn.Module) -> Moments:
    """{parameter name: {"step", "exp_avg", "exp_avg_sq"}} for every parameter that has been stepped."""
    return {name: dict(optimizer.state[p]) for name, p in network.named_parameters() if p in optimizer.state}


def lazy_ratio(config: TrainingConfig) -> float:
    """k / (k + 1) for a penalty every k steps in a step of its own, else 1.

    D then takes k + 1 steps in the time of k, so its rate is multiplied by this, and each beta raised to it, to move
    and to forget as fast as before (Karras et al. 2020, appendix B).
    """
    k = config.penalty_interval
    return k / (k + 1) if k > 1 else 1.0


@torch.no_grad()
def clip_weights(network: nn.Module, bound: float) -> None:
    """All parameters into [-bound, bound], biases too: Arjovsky et al. 2017, algorithm 1."""
    torch._foreach_clamp_min_([*network.parameters()], -bound)
    torch._foreach_clamp_max_([*network.parameters()], bound)


def set_lr(optimizer: torch.optim.Adam, lr: float, warmth: float) -> None:
    """The rate of the two groups; warmth in [0, 1] scales that of the newest parameters."""
    kept, newest = optimizer.param_groups
    kept["lr"], newest["lr"] = lr, lr * warmth


def _like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    if value.ndim == 0:  # Adam's step count
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)  # in the parameter's memory format
