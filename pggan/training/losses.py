"""The adversarial losses, as pure functions that return (loss, stats). They draw no random numbers.

critic: D as a function, images [N, 3, H, W] -> logits [N]. reals, fakes: [N, 3, H, W]; in D's losses, the fakes are
detached. stats: {name: 0-d tensor, detached}. A loss is a row of LOSSES; its default settings are a row of
config/tables.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.models.conv2d_gradfix import input_gradient

Critic = Callable[[Tensor], Tensor]
Result = tuple[Tensor, dict[str, Tensor]]
Scalar = float | Tensor  # a tensor is 0-d


# ---- gradient penalties: means over images, not yet multiplied by their weight. reals and fakes have requires_grad


def squared_gradient_norm(critic: Critic, images: Tensor, scale: Scalar = 1.0) -> Tensor:
    """[N]: ||dD/dx||^2 at each image, over C, H and W. Differentiable.

    scale: multiplies the gradient during the backward pass, so that float16 does not underflow; divided out at the end.
    """
    gradient = input_gradient(critic(images) * scale, images)
    return (gradient / scale).square().sum(dim=(1, 2, 3))


def gradient_penalty(critic: Critic, reals: Tensor, fakes: Tensor, mix: Tensor, scale: Scalar = 1.0) -> Tensor:
    """mean (||dD/dx|| - 1)^2 at points between reals and fakes: Gulrajani et al. 2017, equation 3.

    mix: [N] in [0, 1], one number per image; 0 is the real image, 1 the fake one.
    """
    between = torch.lerp(reals, fakes, mix.reshape(-1, 1, 1, 1)).detach().requires_grad_()
    norm = (squared_gradient_norm(critic, between, scale) + 1e-12).sqrt()  # the root has no gradient at 0
    return (norm - 1).square().mean()


def r1(critic: Critic, reals: Tensor, fakes: Tensor, mix: Tensor, scale: Scalar = 1.0) -> Tensor:
    """1/2 mean ||dD/dx||^2 at the reals: Mescheder et al. 2018, equation 9."""
    return squared_gradient_norm(critic, reals, scale).mean() / 2


def r1_and_r2(critic: Critic, reals: Tensor, fakes: Tensor, mix: Tensor, scale: Scalar = 1.0) -> Tensor:
    """R1, plus the same at the fakes: Mescheder et al. 2018, equation 10."""
    at_reals, at_fakes = (squared_gradient_norm(critic, images, scale).mean() for images in (reals, fakes))
    return (at_reals + at_fakes) / 2


@dataclass(frozen=True)
class Loss:
    """A published pair of losses and its gradient penalty.

    discriminator, generator: (real logits, fake logits), [N] each -> [N]; the loss is their mean. relativistic: whether
    G's loss needs the real logits; if not, it gets None. zero_threshold: whether D is trained to give reals logits
    above 0, and fakes below.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor | None, Tensor], Tensor]
    penalty: Callable[[Critic, Tensor, Tensor, Tensor, Scalar], Tensor] | None = None
    relativistic: bool = False
    zero_threshold: bool = False


# Goodfellow et al. 2014, equation 1 (binary cross entropy) and the non-saturating generator of section 3
BCE = Loss(
    lambda real, fake: F.softplus(fake) + F.softplus(-real), lambda real, fake: F.softplus(-fake), zero_threshold=True
)
# Arjovsky et al. 2017, equation 3
WGAN = Loss(lambda real, fake: fake - real, lambda real, fake: -fake)

LOSSES = {
    "logistic": replace(BCE, penalty=r1),
    "wgan-gp": replace(WGAN, penalty=gradient_penalty),
    # Huang et al. 2024 (R3GAN), equation 2: image i against image i
    "relativistic": Loss(
        lambda real, fake: F.softplus(fake - real),
        lambda real, fake: F.softplus(real - fake),
        r1_and_r2,
        relativistic=True,
    ),
    "bce": BCE,
    # Mao et al. 2017, equation 9 (a = 0, b = c = 1)
    "lsgan": Loss(
        lambda real, fake: ((real - 1).square() + fake.square()) / 2, lambda real, fake: (fake - 1).square() / 2
    ),
    # Lim and Ye 2017; Miyato et al. 2018, equation 16
    "hinge": Loss(
        lambda real, fake: F.relu(1 - real) + F.relu(1 + fake), lambda real, fake: -fake, zero_threshold=True
    ),
    "wgan": WGAN,  # with --clip
}


# ---- what a step calls


def r_t(real: Tensor, fake: Tensor, zero_threshold: bool) -> Tensor:
    """The overfitting heuristic of ADA, 0-d in [-1, 1], from logits [N]; 0: D cannot tell reals from fakes.

    With a threshold at 0: E[sign D(x)] (Karras et al. 2020b, equation 1). Otherwise E[sign(D(x) - D(G(z)))] over all
    pairs, which does not change when a constant is added to every logit.
    """
    return torch.sign(real if zero_threshold else real[:, None] - fake[None, :]).mean()


def discriminator_loss(
    loss: Loss,
    critic: Critic,
    reals: Tensor,
    fakes: Tensor,
    mix: Tensor,
    weight: Scalar,
    drift: float = 0.0,
    scale: Scalar = 1.0,
) -> Result:
    """D's loss + weight * gradient penalty + drift * mean D(real)^2 (Karras et al. 2018, appendix A.1).

    weight: the float 0.0 leaves the penalty out; scale: see squared_gradient_norm.
    """
    penalized = isinstance(weight, Tensor) or weight > 0
    critic = cache(critic)  # each batch of images is shown once
    if penalized:
        reals, fakes = (images.detach().requires_grad_() for images in (reals, fakes))
    real, fake = critic(reals), critic(fakes)
    total = loss.discriminator(real, fake).mean()
    if drift:
        total = total + drift * real.square().mean()
    stats = {"real_logit": real.detach().mean(), "fake_logit": fake.detach().mean()}
    stats["r_t"] = r_t(real.detach(), fake.detach(), loss.zero_threshold)
    if penalized:
        penalty = loss.penalty(critic, reals, fakes, mix, scale)
        total, stats["penalty"] = total + weight * penalty, penalty.detach()
    return total, {"d": total.detach(), **stats}


def penalty_loss(
    loss: Loss, critic: Critic, reals: Tensor, fakes: Tensor, mix: Tensor, weight: Scalar, scale: Scalar = 1.0
) -> Result:
    """weight * gradient penalty, for lazy regularization (Karras et al. 2020, section 3.1)."""
    reals, fakes = (images.detach().requires_grad_() for images in (reals, fakes))
    penalty = loss.penalty(critic, reals, fakes, mix, scale)
    return weight * penalty, {"penalty": penalty.detach()}


def generator_loss(loss: Loss, critic: Critic, fakes: Tensor, reals: Tensor) -> Result:
    """G's loss. D sees the reals only for a relativistic loss; no gradient flows through them."""
    with torch.no_grad():
        real = critic(reals) if loss.relativistic else None
    total = loss.generator(real, critic(fakes)).mean()
    return total, {"g": total.detach()}


# ---- of the heads on features: the hinge loss, as in Projected GAN (Sauer et al. 2021)

# (images [N, 3, H, W], kinds=1) -> the logits [N, K] of each head, as FeatureHeads
Heads = Callable[..., list[Tensor]]
# The first head sees the image itself. At the image its gradient is several times smaller than those of the others:
# with weight 1 colors go wrong, with 10 there are colors and nothing else (LOG.md; 10 was tried with batch norm).
IMAGE_WEIGHT = 5.0


def heads_loss(heads: Heads, reals: Tensor, fakes: Tensor) -> Result:
    """The loss of the heads: the mean over heads."""
    alternating = torch.stack([reals, fakes], dim=1).flatten(0, 1)  # (2N, 3, H, W)
    judged = [logits.unflatten(0, (-1, 2)).unbind(1) for logits in heads(alternating, kinds=2)]
    hinge = LOSSES["hinge"]
    total = torch.stack([hinge.discriminator(real, fake).mean() for real, fake in judged]).mean()
    overfit = torch.stack([torch.sign(real.detach()).mean() for real, _ in judged]).mean()
    return total, {"d_features": total.detach(), "r_t_features": overfit}


def heads_generator_loss(heads: Heads, fakes: Tensor, weight: Scalar = 1.0) -> Result:
    """weight * the loss of G by the heads: the mean over heads, the first one multiplied by IMAGE_WEIGHT."""
    first, *others = (LOSSES["hinge"].generator(None, logits).mean() for logits in heads(fakes))
    total = torch.stack([IMAGE_WEIGHT * first, *others]).mean()
    return weight * total, {"g_features": total.detach()}
