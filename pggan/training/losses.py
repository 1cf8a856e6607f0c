"""The adversarial losses, pure: a critic and tensors in, (loss, stats) out. No random number is drawn here.

critic: images [N, 3, H, W] -> logits [N]. reals, fakes: [N, 3, H, W]; fakes carry no graph in the discriminator's
losses. stats: 0-d tensors without a graph, by name. A published loss is a row of LOSSES: what it asks of the logits,
real and fake, [N] each, and the gradient penalty that came with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from pggan.models.conv2d_gradfix import input_gradient

Critic = Callable[[Tensor], Tensor]
Result = tuple[Tensor, dict[str, Tensor]]


# ---- what the two players want of the logits


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """mean(D(fake) - D(real)): Arjovsky et al. 2017, equation 3."""
    return (fake - real).mean()


def wasserstein_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """-mean D(fake)"""
    return -fake.mean()


def logistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """mean(softplus(D(fake)) + softplus(-D(real))): Goodfellow et al. 2014, equation 1; binary cross entropy."""
    return (F.softplus(fake) + F.softplus(-real)).mean()


def logistic_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """mean softplus(-D(fake)): the non-saturating form of Goodfellow et al. 2014, section 3."""
    return F.softplus(-fake).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """1/2 mean((D(real) - 1)^2 + D(fake)^2): Mao et al. 2017, equation 9 (a = 0, b = c = 1)."""
    return ((real - 1).square() + fake.square()).mean() / 2


def least_squares_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """1/2 mean (D(fake) - 1)^2"""
    return (fake - 1).square().mean() / 2


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """mean(max(0, 1 - D(real)) + max(0, 1 + D(fake))): Lim and Ye 2017; Miyato et al. 2018, equation 16."""
    return (F.relu(1 - real) + F.relu(1 + fake)).mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """mean softplus(-(D(real) - D(fake))), in pairs: Huang et al. 2024 (R3GAN), equation 2."""
    return F.softplus(fake - real).mean()


def relativistic_generator(fake: Tensor, real: Tensor) -> Tensor:
    """mean softplus(-(D(fake) - D(real))): the mirror image; the reals' logits are needed, too."""
    return F.softplus(real - fake).mean()


# ---- the penalties: means over pictures, not yet multiplied by the weight


class Shown:
    """Pictures as D sees them; `watched` ones carry a graph from their logits back to their pixels."""

    def __init__(self, critic: Critic, images: Tensor, watched: bool):
        self.critic, self.images = critic, images.detach().requires_grad_() if watched else images

    @cached_property
    def logits(self) -> Tensor:
        """[N]"""
        return self.critic(self.images)

    def steepness(self, scale: float | Tensor) -> Tensor:
        """[N]: the squared length of the gradient of each picture's logit. Differentiable.

        scale: a factor on the gradient while it is on its way, for half precision; the result is without it.
        """
        gradient = input_gradient(self.logits * scale, self.images)
        return (gradient / scale).square().sum(dim=(1, 2, 3))


def gradient_penalty(reals: Shown, fakes: Shown, mix: Tensor, scale: float = 1.0) -> Tensor:
    """mean (||gradient of D|| - 1)^2 between reals and fakes, norm over C, H, W: Gulrajani et al. 2017, equation 3.

    mix: [N] in [0, 1], one number a picture: where between real and fake the gradient is looked at.
    """
    between = Shown(reals.critic, torch.lerp(reals.images, fakes.images, mix.reshape(-1, 1, 1, 1)), watched=True)
    norm = (between.steepness(scale) + 1e-12).sqrt()  # the root of 0 has no gradient
    return (norm - 1).square().mean()


def r1(reals: Shown, fakes: Shown, mix: Tensor, scale: float = 1.0) -> Tensor:
    """1/2 mean ||gradient of D at the reals||^2: Mescheder et al. 2018, equation 9."""
    return reals.steepness(scale).mean() / 2


def r1_and_r2(reals: Shown, fakes: Shown, mix: Tensor, scale: float = 1.0) -> Tensor:
    """R1, and R2, the same at the fakes: Mescheder et al. 2018, equation 10."""
    return (reals.steepness(scale).mean() + fakes.steepness(scale).mean()) / 2


@dataclass(frozen=True)
class Loss:
    """A published pair of losses.

    discriminator: (real, fake logits) -> 0-d; generator: (fake, real logits) -> 0-d; relativistic: the generator's loss
    looks at the reals, too; zero_threshold: it makes of 0 the border between real and fake.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    penalty: Callable[[Shown, Shown, Tensor, float], Tensor] | None = None
    relativistic: bool = False
    zero_threshold: bool = False


LOSSES = {
    "logistic": Loss(logistic_discriminator, logistic_generator, r1, zero_threshold=True),
    "wgan-gp": Loss(wasserstein_discriminator, wasserstein_generator, gradient_penalty),
    "relativistic": Loss(relativistic_discriminator, relativistic_generator, r1_and_r2, relativistic=True),
    "bce": Loss(logistic_discriminator, logistic_generator, zero_threshold=True),
    "lsgan": Loss(least_squares_discriminator, least_squares_generator),
    "hinge": Loss(hinge_discriminator, wasserstein_generator, zero_threshold=True),
    "wgan": Loss(wasserstein_discriminator, wasserstein_generator),  # with clip_ after each of D's steps
}


def r_t(real: Tensor, fake: Tensor, zero_threshold: bool) -> Tensor:
    """How sure D is of the pictures it is trained on, 0-d in [-1, 1], of its logits [N]; 0: not at all.

    E[sign D(x)] (Karras et al. 2020b, equation 1). Where the loss does not say where 0 is (relativistic, wgan ...),
    E[sign(D(x) - D(G(z)))] over all pairs, which a number added to every logit does not change.
    """
    return torch.sign(real if zero_threshold else real[:, None] - fake[None, :]).mean()


def discriminator_loss(
    loss: Loss,
    critic: Critic,
    reals: Tensor,
    fakes: Tensor,
    mix: Tensor,
    weight: float | Tensor,
    drift: float = 0.0,
    scale: float | Tensor = 1.0,
) -> Result:
    """The discriminator's loss, with `weight` times the penalty (0: none) and `drift` times mean D(real)^2.

    drift: Karras et al. 2018, appendix A.1. scale: see Shown.steepness. Weight and scale may be 0-d tensors.
    """
    penalized = isinstance(weight, Tensor) or weight > 0
    real, fake = (Shown(critic, images, watched=penalized) for images in (reals, fakes))
    total = loss.discriminator(real.logits, fake.logits)
    if drift:
        total = total + drift * real.logits.square().mean()
    stats = {"real_logit": real.logits.detach().mean(), "fake_logit": fake.logits.detach().mean()}
    stats["r_t"] = r_t(real.logits.detach(), fake.logits.detach(), loss.zero_threshold)
    if penalized:
        penalty = loss.penalty(real, fake, mix, scale)
        total, stats["penalty"] = total + weight * penalty, penalty.detach()
    return total, {"d": total.detach(), **stats}


def penalty_loss(
    loss: Loss,
    critic: Critic,
    reals: Tensor,
    fakes: Tensor,
    mix: Tensor,
    weight: float | Tensor,
    scale: float | Tensor = 1.0,
) -> Result:
    """`weight` times the penalty alone, for a step of its own: lazy regularization, Karras et al. 2020, section 3.1."""
    penalty = loss.penalty(*(Shown(critic, images, watched=True) for images in (reals, fakes)), mix, scale)
    return weight * penalty, {"penalty": penalty.detach()}


def generator_loss(loss: Loss, critic: Critic, fakes: Tensor, reals: Tensor) -> Result:
    """The generator's loss; the reals are shown to D only where it compares the two, and give no gradient."""
    with torch.no_grad():
        real = critic(reals) if loss.relativistic else None
    total = loss.generator(critic(fakes), real)
    return total, {"g": total.detach()}
