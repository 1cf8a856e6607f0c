"""Checks of the settings: their values, what goes together, and what may change when a run is continued. No torch."""

from pggan.config.augmentation import ORIENTING, augmentation
from pggan.config.fields import flag
from pggan.config.per_resolution import LARGEST
from pggan.config.schema import Config, ScheduleConfig, fixed_settings, flat, grid_shape, seconds
from pggan.config.tables import PENALIZED, losses_with
from pggan.errors import UserError, refuse_if

LEAST_MEASURED = 100  # samples
LEAST_FEATURES_RES = 64  # px: the smallest feature maps then have 2x2 pixels
MOST_THREADS = 1024
MOST_TURNED = 0.5  # of the images, by any one augmentation: with 0.6, G may learn the wrong way up
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
        refuse_if(getattr(config.run, name) <= 0, f"{flag(name)} must be above 0")
    refuse_if(config.data.builtin_images < 1, "--builtin-images must be at least 1")
    grid_shape(config.run.grid)
    few = config.run.eval_samples < LEAST_MEASURED
    refuse_if(few, f"--eval-samples must be at least {LEAST_MEASURED}; --eval-kimg 0 turns evaluations off")


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
    empty = isinstance(value, str) and (not value or "\0" in value)
    refuse_if(empty, f"{name} is empty, or no text: give it a value or leave it out")
    outside = isinstance(value, (int, float)) and not 0 <= value <= LARGEST
    refuse_if(outside, f"{name} {value} must be a number from 0 to {LARGEST:g}")


def _check_stage(config: Config, res: int) -> None:
    """Checks the values at resolution `res`."""
    batch, group = config.training.batch.at(res), config.network.stddev_group
    whole = batch >= 1 and batch == int(batch)
    refuse_if(not whole, f"--batch is {batch:g} at {res} px: it must be a whole number of images")
    uneven = group and batch % min(group, batch)
    refuse_if(uneven, f"--batch {batch:g} at {res} px is not a multiple of --stddev-group {group}")
    refuse_if(config.training.lr.at(res) <= 0, f"--lr must be above 0 at {res} px")
    if config.network.features != "none":
        _check_features(config, res)
    refuse_if(1000 * config.schedule.stable_kimg.at(res) < 1, f"--stable-kimg must be at least 0.001 at {res} px")


def _check_features(config: Config, res: int) -> None:
    """Checks the settings of the heads on features at resolution `res`."""
    size, every = config.network.features_res.at(res), config.training.d_interval.at(res)
    small = size < LEAST_FEATURES_RES or size != int(size)
    refuse_if(small, f"--features-res is {size:g} at {res} px: whole px, at least {LEAST_FEATURES_RES}, fit the heads")
    uneven = every < 1 or every != int(every)
    refuse_if(uneven, f"--d-interval is {every:g} at {res} px: it must be a whole number of steps, at least 1")
    for name in ("features_weight", "features_lr"):
        zero = getattr(config.training, name).at(res) <= 0
        refuse_if(zero, f"{flag(name)} must be above 0 at {res} px; --features none turns the heads off")


def _check_training(config: Config) -> None:
    training, network, loss = config.training, config.network, config.training.loss
    ignored = training.penalty_weight and loss not in PENALIZED
    refuse_if(ignored, f"--loss {loss} has no gradient penalty and would ignore --penalty-weight: set it to 0")
    refuse_if(training.penalty_interval < 1, "--penalty-interval must be at least 1")
    every = training.penalty_interval
    idle = every > 1 and not training.penalty_weight
    refuse_if(idle, f"--penalty-interval {every} needs a penalty, but --penalty-weight is 0: give --penalty-interval 1")
    refuse_if(loss in losses_with("clip") and not training.clip, f"--loss {loss} needs --clip above 0")
    for name in ("clip", "drift"):
        foreign = getattr(training, name) and loss not in losses_with(name)
        owners = " or ".join(losses_with(name))
        refuse_if(foreign, f"--{name} belongs to --loss {owners}: with --loss {loss}, set it to 0")
    for name, given in {"--residual": network.residual, "--critic-norm": network.critic_norm != "none"}.items():
        ignored = given and network.arch != "dcgan"
        refuse_if(ignored, f"{name} belongs to --arch dcgan; --arch {network.arch} would ignore it")
    refuse_if(
        network.critic_norm == "batch" and training.penalty_weight,
        f"--critic-norm batch mixes the images of a batch, but the gradient penalty of --loss {loss} "
        f"is a gradient for each image: use --critic-norm layer",
    )
    ignored = training.adam_at_growth == "reset" and training.warmup_kimg
    refuse_if(ignored, "--warmup-kimg belongs to --adam-at-growth carry; with reset, set it to 0")
    for name in ("beta1", "beta2"):
        refuse_if(getattr(training, name) >= 1, f"{flag(name)} must be below 1")
    for name in ("threads", "processes"):
        many = getattr(training, name)
        refuse_if(many > MOST_THREADS, f"--{name} {many} is more than any machine has: at most {MOST_THREADS}")


def _check_augment(config: Config) -> None:
    training, asked = config.training, augmentation(config.training.augment)
    twice = asked.flip and config.data.mirror
    refuse_if(twice, "--augment flip is done already, when images are read: leave it out, or give --no-mirror")
    oblong = asked.turns and len(set(config.network.grid())) > 1
    refuse_if(oblong, f"--augment turns needs square images: --base {config.network.base} makes none")
    refuse_if(not 0 < training.ada_max < 1, "--ada-max must be above 0 and below 1")
    for name, strength in asked.strengths().items():
        share = strength * (training.ada_max if training.ada else 1)
        leaks = f"--augment {name} on {100 * share:.3g} % of the images leaks into the samples"
        refuse_if(name in ORIENTING and share > MOST_TURNED, f"{leaks}: give 50 % or less")
        refuse_if(share == 1, f"{leaks}: give less, such as {name}:0.8")
    if training.ada:
        refuse_if(not asked, "--ada needs something to control: give --augment")
        target, kimg = training.ada_target, training.ada_kimg
        refuse_if(target is not None and not 0 < target < 1, "--ada-target must be above 0 and below 1")
        refuse_if(not 0 < kimg <= MOST_AUGMENT_KIMG, f"--ada-kimg must be above 0, and at most {MOST_AUGMENT_KIMG}")


def _check_schedule(schedule: ScheduleConfig) -> None:
    if schedule.budget is not None:
        try:
            seconds(schedule.budget)
        except UserError as error:
            raise UserError(f"--budget: {error}") from None
        refuse_if(not all(value for _, value in schedule.budget_share.values), "--budget-share must be above 0")
    both = schedule.budget and schedule.plan
    refuse_if(both, "--budget decides by the clock and --plan repeats earlier decisions: give one of them")
    for name in ("budget", "plan"):
        both = schedule.schedule != ScheduleConfig.schedule and getattr(schedule, name)
        refuse_if(both, f"--schedule {schedule.schedule} and --{name} both say when to grow: give one of them")


def check_ignored(config: Config, default: Config) -> None:
    """Raises UserError for a flag that another one makes meaningless. default: the settings before any flags."""
    given, usual = flat(config), flat(default)
    changed = {name for name in given if given[name] != usual[name]}
    for other in ("budget", "plan"):
        for name in ("fade_kimg", "stable_kimg", "stage_minutes", "floor_kimg"):
            both = given[other] and name in changed
            refuse_if(both, f"{flag(name)} and {flag(other)} both say when to grow: give one of them")
    needed = {  # setting: (whether it has an effect, the flag that gives it one)
        "budget_share": (config.schedule.budget, "--budget"),
        "floor_kimg": (config.schedule.stage_minutes, "--stage-minutes"),
        "ema_rampup": (config.training.ema_kimg, "--ema-kimg above 0"),
        "eval_samples": (config.run.eval_kimg, "--eval-kimg above 0"),
        **dict.fromkeys(("ada_target", "ada_kimg", "ada_max"), (config.training.ada, "--ada")),
        **dict.fromkeys(
            ("features_res", "features_weight", "features_lr", "d_interval"),
            (config.network.features != "none", "--features"),
        ),
    }
    for name, (has_effect, other) in needed.items():
        alone = name in changed and not has_effect
        refuse_if(alone, f"{flag(name)} has no effect without {other}: give that, or leave {flag(name)} out")
    precision = config.training.precision
    low = precision in ("bf16", "fp16") and config.network.ends()[1] <= 16
    refuse_if(low, f"--precision {precision} is for resolutions above 16 px: leave it out")
