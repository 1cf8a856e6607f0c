"""Growing a saved state outside the loop, and a check that growth alone changes no output."""

import torch

from pggan.config.presets import with_settings
from pggan.errors import UserError
from pggan.schedule.fixed import FixedScheduler
from pggan.schedule.stages import StageStart
from pggan.training.state import TrainState

PROBES = 4  # latents and images that the invariant is checked on


class Probe:
    """Outputs of a state's networks, to compare with the outputs after growth at alpha 0.

    The invariant, bit for bit in float32: the grown G equals the upsampled G, the grown G_ema the upsampled G_ema, and
    the grown D on an image equals D on the downsampled image. The filters are those of the arch.
    """

    @torch.no_grad()
    def __init__(self, state: TrainState):
        self.res = state.res
        width, height = state.config.network.size(state.res)
        latent = state.config.network.latent
        self.latents = torch.from_numpy(state.stream.normal("probe latents", 0, PROBES, latent)).to(state.device)
        noise = state.stream.normal("probe pictures", 0, PROBES, 3 * 4 * height * width)
        self.inputs = torch.from_numpy(noise).reshape(PROBES, 3, 2 * height, 2 * width).to(state.device)
        state.G.eval(), state.D.eval()  # so that the probes do not change the statistics of batch norm
        self.images = state.G.arch.upsample(state.G(self.latents))
        self.images_ema = state.G.arch.upsample(state.G_ema(self.latents))
        self.logits = state.D(state.D.arch.downsample(self.inputs))
        state.G.train(), state.D.train()

    @torch.no_grad()
    def check(self, grown: TrainState) -> None:
        """Raises RuntimeError if the outputs differ, which would be a defect."""
        grown.G.eval(), grown.D.eval()
        same = {
            "generator": torch.equal(grown.G(self.latents, 0.0), self.images),
            "average": torch.equal(grown.G_ema(self.latents, 0.0), self.images_ema),
            "discriminator": torch.equal(grown.D(self.inputs, 0.0), self.logits),
        }
        grown.G.train(), grown.D.train()
        if changed := [name for name, equal in same.items() if not equal]:
            raise RuntimeError(f"growth from {self.res} to {grown.res} px changed the {' and the '.join(changed)}")


def grow_state(state: TrainState, reason: str) -> None:
    """Grows `state` one resolution, as the loop does at the end of a stage.

    The new stage has the fade of --fade-kimg, until the run that continues it plans it. Raises UserError when the
    fade is not over, or at the last resolution that the networks can have.
    """
    plan, network = state.stage.plan, state.config.network
    if state.alpha < 1:
        left = (plan.fade_end - state.nimg) / 1000
        raise UserError(f"the fade at {state.res} px is not over: {left:.2f} kimg are left; train on, then grow")
    res = 2 * state.res
    if not network.can_have(res):
        raise UserError(f"{state.res} px is as far as these networks go")
    start, top = network.ends()
    state.config = with_settings(state.config, {"start_res": start, "max_res": max(top, res)})
    for part in state.networks.values():
        part.config = state.config.network
    state.D.config = state.config.network.of_d()
    new = FixedScheduler(state.config.schedule).begin(StageStart(res, state.nimg, state.nimg), state.history)
    state.log("grow", res, reason, {"stage_nimg": state.nimg - plan.start, "fade_nimg": new.fade})
    state.grow(new)
