"""The adversarial losses, pure: a critic and tensors in, (loss, stats) out. No random number is drawn here.

critic: images [N, 3, H, W] -> logits [N]. reals, fakes: [N, 3, H, W]; fakes carry no graph in the discriminator's
losses. stats: 0-d tensors without a graph, by name.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Critic = Callable[[Tensor], Tensor]
Result = tuple[Tensor, dict[str, Tensor]]


def wgan_gp_discriminator(
    critic: Critic, reals: Tensor, fakes: Tensor, mix: Tensor, weight: float, drift: float = 0.0
) -> Result:
    """mean(D(fake) - D(real) + drift D(real)^2) + weight * gradient penalty: Karras et al. 2018, appendix A.1.

    mix: [N] in [0, 1], one number a picture: where between real and fake the gradient is looked at.
    """
    real_logits, fake_logits = critic(reals), critic(fakes)
    penalty = gradient_penalty(critic, torch.lerp(reals, fakes, mix.reshape(-1, 1, 1, 1)))
    loss = (fake_logits - real_logits + drift * real_logits.square()).mean() + weight * penalty
    return loss, _stats(loss, real_logits, fake_logits, penalty)


def wgan_gp_generator(critic: Critic, fakes: Tensor) -> Result:
    """-mean D(fake): Arjovsky et al. 2017."""
    loss = -critic(fakes).mean()
    return loss, {"g": loss.detach()}


def logistic_discriminator(
    critic: Critic, reals: Tensor, fakes: Tensor, mix: Tensor, weight: float, drift: float = 0.0
) -> Result:
    """mean(softplus(D(fake)) + softplus(-D(real))) + weight/2 * R1; mix and drift have no part in it.

    Goodfellow et al. 2014; the penalty: Mescheder et al. 2018, equation 9.
    """
    reals = reals.detach().requires_grad_()
    real_logits, fake_logits = critic(reals), critic(fakes)
    penalty = squared_gradient(real_logits, reals).mean()
    loss = (F.softplus(fake_logits) + F.softplus(-real_logits)).mean() + weight / 2 * penalty
    return loss, _stats(loss, real_logits, fake_logits, penalty)


def logistic_generator(critic: Critic, fakes: Tensor) -> Result:
    """mean softplus(-D(fake)): the non-saturating loss of Goodfellow et al. 2014."""
    loss = F.softplus(-critic(fakes)).mean()
    return loss, {"g": loss.detach()}


def gradient_penalty(critic: Critic, images: Tensor) -> Tensor:
    """mean (||gradient of D|| - 1)^2, the norm over C, H, W: Gulrajani et al. 2017, eq. 3."""
    images = images.detach().requires_grad_()
    norm = (squared_gradient(critic(images), images) + 1e-12).sqrt()  # the root of 0 has no gradient
    return (norm - 1).square().mean()


def squared_gradient(logits: Tensor, images: Tensor) -> Tensor:
    """[N]: the squared length of each picture's gradient. Differentiable; `logits` must depend on `images`."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def _stats(loss: Tensor, real_logits: Tensor, fake_logits: Tensor, penalty: Tensor) -> dict[str, Tensor]:
    return {
        "d": loss.detach(),
        "real_logit": real_logits.detach().mean(),
        "fake_logit": fake_logits.detach().mean(),
        "penalty": penalty.detach(),
    }


@dataclass(frozen=True)
class Loss:
    """A published pair of losses, as the training step uses it."""

    discriminator: Callable[..., Result]
    generator: Callable[..., Result]


LOSSES = {
    "logistic": Loss(logistic_discriminator, logistic_generator),
    "wgan-gp": Loss(wgan_gp_discriminator, wgan_gp_generator),
}
