"""Everything a run is, at one moment: what a checkpoint holds, and what the loop changes."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pggan.config.schema import Config, from_dict, to_dict
from pggan.errors import UserError
from pggan.models.networks import Discriminator, Generator, Growing
from pggan.randomness import Stream
from pggan.schedule.budget import Decided
from pggan.schedule.stages import Stage, stage_of
from pggan.training import ada, checkpoint, ema
from pggan.training.compile import Graphs
from pggan.training.optimizer import adam, lazy_ratio, moments

PLACES = ("out", "resume", "cache", "plan")  # where things lie on one machine is no part of a run's state

HALVES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
PLAIN = (
    *("nimg", "attempt", "stage_start", "stage_seconds", "lr_factor", "growth", "counts", "metrics_bytes", "data"),
    *("threads", "precision", "micro_batches", "decided", "speeds", "seconds", "plan", "measured", "best", "compiled"),
    "recompute",
)
# what checkpoints of earlier versions lack
LATER = {"measured": -1, "best": {}, "compiled": None, "augment": {}, "recompute": False}


@dataclass
class TrainState:
    """The networks, their optimizers, the position in the schedule and in the records.

    nimg: real images shown; stage_start: nimg at which this resolution began; stage_seconds: spent in this stage, kept
    only where a stage has a clock; lr_factor: halved by each rollback; growth: the entries of growth.json;
    sums, counts: the losses since the last record, and how often each was there; metrics_bytes: length of
    metrics.jsonl; data: fingerprint; precision: fp32, bf16 or fp16; micro_batches: parts that a batch is trained in;
    recompute: whether activations are computed again and not kept;
    decided, speeds, seconds: see budget.py, kept only under a budget; plan: the growth.json that is repeated;
    measured: nimg of the last evaluation; best: {resolution: the quality of best-RES.pt, lower is better};
    compiled: whether the steps of this stage are (None: not decided yet); augment: p, and the average of r_t that
    controls it (ada.py).
    """

    config: Config
    G: Generator
    D: Discriminator
    G_ema: Generator
    opt_G: torch.optim.Adam
    opt_D: torch.optim.Adam
    nimg: int = 0
    attempt: int = 0
    stage_start: int = 0
    stage_seconds: float = 0.0
    lr_factor: float = 1.0
    growth: list[dict] = field(default_factory=list)
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    metrics_bytes: int = 0
    data: str = ""
    threads: int = 0
    precision: str = "fp32"
    micro_batches: int = 1
    decided: Decided = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    plan: list[dict] = field(default_factory=list)
    measured: int = -1
    best: dict[str, float] = field(default_factory=dict)
    compiled: bool | None = None
    augment: dict[str, torch.Tensor] = field(default_factory=dict)
    recompute: bool = False

    def __post_init__(self):
        self.graphs = Graphs()
        if not self.augment:
            p, r_t = ada.begin(self.config.training, self.device)
            self.augment = {"p": p, "r_t": r_t}
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.G.autocast_dtype = self.D.autocast_dtype = HALVES[self.precision]  # not of G_ema: samples are in float32

    @property
    def res(self) -> int:
        return self.G.res

    @property
    def stream(self) -> Stream:
        return Stream(self.config.training.seed, self.attempt)

    @property
    def device(self) -> torch.device:
        return next(self.G.parameters()).device

    def stage(self) -> Stage:
        return stage_of(self.config.schedule, self.res, self.stage_start, not self.G.grown, self.decided)

    def batch(self) -> int:
        return int(self.config.training.batch.at(self.res))

    def log(self, action: str, to_res: int, reason: str, numbers: dict[str, float]) -> None:
        """One entry of growth.json."""
        entry = {"nimg": self.nimg, "action": action, "from_res": self.res, "to_res": to_res}
        self.growth.append({**entry, "reason": reason, "numbers": numbers})

    def grow(self, decided: Decided | None = None) -> None:
        """The growth step: one block for each network, moments and average carried over, a new stage begun.

        decided: of the new stage, where a budget or a plan says anything.
        """
        self.G.grow(_rng(self.stream, f"init G {2 * self.res}"))
        self.D.grow(_rng(self.stream, f"init D {2 * self.res}"))
        ema.grow(self.G_ema, self.G)
        for network in (self.G, self.D, self.G_ema):
            network.to(memory_format=torch.channels_last)
        self.G_ema.eval()
        self.renew_adam(carry=self.config.training.adam_at_growth == "carry")
        self.stage_start, self.stage_seconds, self.micro_batches, self.decided = self.nimg, 0.0, 1, decided or {}
        self.recompute = False
        self.compiled = None

    def renew_adam(self, carry: bool) -> None:
        """Adam over the networks as they now are, with the moments it had or with none."""
        training = self.config.training
        kept_g, kept_d = (moments(self.opt_G, self.G), moments(self.opt_D, self.D)) if carry else (None, None)
        self.opt_G = adam(self.G, training, kept_g)
        self.opt_D = adam(self.D, training, kept_d, lazy_ratio(training))

    def add(self, stats: dict[str, torch.Tensor]) -> None:
        """Adds a step's stats (0-d tensors) to the sums since the last record."""
        for name, value in stats.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def finite(self) -> bool:
        """Whether all weights, moments and sums are finite numbers."""
        tensors = [*self.sums.values(), *self.augment.values()]
        for network in (self.G, self.D, self.G_ema):
            tensors += ema.tensors(network).values()
        for optimizer in (self.opt_G, self.opt_D):
            tensors += [value for moments in optimizer.state.values() for value in moments.values()]
        return bool(torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all())

    def to_dict(self) -> dict:
        """Tensors and plain containers only."""
        settings = to_dict(self.config)
        for part in settings.values():
            if isinstance(part, dict):
                part.update({name: None for name in PLACES if name in part})
        return {
            "config": settings,
            "res": self.res,
            "G": self.G.state_dict(),
            "D": self.D.state_dict(),
            "G_ema": self.G_ema.state_dict(),
            "moments_G": moments(self.opt_G, self.G),
            "moments_D": moments(self.opt_D, self.D),
            "sums": dict(self.sums),
            "augment": dict(self.augment),
            "scaler": self.scaler.state_dict(),
            **{name: getattr(self, name) for name in PLAIN},
            "torch": str(torch.__version__),
        }


def new_state(config: Config, device: torch.device, attempt: int = 0, precision: str = "fp32") -> TrainState:
    """The state before the first step. precision: fp32, bf16 or fp16."""
    stream = Stream(config.training.seed, attempt)
    G = _place(Generator(config.network, _rng(stream, "init G")), device)
    D = _place(Discriminator(config.network, _rng(stream, "init D")), device)
    average = copy.deepcopy(G)
    return TrainState(
        config=config,
        G=G,
        D=D,
        G_ema=average.requires_grad_(False).eval(),
        opt_G=adam(G, config.training),
        opt_D=adam(D, config.training, ratio=lazy_ratio(config.training)),
        attempt=attempt,
        precision=precision,
    )


def state_from(values: dict, device: torch.device, config: Config | None = None) -> TrainState:
    """The state that `TrainState.to_dict` made `values` of, on any device; config: settings to go on with.

    Raises UserError when the tensors are not those of these networks.
    """
    values = {**LATER, **values}
    try:
        config = config or from_dict(values["config"])
        state = new_state(config, device, values["attempt"], values["precision"])
        for network, name in ((state.G, "G"), (state.D, "D"), (state.G_ema, "G_ema")):
            _grow_to(network, values["res"])
            _place(network, device).load_state_dict(values[name])
        state.G_ema.requires_grad_(False)
        state.opt_G = adam(state.G, config.training, values["moments_G"])
        state.opt_D = adam(state.D, config.training, values["moments_D"], lazy_ratio(config.training))
        state.augment = {name: value.to(device) for name, value in values["augment"].items()} or state.augment
        state.sums = {name: value.to(device) for name, value in values["sums"].items()}
        if values["scaler"]:  # empty where no precision needed one
            state.scaler.load_state_dict(values["scaler"])
        for name in PLAIN:
            setattr(state, name, copy.deepcopy(values[name]))
    except KeyError as error:
        raise UserError(f"this checkpoint lacks {error}: it is of another version of the project") from error
    except (RuntimeError, ValueError) as error:
        what = str(error).strip().splitlines()[0]
        raise UserError(f"this checkpoint has another shape than its settings say ({what})") from error
    return state


def load_generator(path: str | Path, device: str | torch.device = "cpu") -> tuple[Generator, float]:
    """(the moving average of G, alpha) of a checkpoint, for sampling: `G(z, alpha)`. Raises UserError."""
    state = state_from(checkpoint.load(Path(path)), torch.device(device))
    return state.G_ema.eval(), state.stage().alpha(state.nimg)


def allow_tf32(precision: str) -> None:
    """A GPU may cut the factors of float32 products to 10 bits in what half precision leaves in float32, which bears
    it; not in the float32 reference. For the training alone: it holds for all of this process."""
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"


def _grow_to(network: Growing, res: int) -> None:
    if res not in network.config.resolutions():
        raise ValueError(f"{res} px is not on the ladder")
    while network.res < res:
        network.grow()


def _place(network: Growing, device: torch.device) -> Growing:
    return network.to(device=device, memory_format=torch.channels_last)


def _rng(stream: Stream, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(stream.integer(purpose))
