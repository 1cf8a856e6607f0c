"""The state of a run at one moment: what a checkpoint holds, and what the loop changes."""

import copy
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path

import torch

from pggan.config.schema import Config, from_dict, to_dict
from pggan.errors import UserError
from pggan.models.networks import Discriminator, Generator, Growing
from pggan.randomness import Stream
from pggan.schedule.stages import Stage
from pggan.training import ada, checkpoint, ema
from pggan.training.compile import Graphs
from pggan.training.optimizer import adam, lazy_ratio, moments

PATHS = ("out", "resume", "cache", "plan")  # settings that hold for one machine: a checkpoint does not keep them
HALVES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class StageState:
    """The state of the present stage; growth replaces it.

    plan: made by the scheduler. seconds: spent in the stage, counted only if the plan is timed; timed_from: the nimg
    from which they count. micro_batches: how many parts a batch is split into. recompute: whether activations are
    computed again for the gradients instead of being kept.
    """

    plan: Stage
    seconds: float = 0.0
    timed_from: int = 0
    micro_batches: int = 1
    recompute: bool = False


@dataclass
class TrainState:
    """The networks, their optimizers, the position in the schedule and in the records.

    Checkpoints hold every field. To add one, write one line here, with the default that older checkpoints get.
    """

    config: Config
    G: Generator
    D: Discriminator
    G_ema: Generator
    opt_G: torch.optim.Adam
    opt_D: torch.optim.Adam
    stage: StageState
    nimg: int = 0
    """Real images shown since the start of the run."""
    attempt: int = 0
    """Rollbacks so far; random numbers depend on it."""
    lr_factor: float = 1.0
    """Halved by each rollback."""
    precision: str = "fp32"
    """fp32, bf16 or fp16."""
    threads: int = 0
    """CPU threads, which rounding depends on."""
    data: str = ""
    """Fingerprint of the images trained on."""
    seconds: float = 0.0
    """Seconds spent on the run, kept only with --budget."""
    speeds: dict[int, float] = field(default_factory=dict)
    """{resolution: images/s}, kept only with --budget."""
    growth: list[dict] = field(default_factory=list)
    """The entries of growth.json."""
    replay: list[dict] = field(default_factory=list)
    """The growth.json of another run that this one repeats."""
    history: list[dict] = field(default_factory=list)
    """Every evaluation so far: nimg, res, alpha, figures, verdict, reason."""
    best: dict[int, float] = field(default_factory=dict)
    """{resolution: the quality of best-RES.pt}, lower is better."""
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    """Sums of the steps' stats since the last record."""
    counts: dict[str, int] = field(default_factory=dict)
    """The number of steps in each of these sums."""
    metrics_bytes: int = 0
    """Length of metrics.jsonl in bytes."""
    augment: dict[str, torch.Tensor] = field(default_factory=dict)
    """p, and r_t: the moving average that controls p (ada.py)."""

    def __post_init__(self):
        self.graphs = Graphs()  # of compiled phases, which no checkpoint holds
        if not self.augment:
            p, r_t = ada.begin(self.config.training, self.device)
            self.augment = {"p": p, "r_t": r_t}
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.G.autocast_dtype = self.D.autocast_dtype = HALVES[self.precision]  # G_ema draws samples in full precision

    @property
    def res(self) -> int:
        """Pixels of the shorter side."""
        return self.G.res

    @property
    def alpha(self) -> float:
        """Weight of the newest block, 0 to 1."""
        return self.stage.plan.alpha(self.nimg)

    @property
    def later(self) -> tuple[int, ...]:
        """The resolutions still to come."""
        return tuple(res for res in self.config.network.stages() if res > self.res)

    @property
    def stream(self) -> Stream:
        return Stream(self.config.training.seed, self.attempt)

    @property
    def device(self) -> torch.device:
        return next(self.G.parameters()).device

    def batch(self) -> int:
        return int(self.config.training.batch.at(self.res))

    def log(self, action: str, to_res: int, reason: str, numbers: dict[str, float]) -> None:
        """Adds an entry to growth.json."""
        entry = {"nimg": self.nimg, "action": action, "from_res": self.res, "to_res": to_res}
        self.growth.append({**entry, "reason": reason, "numbers": numbers})

    def grow(self, plan: Stage) -> None:
        """Adds a block to each network and begins the stage `plan`. Old weights keep average and moments."""
        self.G.grow(_rng(self.stream, f"init G {2 * self.res}"))
        self.D.grow(_rng(self.stream, f"init D {2 * self.res}"))
        ema.grow(self.G_ema, self.G)
        for network in (self.G, self.D, self.G_ema):
            network.to(memory_format=torch.channels_last)
        self.G_ema.eval()
        self.renew_adam(carry=self.config.training.adam_at_growth == "carry")
        self.stage = StageState(plan, timed_from=self.nimg)
        self.graphs.clear()

    def end_fade(self) -> None:
        """To be called at the end of a fade: resets Adam with --adam-at-growth reset."""
        if self.config.training.adam_at_growth == "reset":
            self.renew_adam(carry=False)

    def renew_adam(self, carry: bool) -> None:
        """Makes new optimizers for the present networks. carry: whether old weights keep Adam's moments."""
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
        """Returns the fields as tensors and plain containers."""
        settings = to_dict(self.config)
        for part in settings.values():
            if isinstance(part, dict):
                part.update({name: None for name in PATHS if name in part})
        values = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}
        optimizers = {"opt_G": moments(self.opt_G, self.G), "opt_D": moments(self.opt_D, self.D)}
        extra = {"res": self.res, "scaler": self.scaler.state_dict(), "torch": str(torch.__version__)}
        return {**values, **optimizers, **extra, "config": settings}


def _plain(value: object) -> object:
    if isinstance(value, torch.nn.Module):
        return value.state_dict()
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    return copy.copy(value) if isinstance(value, (dict, list)) else value


def _restored(now: object, saved: object, device: torch.device) -> object:
    """The inverse of `_plain`: `saved` as a value like `now`. Fields that `saved` lacks keep their values in `now`."""
    if is_dataclass(now):
        known = [item.name for item in fields(now) if item.name in saved]
        return replace(now, **{name: _restored(getattr(now, name), saved[name], device) for name in known})
    if isinstance(saved, torch.Tensor):
        return saved.to(device)
    if isinstance(saved, dict):
        return {key: _restored(None, value, device) for key, value in saved.items()}
    return copy.deepcopy(saved)


def new_state(config: Config, device: torch.device, attempt: int = 0, precision: str = "fp32") -> TrainState:
    """Returns the state before the first step. Its stage has no end until a scheduler plans it."""
    stream = Stream(config.training.seed, attempt)
    G = _place(Generator(config.network, _rng(stream, "init G")), device)
    D = _place(Discriminator(config.network, _rng(stream, "init D")), device)
    return TrainState(
        config=config,
        G=G,
        D=D,
        G_ema=copy.deepcopy(G).requires_grad_(False).eval(),
        opt_G=adam(G, config.training),
        opt_D=adam(D, config.training, ratio=lazy_ratio(config.training)),
        stage=StageState(Stage(G.res)),
        attempt=attempt,
        precision=precision,
    )


def state_from(values: dict, device: torch.device, config: Config | None = None) -> TrainState:
    """Returns the state of `values`, which `TrainState.to_dict` or `checkpoint.load` returned, on any device.

    config: settings to continue with; None: the saved ones. Raises UserError if the tensors do not fit the networks.
    """
    try:
        config = config or from_dict(values["config"])
        known = {name: values[name] for name in ("attempt", "precision") if name in values}
        state = new_state(config, device, **known)
        special = {"config", "G", "D", "G_ema", "opt_G", "opt_D"}
        for network, name in ((state.G, "G"), (state.D, "D"), (state.G_ema, "G_ema")):
            _grow_to(network, values["res"])
            _place(network, device).load_state_dict(values[name])
        state.G_ema.requires_grad_(False)
        state.stage = StageState(Stage(state.res))
        state.opt_G = adam(state.G, config.training, values["opt_G"])
        state.opt_D = adam(state.D, config.training, values["opt_D"], lazy_ratio(config.training))
        if values["scaler"]:  # empty unless the precision is fp16
            state.scaler.load_state_dict(values["scaler"])
        for item in fields(state):
            if item.name in values.keys() - special:
                setattr(state, item.name, _restored(getattr(state, item.name), values[item.name], device))
    except KeyError as error:
        raise UserError(f"this checkpoint lacks {error}: it is of another version of the project") from error
    except (RuntimeError, ValueError) as error:
        what = str(error).strip().splitlines()[0]
        raise UserError(f"this checkpoint has another shape than its settings say ({what})") from error
    return state


def load_generator(path: str | Path, device: str | torch.device = "cpu") -> tuple[Generator, float]:
    """Returns (G_ema, alpha) of a checkpoint; `G_ema(z, alpha)` draws images. Raises UserError if it cannot be read."""
    state = state_from(checkpoint.load(Path(path)), torch.device(device))
    return state.G_ema.eval(), state.alpha


def allow_tf32(precision: str) -> None:
    """Turns on TF32 for the whole process, unless the precision is fp32.

    With TF32, a GPU rounds the factors of float32 products to 10 bits. The float32 layers of a run in half precision
    tolerate this; a run in fp32 is the reference and stays exact.
    """
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"


def _grow_to(network: Growing, res: int) -> None:
    if res not in network.config.resolutions():
        raise ValueError(f"{res} px is none of its resolutions")
    while network.res < res:
        network.grow()


def _place(network: Growing, device: torch.device) -> Growing:
    return network.to(device=device, memory_format=torch.channels_last)


def _rng(stream: Stream, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(stream.integer(purpose))
