"""Every setting of a run, as frozen dataclasses. The docstring of a field is its `--help` text. Needs no torch.

A field made by `may_change` may have another value when a run is continued; all other fields describe the run itself.
"""

import re
from dataclasses import dataclass, field, fields
from typing import Literal

from pggan.config.fields import Settings, may_change, problem_of_stored
from pggan.config.network import NetworkConfig
from pggan.config.per_resolution import PerResolution
from pggan.config.tables import LOSS_TABLE, PRESETS, SCHEDULES
from pggan.errors import refuse_if

PresetName = Literal[*PRESETS]
LossName = Literal[*LOSS_TABLE]


def seconds(text: str) -> float:
    """Returns the seconds that `"25m"`, `"1h30m"` or `"90s"` stands for. Raises UserError."""
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
    numbers = [float(number or 0) for number in parts.groups()] if parts else [0, 0, 0]
    total = 3600 * numbers[0] + 60 * numbers[1] + numbers[2]
    refuse_if(not 0 < total < 1e9, f"'{text}' is no time: write hours, minutes or seconds, such as 25m, 1h30m or 90s")
    return total


def grid_shape(text: str) -> tuple[int, int]:
    """Returns (columns, rows) of a sample grid such as `"8x6"`. Raises UserError."""
    columns, _, rows = text.partition("x")
    good = columns.isdecimal() and rows.isdecimal() and 1 <= int(columns) <= 64 and 1 <= int(rows) <= 64
    refuse_if(not good, f"--grid {text} is not COLUMNSxROWS, such as 8x6")
    return int(columns), int(rows)


@dataclass(frozen=True)
class DataConfig(Settings):
    """The images to learn from."""

    data: str = "builtin"
    """A folder of pictures (sub-folders included), a zip, or builtin[:SEED] for pictures that the project draws."""
    builtin_images: int = 2000
    """Number of pictures that builtin draws."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How to fit pictures of another shape. crop: cut out the center. pad: add white borders. stretch: distort."""
    random_crop: bool = False
    """Cut out a random part of each picture, not the center (pictures are stored 1.25 times as large)."""
    mirror: bool = True
    """Flip images left to right, half of the time. Use --no-mirror for pictures with text."""
    cache: str | None = may_change(None)
    """Folder for the packed images. None: beside the data, or your user cache folder if that place is read-only."""


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """Loss, augmentation, optimizer, moving average of G, and the machine."""

    loss: LossName = "logistic"
    """With a gradient penalty: logistic (non-saturating, R1), wgan-gp, relativistic (R3GAN, R1 and R2).
    Without one: bce, lsgan, hinge, wgan (weights of D are clipped)."""
    penalty_weight: PerResolution = PerResolution.parse("32:0.3,64:1,128:3,256:10")
    """Weight of the gradient penalty: gamma of R1 and R2, lambda of wgan-gp. Each loss has its own default."""
    penalty_interval: int = 1
    """Apply the penalty only in every N-th step of D, N times as strong (lazy regularization)."""
    clip: float = 0.0
    """Keep each weight of D between -CLIP and CLIP (only for --loss wgan: its default is 1, with dcgan 0.01)."""
    drift: float = 0.0
    """Weight of the drift term, which keeps the output of D near 0 (only for --loss wgan-gp: its default is 0.001)."""
    augment: str = "none"
    """Change the images that D sees, real and fake, at random, so that D cannot memorize a small data set.
    Give NAME:PROBABILITY,..., such as translation:0.8,cutout:0.8,color:0.3. Others, up to 0.5: flip, vflip,
    turns (by 90 degrees)."""
    ada: bool = False
    """Adapt --augment while training (ADA): all probabilities are multiplied by p, which rises from 0 as D overfits."""
    ada_target: float | None = None
    """Target of r_t, which shows how far D overfits: p rises while r_t is above the target, and falls while below.
    r_t is the mean sign of D(real); with wgan, wgan-gp, lsgan and relativistic, of D(real) - D(fake).
    None: 0.6; with these four 0.77."""
    ada_kimg: float = 100.0
    """kimg in which p can rise from 0 to 1."""
    ada_max: float = 0.8
    """Highest p. Keep it below 1: an augmentation that is always applied shows up in the samples."""
    d_interval: PerResolution = PerResolution.parse("1")
    """Train D, and let it judge G, in every N-th step only (only with --features, whose heads act in every step)."""
    features_weight: PerResolution = PerResolution.parse("1")
    """Weight of the judgment of --features in the loss of G, relative to that of D."""
    features_lr: PerResolution = PerResolution.parse("0.001")
    """Learning rate of the heads on --features."""
    batch: PerResolution = PerResolution.parse("32:64,128:32,256:16")
    """Images per step."""
    lr: PerResolution = PerResolution.parse("0.0015")
    """Learning rate of Adam, for G and D."""
    beta1: float = 0.0
    """Adam's decay rate for the mean of the gradients."""
    beta2: float = 0.99
    """Adam's decay rate for the mean of their squares."""
    adam_at_growth: Literal["carry", "reset"] = "carry"
    """Adam's moments (running means) at growth. carry: keep them. reset: clear them at both ends of each fade."""
    warmup_kimg: float = 5.0
    """kimg in which new weights reach the full learning rate (only with --adam-at-growth carry)."""
    ema_kimg: PerResolution = PerResolution.parse("10")
    """Half-life of G_ema, the moving average of the weights of G, in kimg. Samples are drawn from it. 0: no average."""
    ema_rampup: float = 0.05
    """Limit the half-life to this share of the images shown so far: early weights are forgotten. 0: no limit."""
    seed: int = 0
    """Seed of all random numbers. On the CPU, the same seed and settings give the same run."""
    device: Literal["auto", "cuda", "mps", "cpu"] = may_change("auto")
    """Where to train. auto: cuda if there is one, else mps, else cpu."""
    threads: int = may_change(0)
    """Number of CPU threads. 0: torch's choice. It is stored with the run, because exact resuming depends on it."""
    processes: int = may_change(1)
    """CPU only: number of processes that compute the gradients of a batch together. Small networks gain more from them
    than from threads. Each gets whole groups of --stddev-group; batch norm sees only its own images. 0: the number
    stored with the run; for a new run, up to one per core."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of layers above 16 px. auto: bf16 if the device has it, else fp16 on a GPU, fp32 on a CPU."""
    compile: Literal["auto", "on", "off"] = may_change("auto")
    """Compile the training step (needs a C++ compiler). auto: on for CUDA, off elsewhere."""


@dataclass(frozen=True)
class ScheduleConfig(Settings):
    """When to grow."""

    schedule: Literal[*SCHEDULES] = "fixed"
    """fixed: grow after a planned number of images. manual: stop after each resolution; tools/grow.py grows the run."""
    budget: str | None = may_change(None)
    """Time for the whole run, all restarts included, such as 25m or 1h30m. None: no limit.
    It replaces --fade-kimg, --stable-kimg and --stage-minutes."""
    budget_share: PerResolution = may_change(PerResolution.parse("32:2,64:3,128:4,256:5"))
    """Share of --budget for each resolution, relative to the others: 32:1,64:2 gives 64 px twice the time of 32 px."""
    plan: str | None = may_change(None)
    """The growth.json of another run: fade, grow and stop after the same numbers of images as it did."""
    fade_kimg: PerResolution = may_change(PerResolution.parse("40"))
    """kimg in which a new block fades in. The first resolution has no fade."""
    stable_kimg: PerResolution = may_change(PerResolution.parse("32:150,64:160,128:210"))
    """kimg of training after the fade."""
    stage_minutes: PerResolution = may_change(PerResolution.parse("0"))
    """Time limit of a resolution, in minutes. 0: no limit."""
    floor_kimg: float = may_change(1.0)
    """kimg after the fade that each resolution gets even if its --stage-minutes are over."""


@dataclass(frozen=True)
class RunConfig(Settings):
    """Where results go, and how often they are written."""

    out: str | None = may_change(None)
    """Folder of the run. A run that is in it is continued. None: runs/DATA-PRESET-MAXRES."""
    resume: str | None = may_change(None)
    """Start a new run in --out from this checkpoint, with the settings stored in it (except --budget)."""
    save_minutes: float = may_change(5.0)
    """Minutes between checkpoints. One is also saved at the end of each resolution and on Ctrl-C."""
    record_kimg: float = may_change(0.5)
    """kimg between lines of metrics.jsonl."""
    sample_kimg: float = may_change(5.0)
    """kimg between sample grids."""
    grid: str = may_change("8x6")
    """Size of a sample grid, COLUMNSxROWS."""
    eval_kimg: PerResolution = may_change(PerResolution.parse("32:100,64:50,128:25,256:10"))
    """kimg between evaluations of quality and diversity; the end of a resolution has one, too. 0: none.
    Skipped below 16 px and with fewer than 200 pictures."""
    eval_samples: int = 500
    """Samples per evaluation, at least 100; capped at 500 and at half of the data set.
    Scores of different sample counts cannot be compared."""
    wandb: Literal["auto", "off", "offline", "online"] = may_change("auto")
    """Logging to Weights & Biases. auto: online if you are logged in, else offline: files only, and nothing is sent."""
    tensorboard: bool = may_change(False)
    """Write TensorBoard events to RUN/tensorboard, too (needs `pip install tensorboard`)."""
    dry_run: bool = may_change(False)
    """Do not train: take a few steps at each resolution and print memory, speed and time."""


@dataclass(frozen=True)
class Config:
    """Train a GAN on a folder of pictures: it starts with small images and grows, one resolution at a time.

    kimg means thousands of images shown in training.

    RES:VALUE,... is one value, such as 16, or several: 32:64,128:16 is 64 from 32 px and 16 from 128 px.
    """

    preset: PresetName = "paintings"
    """The settings to start from. paintings: one GPU. paper: as published. cpu: no GPU. demo, smoke: minutes."""
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    run: RunConfig = field(default_factory=RunConfig)


GROUPS = {item.name: item.default_factory for item in fields(Config) if item.name != "preset"}


def flat(config: Config) -> dict[str, object]:
    """Returns {setting: plain value} over all groups; the names are unique, and are the flags."""
    values = to_dict(config)
    return {"preset": values.pop("preset"), **{name: group[name] for group in values.values() for name in group}}


def fixed_settings() -> set[str]:
    """Returns the names of the settings that may not change when a run is continued."""
    names = {item.name for group in GROUPS.values() for item in fields(group) if not item.metadata.get("may_change")}
    return {"preset"} | names


def to_dict(config: Config | Settings) -> dict:
    """Returns a plain nested dict, for JSON and checkpoints; `from_dict` is its inverse."""
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    plain = {name: str(value) if isinstance(value, PerResolution) else value for name, value in values.items()}
    return {name: to_dict(value) if isinstance(value, Settings) else value for name, value in plain.items()}


def from_dict(values: dict) -> Config:
    """Returns the Config that `to_dict` made `values` of. Raises UserError for those of another version."""
    whole = isinstance(values, dict) and all(isinstance(values.get(name, {}), dict) for name in GROUPS)
    problem, values = (None, values) if whole else ("its settings have another form", {})
    groups = {name: (kind, values[name]) for name, kind in GROUPS.items() if name in values}
    others = {name: value for name, value in values.items() if name not in groups}
    for kind, part in [*groups.values(), (Config, others)]:
        problem = problem or problem_of_stored(kind, part)
    said = f"this run was made by another version of the project: {problem}"
    refuse_if(problem, f"{said}. Use that version (its commit is in config.json), or start a new run")
    return Config(**others, **{name: kind(**part) for name, (kind, part) in groups.items()})
