"""Every setting of a run, in one frozen tree. Each field's docstring is its `--help` text. No torch here.

Some settings go with another one: `--loss` brings its own `--penalty-weight`, `--arch` its own `--lr`.

Many settings change with the resolution. Those are written as a ladder: either one value, `16`, or pairs `RES:VALUE`,
`32:64,128:16`: the value of the largest RES at or below the resolution asked for (below all of them: the smallest's).
"""

import re
from dataclasses import dataclass, field, fields
from typing import Literal

from pggan.config.per_resolution import PerResolution
from pggan.errors import UserError

PresetName = Literal["paintings", "paper", "cpu", "demo", "smoke"]
ArchName = Literal["paper", "dcgan", "style"]
LossName = Literal["logistic", "wgan-gp", "relativistic", "bce", "lsgan", "hinge", "wgan"]
PENALIZED = ("logistic", "wgan-gp", "relativistic")  # the losses that have a gradient penalty
HIGHEST_LEVEL = 9  # 4x4 times 2^9 is 2048 px


def seconds(text: str) -> float:
    """`"25m"`, `"1h30m"`, `"90s"` -> seconds. Raises UserError."""
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
    numbers = [float(number or 0) for number in parts.groups()] if parts else [0, 0, 0]
    total = 3600 * numbers[0] + 60 * numbers[1] + numbers[2]
    if not 0 < total < 1e9:
        raise UserError(f"'{text}' is no time: write hours, minutes or seconds, such as 25m, 1h30m or 90s")
    return total


def may_change(default: object) -> object:
    """A field that may have another value when a run is continued. All other fields say what the run is."""
    return field(default=default, metadata={"may_change": True})


class Settings:
    """Base of the groups of settings: text given for a PerResolution field is parsed once, when the group is made."""

    def __post_init__(self):
        for item in fields(self):
            if item.type is PerResolution and not isinstance(value := getattr(self, item.name), PerResolution):
                object.__setattr__(self, item.name, PerResolution.parse(value))


@dataclass(frozen=True)
class DataConfig(Settings):
    """pictures"""

    data: str = "builtin"
    """A folder of pictures (searched through; one sub-folder a class if you like), a zip, or builtin[:SEED]: pictures
    that the project draws itself."""
    builtin_images: int = 2000
    """How many pictures builtin draws."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How a picture of another shape is made to fit: its center is cut out, it is put on white, or it is squashed."""
    random_crop: bool = False
    """Pack at 1.25 times the size and cut a new place out each time: the cheapest extra data there is."""
    mirror: bool = True
    """Flip pictures left to right, half of the time. Switch off for writing and the like."""
    cache: str | None = may_change(None)
    """Where the packed pictures are kept. Left out: beside the data, or in your cache folder if that is read-only."""


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """networks"""

    arch: ArchName = "paper"
    """paper: Karras et al. 2018. style: mapping, modulated convolutions, noise, FIR resampling (2019, 2020). dcgan:
    transposed convolutions and batch norm (Radford et al. 2016). All of them grow in the same way."""
    start_res: int | None = None
    """Resolution to begin at, in pixels of the shorter side. Left out: the nearest rung at or below 32."""
    max_res: int | None = may_change(None)
    """Resolution to grow to. Left out: the nearest rung at or below 256."""
    base: str = "4x4"
    """The grid, WIDTHxHEIGHT, that every size comes from by doubling: 3x3 gives 96 and 192, 4x5 gives 256x320."""
    fmap_base: int = 4096
    """Feature maps at level k (4, 8, 16 ... px) are min(fmap_base / 2^(k+1), fmap_max)."""
    fmap_max: int = 512
    """The most feature maps of any layer."""
    latent: int = 256
    """Length of the latent vector."""
    stddev_group: int = 4
    """Pictures over which minibatch-stddev looks for variety. 0: no minibatch-stddev."""
    residual: bool = False
    """Skip connections around the blocks (dcgan; style's discriminator has them anyway)."""
    critic_norm: Literal["none", "batch", "layer"] = "none"
    """Normalization in the discriminator (dcgan): batch as published; layer where a loss has a gradient penalty, which
    batch norm would mix between pictures."""

    def __post_init__(self):
        super().__post_init__()
        for name, least in {"fmap_base": 1, "fmap_max": 1, "latent": 1, "stddev_group": 0}.items():
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {getattr(self, name)}")
        for name in ("start_res", "max_res"):
            if getattr(self, name) not in (None, *self.resolutions()):
                flag, some = "--" + name.replace("_", "-"), ", ".join(map(str, self.resolutions()))
                raise UserError(f"{flag} {getattr(self, name)} is not on the ladder of --base {self.base}: {some}")
        start, top = self.ends()
        if top < start:
            raise UserError(f"--max-res {top} is below --start-res {start}: swap them or raise it")
        if self.fmaps(self.level(top)) < 1:
            raise UserError(f"--fmap-base {self.fmap_base} leaves no feature maps at {top} px: raise it")

    def ends(self) -> tuple[int, int]:
        """(start_res, max_res), each filled in when it was left out."""
        usual = min(32, self.max_res or 32)
        start = self.start_res or max(
            (res for res in self.resolutions() if res <= usual), default=self.resolutions()[0]
        )
        return start, self.max_res or max(start, *(res for res in self.resolutions() if res <= 256))

    def grid(self) -> tuple[int, int]:
        """(width, height) of the base grid. Raises UserError when `base` is no such pair."""
        width, _, height = self.base.partition("x")
        if not (width.isdecimal() and height.isdecimal() and 2 <= int(width) <= 16 and 2 <= int(height) <= 16):
            raise UserError(f"--base {self.base} is not WIDTHxHEIGHT with sides from 2 to 16, such as 4x4 or 4x5")
        return int(width), int(height)

    def resolutions(self) -> list[int]:
        """All resolutions (shorter side, pixels) that the base grid leads to, smallest first."""
        return [min(self.grid()) << level for level in range(HIGHEST_LEVEL + 1)]

    def level(self, res: int) -> int:
        """How many doublings lead from the base grid to `res`."""
        return self.resolutions().index(res)

    def size(self, res: int) -> tuple[int, int]:
        """(width, height) in pixels at resolution `res`."""
        width, height = self.grid()
        return width << self.level(res), height << self.level(res)

    def fmaps(self, level: int) -> int:
        """Feature maps at `level`, section A.1; level -1 is D's last hidden dense layer."""
        return min(self.fmap_base >> (level + 1), self.fmap_max)

    def stages(self) -> list[int]:
        """The resolutions trained at, in order."""
        start, top = self.ends()
        return [res for res in self.resolutions() if start <= res <= top]


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """training"""

    loss: LossName = "logistic"
    """logistic: non-saturating with R1 (Mescheder 2018). wgan-gp: the paper's, with gradient penalty and drift.
    relativistic: pairs real and fake, with R1 and R2 (R3GAN). Without a penalty: bce, lsgan (least squares), hinge, and
    wgan (weights clipped)."""
    penalty_weight: PerResolution = PerResolution.parse("32:0.3,64:1,128:3,256:10")
    """Weight of the gradient penalty (ladder): gamma of R1 and R2, or lambda of WGAN-GP. Each loss brings its own."""
    penalty_interval: int = 1
    """Take the penalty only every so many steps, that much heavier and in a step of its own (lazy regularization);
    Adam's rates of D are adjusted."""
    clip: float = 0.0
    """Keep D's weights within this bound (wgan; dcgan's published 0.01, 1 for equalized layers)."""
    drift: float = 0.0
    """Weight of the drift term of wgan-gp, which keeps D's output near zero (the paper: 0.001)."""
    augment: str = "none"
    """For small sets: change what D is shown, real or fake, at random, so that it does not learn the pictures by heart:
    pieces with the share of pictures that get them, such as translation:0.8,cutout:0.8,color:0.3. There are flip, vflip
    (upside down), turns (by quarters), these three for at most 0.5, translation, cutout and color."""
    ada: bool = False
    """Apply the pieces of --augment only as often as it takes: the shares are multiplied by p, which begins at 0 and
    goes up while D is too sure of its training pictures."""
    ada_target: float | None = None
    """How sure D may be: the mean sign of D(real). Left out: 0.6; 0.77 for losses that do not say where 0 is, as
    relativistic and wgan, where it is the mean sign of D(real) - D(fake) over all pairs."""
    ada_kimg: float = 100.0
    """Thousands of images in which the p of --ada can go from 0 to 1."""
    ada_max: float = 0.8
    """The highest p of --ada, below 1: what is always done to pictures leaks into the samples."""
    batch: PerResolution = PerResolution.parse("32:64,128:32,256:16")
    """Pictures a step (ladder)."""
    lr: PerResolution = PerResolution.parse("0.0015")
    """Learning rate of Adam for G and D (ladder)."""
    beta1: float = 0.0
    """Adam's beta1."""
    beta2: float = 0.99
    """Adam's beta2."""
    adam_at_growth: Literal["carry", "reset"] = "carry"
    """carry: kept weights keep their moments, new ones warm up. reset: Adam forgets all at both ends of a fade."""
    warmup_kimg: float = 5.0
    """Thousands of images over which new weights reach the full learning rate (carry only)."""
    ema_kimg: PerResolution = PerResolution.parse("10")
    """Half-life of the moving average of G, in thousands of images (ladder)."""
    ema_rampup: float = 0.05
    """The half-life is at most this share of the images shown so far, so that the start is forgotten. 0: off."""
    seed: int = 0
    """The run's seed: the same seed and settings give the same run."""
    device: Literal["auto", "cuda", "mps", "cpu"] = may_change("auto")
    """auto: cuda if there is one, else mps, else cpu."""
    threads: int = may_change(0)
    """CPU threads; 0: as many as torch likes. Stored with the run, for exact resuming."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Above 16 px. auto: bf16 on a GPU or CPU that computes with it, else fp16 with loss scaling on a GPU, fp32 on a
    CPU."""
    compile: Literal["auto", "on", "off"] = may_change("auto")
    """Make one compiled function of each turn of a step (needs a C++ compiler). auto: where a stage is long enough to
    repay the minutes it takes. off is the reference."""


@dataclass(frozen=True)
class ScheduleConfig(Settings):
    """schedule"""

    schedule: Literal["fixed", "manual"] = "fixed"
    """fixed: each resolution fades in and then trains for a number of images that is known beforehand. manual: it
    stops at the end of each resolution, until tools/grow.py has grown it."""
    budget: str | None = may_change(None)
    """Wall-clock time for the whole run, start-up and saving included, over all restarts: 25m, 1h30m. It is shared
    among the resolutions, and takes the place of --fade-kimg, --stable-kimg and --stage-minutes."""
    budget_share: PerResolution = may_change(PerResolution.parse("32:2,64:3,128:4,256:5"))
    """Weight of each resolution's share of --budget (ladder)."""
    plan: str | None = may_change(None)
    """Repeat the decisions of another run: its growth.json. Fades and ends of resolutions fall where they fell."""
    fade_kimg: PerResolution = may_change(PerResolution.parse("40"))
    """Thousands of images over which a new block fades in (ladder). The first stage has no fade."""
    stable_kimg: PerResolution = may_change(PerResolution.parse("32:150,64:160,128:210"))
    """Thousands of images of training after the fade (ladder)."""
    stage_minutes: PerResolution = may_change(PerResolution.parse("0"))
    """End a stage after these minutes if it is not done by then (ladder). 0: no clock."""
    floor_kimg: float = may_change(1.0)
    """Thousands of images after the fade that the clock of --stage-minutes leaves to every stage."""


@dataclass(frozen=True)
class RunConfig(Settings):
    """run"""

    out: str | None = may_change(None)
    """The run's folder. Left out: runs/<data>-<preset>-<max-res>. An unfinished run there is continued."""
    resume: str | None = may_change(None)
    """Start a new run in --out from this checkpoint (of tools/grow.py, say), with its settings but for a budget."""
    save_minutes: float = may_change(5.0)
    """Minutes between saves; besides, every stage's end and every signal save."""
    record_kimg: float = may_change(0.5)
    """Thousands of images between records in metrics.jsonl."""
    sample_kimg: float = may_change(5.0)
    """Thousands of images between sample grids."""
    grid: str = may_change("8x6")
    """Columns x rows of a sample grid."""
    eval_kimg: PerResolution = may_change(PerResolution.parse("32:100,64:50,128:25,256:10"))
    """Thousands of images between measurements of quality and diversity (ladder); besides, each stage's end has one.
    0: none at all at this resolution. Below 16 px, or with fewer than 200 pictures, there are none either."""
    eval_samples: int = 500
    """Samples of the average of G that are measured each time, at least 100; at most half as many as there are pictures
    are, and 500. Figures of another number are others."""
    wandb: Literal["auto", "off", "offline", "online"] = may_change("auto")
    """auto: online when logged in, else offline. Nothing is sent anywhere unless you are logged in."""
    tensorboard: bool = may_change(False)
    """Write events for TensorBoard, too, into RUN/tensorboard (needs `pip install tensorboard`)."""
    dry_run: bool = may_change(False)
    """Train nothing: print the stages, with batch, memory, speed and time as measured by a step of each."""


@dataclass(frozen=True)
class Config:
    """Grow a generator and a discriminator, stage by stage, on a folder of pictures."""

    preset: PresetName = "paintings"
    """The named settings that all others start from."""
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    run: RunConfig = field(default_factory=RunConfig)


def flat(config: Config) -> dict[str, object]:
    """{field name: value} over the whole tree; the names are unique, and are the flags."""
    out = {}
    for item in fields(config):
        value = getattr(config, item.name)
        out.update(flat(value) if isinstance(value, Settings) else {item.name: value})
    return out


def fixed_settings() -> set[str]:
    """Returns the names of the settings that may not change when a run is continued."""
    groups = (DataConfig, NetworkConfig, TrainingConfig, ScheduleConfig, RunConfig)
    names = {item.name for group in groups for item in fields(group) if not item.metadata.get("may_change")}
    return {"preset"} | names


def from_dict(values: dict) -> Config:
    """The Config that `dataclasses.asdict` made `values` of. Raises UserError for fields that do not exist."""
    parts = {
        "data": DataConfig,
        "network": NetworkConfig,
        "training": TrainingConfig,
        "schedule": ScheduleConfig,
        "run": RunConfig,
    }
    try:
        return Config(**{name: parts[name](**value) if name in parts else value for name, value in values.items()})
    except (TypeError, AttributeError) as error:
        raise UserError(f"these settings are of another version of the project: {error}") from None


def grid_shape(text: str) -> tuple[int, int]:
    """`"8x6"` -> (8, 6). Raises UserError."""
    columns, _, rows = text.partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and 1 <= int(columns) <= 64 and 1 <= int(rows) <= 64):
        raise UserError(f"--grid {text} is not COLUMNSxROWS, such as 8x6")
    return int(columns), int(rows)


def to_dict(config: Config) -> dict:
    """Returns a plain nested dict, for JSON and checkpoints; `from_dict` is its inverse."""
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    plain = {name: str(value) if isinstance(value, PerResolution) else value for name, value in values.items()}
    return {name: to_dict(value) if isinstance(value, Settings) else value for name, value in plain.items()}
