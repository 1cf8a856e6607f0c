"""Fidelity: whether samples are like the real images at all. Only then do figures of variety mean anything.

Around each fitting real is a ball that reaches to its fifth nearest neighbor. Samples like the reals lie in as many
balls as held-out reals do (density), and together they lie in the balls of as many reals (coverage); both are from
Naeem et al. 2020. Neither is enough. Noise whose features are near the mean of all lies in many balls, but always the
same ones: its density is high and its coverage is low. Copies of a few reals have a low coverage, too, so coverage is
compared with that of as many held-out reals as the samples are varied.

Shapes here: n samples, m held-out reals, N fitting reals; z are features [n, D], [m, D] or [N, D] of one space.
"""

import numpy as np
import torch

from pggan.metrics.neighbors import SLACK, distance_blocks, nearest

K = 5  # a ball reaches to its K-th nearest neighbor
DRAWS = 8  # of held-out reals


def in_balls(z: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """bool [n, N]: whether each of z is in the ball around each of `fitted`."""
    reach = SLACK * torch.from_numpy(nearest(fitted, fitted, K, exclude_self=True)[0][:, -1])
    return torch.cat([block <= reach for _, block in distance_blocks(z, fitted)]).numpy()


def fidelity(samples: np.ndarray, held_out: np.ndarray, effective: float) -> float:
    """The geometric mean of density and coverage, each divided by that of held-out reals: about 1 for good samples.

    samples, held_out: `in_balls` [n, N] and [m, N]. effective: the samples are as varied as so many reals.
    """
    count, rng = int(np.clip(round(effective), 1, len(held_out))), np.random.default_rng(0)
    draws = [held_out[rng.permutation(len(held_out))[:count]].any(axis=0).mean() for _ in range(DRAWS)]
    usual = held_out.mean() * np.mean(draws)
    return float(np.sqrt(samples.mean() * samples.any(axis=0).mean() / usual)) if usual else 1.0


def coverage(balls: np.ndarray, inside: np.ndarray) -> float:
    """The share of the N reals whose ball contains a sample that lies in any of the balls of another space, too.

    balls, inside: `in_balls` [n, N] in the two spaces. Without the second, samples that are far from all reals but
    near the mean of their features covered nearly all reals.
    """
    return float(balls[inside.any(axis=1)].any(axis=0).mean())
