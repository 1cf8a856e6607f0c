"""The state of a run: everything that the loop changes and a checkpoint holds."""

import copy
from dataclasses import dataclass, field, fields, is_dataclass

import torch

from pggan.config.presets import with_settings
from pggan.config.schema import Config, to_dict
from pggan.models.feature_heads import FeatureHeads
from pggan.models.networks import Discriminator, Generator, Growing
from pggan.randomness import Stream
from pggan.schedule.stages import Stage
from pggan.training import ada, ema
from pggan.training.compile import Graphs
from pggan.training.optimizer import Moments, adam, lazy_ratio, moments
from pggan.training.phases import Player

PATHS = ("out", "resume", "cache", "plan")  # settings that hold for one machine: a checkpoint does not keep them
HALVES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class StageState:
    """The state of the current stage; growth replaces it.

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
    stage: StageState
    heads: FeatureHeads | None = None
    """Discriminators on features, with --features."""
    opt_G: torch.optim.Adam | None = None
    opt_D: torch.optim.Adam | None = None
    opt_heads: torch.optim.Adam | None = None
    """`renew_adam` makes the optimizers."""
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
    processes: int = 1
    """Processes that share each gradient, which rounding depends on, too."""
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
        self.workers = None  # the other processes: see gradient_workers.py
        if not self.augment:
            p, r_t = ada.begin(self.config.training, self.device)
            self.augment = {"p": p, "r_t": r_t}
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        for network in self.players.values():  # G_ema draws samples in full precision
            network.autocast_dtype = HALVES[self.precision]

    @property
    def players(self) -> dict[Player, Growing | FeatureHeads]:
        """The networks that are trained."""
        heads = {"heads": self.heads} if self.heads else {}
        return {"G": self.G, "D": self.D, **heads}

    @property
    def networks(self) -> dict[str, Growing | FeatureHeads]:
        """The networks that are trained, and G_ema, by the names of their fields."""
        return self.players | {"G_ema": self.G_ema}

    @property
    def optimizers(self) -> dict[Player, torch.optim.Adam]:
        heads = {"heads": self.opt_heads} if self.heads else {}
        return {"G": self.opt_G, "D": self.opt_D, **heads}

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
        """Adds a block to each network and begins the stage `plan`. Old weights keep moments and average."""
        self.G.grow(_rng(self.stream, f"init G {2 * self.res}"))
        self.D.grow(_rng(self.stream, f"init D {2 * self.res}"))
        ema.grow(self.G_ema, self.G)
        if self.heads:
            self.heads.grow()
        for network in self.networks.values():
            network.to(memory_format=torch.channels_last)
        self.G_ema.eval()
        self.renew_adam(self.moments() if self.config.training.adam_at_growth == "carry" else None)
        self.stage = StageState(plan, timed_from=self.nimg)
        self.graphs.clear()

    def end_fade(self) -> None:
        """To be called at the end of a fade: resets Adam with --adam-at-growth reset."""
        if self.config.training.adam_at_growth == "reset":
            self.renew_adam()

    def moments(self) -> dict[Player, Moments]:
        """Adam's moments of each player, by parameter name."""
        return {player: moments(self.optimizers[player], network) for player, network in self.players.items()}

    def renew_adam(self, kept: dict[Player, Moments] | None = None) -> None:
        """Makes new optimizers for the networks as they are now, with these moments or with none."""
        training = self.config.training
        for player, network in self.players.items():
            ratio = lazy_ratio(training) if player == "D" else 1.0
            setattr(self, f"opt_{player}", adam(network, training, (kept or {}).get(player), ratio))

    def add(self, stats: dict[str, torch.Tensor]) -> None:
        """Adds a step's stats (0-d tensors) to the sums since the last record."""
        for name, value in stats.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def tensors(self) -> list[torch.Tensor]:
        """All parameters and buffers of the networks, and all moments."""
        kept = [ema.tensors(network) for network in self.networks.values()]
        kept += [values for optimizer in self.optimizers.values() for values in optimizer.state.values()]
        return [tensor for named in kept for tensor in named.values()]

    def finite(self) -> bool:
        """Whether all weights, moments and sums are finite numbers."""
        tensors = [*self.sums.values(), *self.augment.values(), *self.tensors()]
        return bool(torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all())

    def to_dict(self) -> dict:
        """Returns the fields as tensors and plain containers."""
        values = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}
        values["config"] = to_dict(with_settings(self.config, dict.fromkeys(PATHS)))
        values |= {f"opt_{player}": found for player, found in self.moments().items()}
        return values | {"res": self.res, "scaler": self.scaler.state_dict(), "torch": str(torch.__version__)}


def _plain(value: object) -> object:
    if isinstance(value, torch.nn.Module):
        return value.state_dict()
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    return copy.copy(value) if isinstance(value, (dict, list)) else value


def new_state(config: Config, device: torch.device, attempt: int = 0, precision: str = "fp32") -> TrainState:
    """Returns the state before the first step. Its stage has no end until a scheduler plans it."""
    stream = Stream(config.training.seed, attempt)
    G = placed(Generator(config.network, _rng(stream, "init G")), device)
    D = placed(Discriminator(config.network, _rng(stream, "init D")), device)
    G_ema = copy.deepcopy(G).requires_grad_(False).eval()
    heads = None
    if config.network.features != "none":
        heads = placed(FeatureHeads(config.network, _rng(stream, "init heads")), device)
    stage = StageState(Stage(G.res))
    state = TrainState(config, G, D, G_ema, stage, heads=heads, attempt=attempt, precision=precision)
    state.renew_adam()
    return state


def allow_tf32(precision: str) -> None:
    """Turns on TF32 for the whole process, unless the precision is fp32.

    With TF32, a GPU rounds the factors of float32 products to 10 bits. The float32 layers of a run in half precision
    tolerate this; a run in fp32 is the reference and stays exact.
    """
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"


def placed(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    return network.to(device=device, memory_format=torch.channels_last)


def _rng(stream: Stream, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(stream.integer(purpose))
