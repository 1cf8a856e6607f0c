"""Settings by name: a preset, and the defaults of an architecture and a loss. The user's flags replace them."""

import argparse
from dataclasses import fields, replace

from pggan.config.schema import GROUPS, Config
from pggan.config.tables import ARCH_TABLE, LOSS_SETTINGS, LOSS_TABLE, PAIR_TABLE, PENALIZED, PRESET_TABLE, PRESETS


def preset(name: str = "paintings", arch: str | None = None, loss: str | None = None) -> Config:
    """Returns the settings of the preset `name`, with the defaults of `arch` and `loss` where they are not its own."""
    column = PRESETS.index(name)
    changes = {setting: row[column] for setting, row in PRESET_TABLE.items() if row[column] is not None}
    return with_defaults_for(with_settings(replace(Config(), preset=name), changes), arch, loss)


def with_defaults_for(config: Config, arch: str | None = None, loss: str | None = None) -> Config:
    """Returns `config` with another arch or loss, and the defaults of these; unchanged when it has them already."""
    same_arch = arch in (None, config.network.arch)
    changes = {} if same_arch else {"arch": arch, **ARCH_TABLE[arch]}
    if loss is not None:
        changes["loss"] = loss
    arch, loss = arch or config.network.arch, changes.get("loss", config.training.loss)
    if loss != config.training.loss:
        changes |= dict(zip(LOSS_SETTINGS, LOSS_TABLE[loss], strict=True))
        if loss not in PENALIZED:
            changes["penalty_interval"] = 1
    elif same_arch:
        return config
    return with_settings(config, {**changes, **PAIR_TABLE.get((arch, loss), {})})


def before_flags(argv: list[str], config: Config | None = None) -> Config:
    """Returns the settings before the other flags in `argv` are applied: those of its --preset, --arch and --loss.

    config: used in place of the preset. A name that does not exist is left to the parser, which refuses it.
    """
    known = {"--preset": PRESETS, "--arch": ARCH_TABLE, "--loss": LOSS_TABLE}
    name, arch, loss = (value if (value := last_value(argv, flag)) in known[flag] else None for flag in known)
    return with_defaults_for(config or preset(name or "paintings"), arch, loss)


def last_value(argv: list[str], flag: str) -> str | None:
    """Returns the last value given to `flag`, as `--flag VALUE` or `--flag=VALUE`; None when it is not there."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(flag, dest="value", nargs="?", const="")
    return parser.parse_known_args(argv)[0].value


def with_settings(config: Config, changes: dict[str, object]) -> Config:
    """Returns `config` with settings changed by name, in whichever group they are."""
    own = {name: changes.keys() & {item.name for item in fields(group)} for name, group in GROUPS.items()}
    groups = {name: replace(getattr(config, name), **{key: changes[key] for key in own[name]}) for name in GROUPS}
    return replace(config, **groups)
