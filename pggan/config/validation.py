"""Which settings can be, go together, and may change when a run is continued. No torch here."""

from pggan.config.augmentation import ORIENTING, augmentation
from pggan.config.per_resolution import PerResolution
from pggan.config.schema import PENALIZED, Config, ScheduleConfig, fixed_settings, flat, grid_shape, seconds
from pggan.errors import UserError

LEAST_MEASURED = 100  # samples
MOST_THREADS = 1024
MOST_TURNED = 0.5  # of the pictures, by any one piece: with 0.6, G may settle on the wrong way up
MOST_AUGMENT_KIMG = 10_000  # slower than that, a step would round to nothing
LARGEST = 1e12  # of any number: what lies above is a slip of the keyboard


def validate(config: Config) -> None:
    """Raises UserError for values that cannot be, or that contradict each other; NetworkConfig has checked its own."""
    for name, value in flat(config).items():
        _check_value("--" + name.replace("_", "-"), value)
    for res in config.network.stages():
        _check_stage(config, res)
    _check_training(config)
    _check_augment(config)
    _check_schedule(config.schedule)
    for name in ("save_minutes", "record_kimg", "sample_kimg"):
        if getattr(config.run, name) <= 0:
            raise UserError(f"--{name.replace('_', '-')} must be above 0")
    if config.data.builtin_images < 1:
        raise UserError("--builtin-images must be at least 1")
    grid_shape(config.run.grid)
    if config.run.eval_samples < LEAST_MEASURED:
        raise UserError(f"--eval-samples must be at least {LEAST_MEASURED}; --eval-kimg 0 measures nothing")


def differences(old: Config, new: Config) -> list[str]:
    """Lines `--flag: old -> new` for the settings that a continued run may not change."""
    before, after = flat(old), flat(new)
    if not any(str(settings["data"]).startswith("builtin") for settings in (before, after)):
        before["data"] = after[
            "data"
        ]  # a folder may move or be named otherwise: its pictures are compared, not its path
    return [
        f"--{name.replace('_', '-')}: {before.get(name)} -> {value}"
        for name, value in after.items()
        if name in fixed_settings() and before.get(name) != value
    ]


def _check_value(flag: str, value: object) -> None:
    """What holds for any setting: not empty; as a number finite, not negative, and of this world."""
    if value == "" or (isinstance(value, str) and "\0" in value):
        raise UserError(f"{flag} is empty, or no text: give it a value or leave it out")
    numbers = [value] if isinstance(value, (int, float)) else []
    if isinstance(value, PerResolution):
        numbers = [number for _, number in value.values]
    for number in numbers:
        if not 0 <= number <= LARGEST:
            raise UserError(f"{flag} {number} must be a number from 0 to {LARGEST:g}")


def _check_stage(config: Config, res: int) -> None:
    """What must hold at each resolution trained at."""
    batch, group = config.training.batch.at(res), config.network.stddev_group
    if batch < 1 or batch != int(batch):
        raise UserError(f"--batch is {batch:g} at {res} px: it must be a whole number of pictures")
    if group and batch % min(group, batch):
        raise UserError(f"--batch {batch:g} at {res} px is not a multiple of --stddev-group {group}")
    if config.training.lr.at(res) <= 0:
        raise UserError(f"--lr must be above 0 at {res} px")
    if 1000 * config.schedule.stable_kimg.at(res) < 1:
        raise UserError(f"--stable-kimg must be at least 0.001 at {res} px")


def _check_training(config: Config) -> None:
    training, network = config.training, config.network
    penalized = training.loss in PENALIZED
    penalty = bool(training.penalty_weight)
    if penalty and not penalized:
        raise UserError(
            f"--loss {training.loss} has no gradient penalty and would ignore --penalty-weight: set it to 0"
        )
    if training.penalty_interval < 1:
        raise UserError("--penalty-interval must be at least 1")
    if training.penalty_interval > 1 and not (penalized and penalty):
        raise UserError(f"--penalty-interval needs a penalty: --loss {training.loss} has none here")
    if bool(training.clip) != (training.loss == "wgan"):
        what = "needs --clip above 0" if training.loss == "wgan" else "would ignore --clip: set it to 0"
        raise UserError(f"--loss {training.loss} {what}")
    if training.drift and training.loss != "wgan-gp":
        raise UserError(f"--drift belongs to --loss wgan-gp; --loss {training.loss} would ignore it")
    if network.residual and network.arch != "dcgan":
        raise UserError(f"--residual belongs to --arch dcgan; --arch {network.arch} would ignore it")
    if network.critic_norm != "none" and network.arch != "dcgan":
        raise UserError(f"--critic-norm belongs to --arch dcgan; --arch {network.arch} would ignore it")
    if network.critic_norm == "batch" and penalized and penalty:
        raise UserError(
            f"--critic-norm batch mixes the pictures of a batch, and the gradient penalty of --loss {training.loss} "
            f"needs each by itself: use --critic-norm layer"
        )
    if training.adam_at_growth == "reset" and training.warmup_kimg:
        raise UserError("--warmup-kimg belongs to --adam-at-growth carry; with reset, set it to 0")
    for name in ("beta1", "beta2"):
        if getattr(training, name) >= 1:
            raise UserError(f"--{name} must be below 1")
    if training.threads > MOST_THREADS:
        raise UserError(f"--threads {training.threads} is more than any machine has: at most {MOST_THREADS}")


def _check_augment(config: Config) -> None:
    training, pieces = config.training, augmentation(config.training.augment)
    if pieces.flip and config.data.mirror:
        raise UserError("--augment flip is done already, when pictures are read: leave it out, or give --no-mirror")
    if pieces.turns and len(set(config.network.grid())) > 1:
        raise UserError(f"--augment turns needs square pictures: --base {config.network.base} makes none")
    if not 0 < training.ada_max < 1:
        raise UserError("--ada-max must be above 0 and below 1")
    for name, strength in pieces.strengths().items():
        share = strength * (training.ada_max if training.ada else 1)
        if share > MOST_TURNED and name in ORIENTING:
            raise UserError(
                f"--augment {name} on {100 * share:.3g} % of the pictures leaks into the samples: half, at the most"
            )
        if share == 1:
            raise UserError(f"--augment {name} on all pictures leaks into the samples: less, such as {name}:0.8")
    if not training.ada:
        return
    if not pieces:
        raise UserError("--ada needs something to control: give --augment")
    if training.ada_target is not None and not 0 < training.ada_target < 1:
        raise UserError("--ada-target must be above 0 and below 1")
    if not 0 < training.ada_kimg <= MOST_AUGMENT_KIMG:
        raise UserError(f"--ada-kimg must be above 0, and at most {MOST_AUGMENT_KIMG}")


def _check_schedule(schedule: ScheduleConfig) -> None:
    if schedule.budget is not None:
        try:
            seconds(schedule.budget)
        except UserError as error:
            raise UserError(f"--budget: {error}") from None
        if not all(value for _, value in schedule.budget_share.values):
            raise UserError("--budget-share must be above 0")
    if schedule.budget and schedule.plan:
        raise UserError("--budget decides by the clock and --plan repeats what was decided: give one of them")
    if schedule.schedule == "manual" and (schedule.budget or schedule.plan):
        other = "--budget" if schedule.budget else "--plan"
        raise UserError(f"--schedule manual stops after each resolution and {other} grows by itself: give one of them")


def check_ignored(config: Config, default: Config) -> None:
    """Raises UserError for flags that another one makes meaningless. default: what the flags were laid over."""
    given, usual = flat(config), flat(default)
    kimg = ("fade_kimg", "stable_kimg", "stage_minutes", "floor_kimg")
    ignored = {"budget": kimg, "plan": kimg}
    for other, names in ignored.items():
        for name in names if given[other] else ():
            if given[name] != usual[name]:
                raise UserError(f"--{name.replace('_', '-')} and --{other} both say when to grow: give one of them")
    if given["budget_share"] != usual["budget_share"] and not given["budget"]:
        raise UserError("--budget-share divides a --budget: give one, or leave it out")
    if given["ema_rampup"] != usual["ema_rampup"] and not given["ema_kimg"]:
        raise UserError("--ema-rampup belongs to an average, and --ema-kimg 0 keeps none: leave one of them out")
    for name in ("ada_target", "ada_kimg", "ada_max"):
        if given[name] != usual[name] and not given["ada"]:
            raise UserError(f"--{name.replace('_', '-')} belongs to --ada: give that, or leave it out")
    if given["eval_samples"] != usual["eval_samples"] and not given["eval_kimg"]:
        raise UserError("--eval-samples is how many samples are measured, and --eval-kimg 0 measures none: drop one")
    if given["precision"] in ("bf16", "fp16") and config.network.ends()[1] <= 16:
        raise UserError(f"--precision {given['precision']} is for resolutions above 16 px: leave it out")
    if given["floor_kimg"] != usual["floor_kimg"] and not given["stage_minutes"]:
        raise UserError("--floor-kimg belongs to --stage-minutes: give these, or leave it out")
