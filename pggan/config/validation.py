"""Checks of the settings: their values, what goes together, and what may change when a run is continued. No torch."""

from pggan.config.augmentation import ORIENTING, augmentation
from pggan.config.fields import flag
from pggan.config.per_resolution import LARGEST
from pggan.config.schema import Config, ScheduleConfig, fixed_settings, flat, grid_shape, seconds
from pggan.config.tables import PENALIZED
from pggan.errors import UserError

LEAST_MEASURED = 100  # samples
MOST_THREADS = 1024
MOST_TURNED = 0.5  # of the images, by any one augmentation: with 0.6, G may settle on the wrong way up
MOST_AUGMENT_KIMG = 10_000  # with more, the change of p in a step would round to 0


def validate(config: Config) -> None:
    """Raises UserError for impossible or contradictory values. NetworkConfig and PerResolution check their own."""
    for name, value in flat(config).items():
        _check_value(flag(name), value)
    for res in config.network.stages():
        _check_stage(config, res)
    _check_training(config)
    _check_augment(config)
    _check_schedule(config.schedule)
    for name in ("save_minutes", "record_kimg", "sample_kimg"):
        if getattr(config.run, name) <= 0:
            raise UserError(f"{flag(name)} must be above 0")
    if config.data.builtin_images < 1:
        raise UserError("--builtin-images must be at least 1")
    grid_shape(config.run.grid)
    if config.run.eval_samples < LEAST_MEASURED:
        raise UserError(f"--eval-samples must be at least {LEAST_MEASURED}; --eval-kimg 0 turns evaluations off")


def differences(old: Config, new: Config) -> list[str]:
    """Returns lines `--flag: old -> new` for the settings that differ and may not change when a run is continued.

    A data folder may move: its images are compared elsewhere, not its path.
    """
    before, after = flat(old), flat(new)
    if not any(settings["data"].startswith("builtin") for settings in (before, after)):
        before["data"] = after["data"]
    changed = [name for name in after if name in fixed_settings() and before[name] != after[name]]
    return [f"{flag(name)}: {before[name]} -> {after[name]}" for name in changed]


def _check_value(name: str, value: object) -> None:
    """Checks any setting: text is not empty, a number is from 0 to LARGEST."""
    if isinstance(value, str) and (not value or "\0" in value):
        raise UserError(f"{name} is empty, or no text: give it a value or leave it out")
    if isinstance(value, (int, float)) and not 0 <= value <= LARGEST:
        raise UserError(f"{name} {value} must be a number from 0 to {LARGEST:g}")


def _check_stage(config: Config, res: int) -> None:
    """Checks the values at resolution `res`."""
    batch, group = config.training.batch.at(res), config.network.stddev_group
    if batch < 1 or batch != int(batch):
        raise UserError(f"--batch is {batch:g} at {res} px: it must be a whole number of images")
    if group and batch % min(group, batch):
        raise UserError(f"--batch {batch:g} at {res} px is not a multiple of --stddev-group {group}")
    if config.training.lr.at(res) <= 0:
        raise UserError(f"--lr must be above 0 at {res} px")
    if 1000 * config.schedule.stable_kimg.at(res) < 1:
        raise UserError(f"--stable-kimg must be at least 0.001 at {res} px")


def _check_training(config: Config) -> None:
    training, network, loss = config.training, config.network, config.training.loss
    has_penalty = loss in PENALIZED and bool(training.penalty_weight)
    if training.penalty_weight and not has_penalty:
        raise UserError(f"--loss {loss} has no gradient penalty and would ignore --penalty-weight: set it to 0")
    if training.penalty_interval < 1:
        raise UserError("--penalty-interval must be at least 1")
    if training.penalty_interval > 1 and not has_penalty:
        raise UserError(f"--penalty-interval needs a penalty: --loss {loss} has none here")
    if bool(training.clip) != (loss == "wgan"):
        problem = "needs --clip above 0" if loss == "wgan" else "would ignore --clip: set it to 0"
        raise UserError(f"--loss {loss} {problem}")
    if training.drift and loss != "wgan-gp":
        raise UserError(f"--drift belongs to --loss wgan-gp; --loss {loss} would ignore it")
    if network.arch != "dcgan" and (network.residual or network.critic_norm != "none"):
        name = "--residual" if network.residual else "--critic-norm"
        raise UserError(f"{name} belongs to --arch dcgan; --arch {network.arch} would ignore it")
    if network.critic_norm == "batch" and has_penalty:
        raise UserError(
            f"--critic-norm batch mixes the images of a batch, but the gradient penalty of --loss {loss} "
            f"is a gradient for each image: use --critic-norm layer"
        )
    if training.adam_at_growth == "reset" and training.warmup_kimg:
        raise UserError("--warmup-kimg belongs to --adam-at-growth carry; with reset, set it to 0")
    for name in ("beta1", "beta2"):
        if getattr(training, name) >= 1:
            raise UserError(f"{flag(name)} must be below 1")
    if training.threads > MOST_THREADS:
        raise UserError(f"--threads {training.threads} is more than any machine has: at most {MOST_THREADS}")


def _check_augment(config: Config) -> None:
    training, asked = config.training, augmentation(config.training.augment)
    if asked.flip and config.data.mirror:
        raise UserError("--augment flip is done already, when images are read: leave it out, or give --no-mirror")
    if asked.turns and len(set(config.network.grid())) > 1:
        raise UserError(f"--augment turns needs square images: --base {config.network.base} makes none")
    if not 0 < training.ada_max < 1:
        raise UserError("--ada-max must be above 0 and below 1")
    for name, strength in asked.strengths().items():
        share = strength * (training.ada_max if training.ada else 1)
        if share > MOST_TURNED and name in ORIENTING:
            percent = f"{100 * share:.3g} %"
            raise UserError(f"--augment {name} on {percent} of the images leaks into the samples: give 50 % or less")
        if share == 1:
            raise UserError(f"--augment {name} on all images leaks into the samples: give less, such as {name}:0.8")
    if not training.ada:
        return
    if not asked:
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
        raise UserError("--budget decides by the clock and --plan repeats earlier decisions: give one of them")
    if schedule.schedule == "manual" and (schedule.budget or schedule.plan):
        other = "--budget" if schedule.budget else "--plan"
        raise UserError(f"--schedule manual stops after each resolution and {other} grows by itself: give one of them")


def check_ignored(config: Config, default: Config) -> None:
    """Raises UserError for a flag that another one makes meaningless. default: the settings before any flags."""
    given, usual = flat(config), flat(default)
    changed = {name for name in given if given[name] != usual[name]}
    for other in ("budget", "plan"):
        for name in ("fade_kimg", "stable_kimg", "stage_minutes", "floor_kimg"):
            if given[other] and name in changed:
                raise UserError(f"{flag(name)} and {flag(other)} both say when to grow: give one of them")
    needed = {  # setting: (whether it has an effect, the flag that gives it one)
        "budget_share": (config.schedule.budget, "--budget"),
        "floor_kimg": (config.schedule.stage_minutes, "--stage-minutes"),
        "ema_rampup": (config.training.ema_kimg, "--ema-kimg above 0"),
        "eval_samples": (config.run.eval_kimg, "--eval-kimg above 0"),
        **dict.fromkeys(("ada_target", "ada_kimg", "ada_max"), (config.training.ada, "--ada")),
    }
    for name, (has_effect, other) in needed.items():
        if name in changed and not has_effect:
            raise UserError(f"{flag(name)} has no effect without {other}: give that, or leave {flag(name)} out")
    if config.training.precision in ("bf16", "fp16") and config.network.ends()[1] <= 16:
        raise UserError(f"--precision {config.training.precision} is for resolutions above 16 px: leave it out")
