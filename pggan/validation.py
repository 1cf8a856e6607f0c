"""Which settings can be, go together, and may change when a run is continued. No torch here."""

from pggan.config import Config, TrainingConfig, at, flat, grid_shape, ladder
from pggan.errors import UserError

# What may differ when a run is continued: everything else is what the run is.
CHANGEABLE = {
    *("max_res", "fade_kimg", "stable_kimg", "stage_minutes", "floor_kimg", "out", "resume", "save_minutes"),
    *("record_kimg", "sample_kimg", "grid", "wandb", "device", "threads", "cache"),
}

LADDERS = ("penalty", "batch", "lr", "ema_kimg", "fade_kimg", "stable_kimg", "stage_minutes")
MOST_THREADS = 1024
LARGEST = 1e12  # of any number: what lies above is a slip of the keyboard


def validate(config: Config) -> None:
    """Raises UserError for values that cannot be, or that contradict each other; NetworkConfig has checked its own."""
    for name, value in flat(config).items():
        _check_value("--" + name.replace("_", "-"), value, name in LADDERS)
    for res in config.network.stages():
        _check_stage(config, res)
    _check_training(config.training)
    for name in ("save_minutes", "record_kimg", "sample_kimg"):
        if getattr(config.run, name) <= 0:
            raise UserError(f"--{name.replace('_', '-')} must be above 0")
    if config.data.builtin_pictures < 1:
        raise UserError("--builtin-pictures must be at least 1")
    grid_shape(config.run.grid)


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
        if name not in CHANGEABLE and before.get(name) != value
    ]


def _check_value(flag: str, value: object, is_ladder: bool) -> None:
    """What holds for any setting: not empty; as a number finite, not negative, and of this world."""
    if value == "" or (isinstance(value, str) and "\0" in value):
        raise UserError(f"{flag} is empty, or no text: give it a value or leave it out")
    numbers = [value] if isinstance(value, (int, float)) else []
    if is_ladder:
        try:
            numbers = list(ladder(value).values())
        except UserError as error:
            raise UserError(f"{flag}: {error}") from None
    for number in numbers:
        if not 0 <= number <= LARGEST:
            raise UserError(f"{flag} {number} must be a number from 0 to {LARGEST:g}")


def _check_stage(config: Config, res: int) -> None:
    """What must hold at each resolution trained at."""
    batch, group = at(config.training.batch, res), config.network.stddev_group
    if batch < 1 or batch != int(batch):
        raise UserError(f"--batch is {batch:g} at {res} px: it must be a whole number of pictures")
    if batch % min(group, batch):
        raise UserError(f"--batch {batch:g} at {res} px is not a multiple of --stddev-group {group}")
    if at(config.training.lr, res) <= 0:
        raise UserError(f"--lr must be above 0 at {res} px")
    if 1000 * at(config.schedule.stable_kimg, res) < 1:
        raise UserError(f"--stable-kimg must be at least 0.001 at {res} px")


def _check_training(training: TrainingConfig) -> None:
    if training.drift and training.loss != "wgan-gp":
        raise UserError(f"--drift belongs to --loss wgan-gp; --loss {training.loss} would ignore it")
    if training.adam_at_growth == "reset" and training.warmup_kimg:
        raise UserError("--warmup-kimg belongs to --adam-at-growth carry; with reset, set it to 0")
    for name in ("beta1", "beta2"):
        if getattr(training, name) >= 1:
            raise UserError(f"--{name} must be below 1")
    if training.threads > MOST_THREADS:
        raise UserError(f"--threads {training.threads} is more than any machine has: at most {MOST_THREADS}")
