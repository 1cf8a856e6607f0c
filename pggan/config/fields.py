"""How a group of settings is declared: its base class, and the mark of the fields that may change."""

from dataclasses import field, fields

from pggan.config.per_resolution import PerResolution
from pggan.errors import UserError


def flag(name: str) -> str:
    """Returns the flag of a setting: `max_res` -> `--max-res`."""
    return "--" + name.replace("_", "-")


def may_change(default: object) -> object:
    """Returns a field that may have another value when a run is continued."""
    return field(default=default, metadata={"may_change": True})


class Settings:
    """A group of settings. Text given for a PerResolution field is parsed when the group is made."""

    def __post_init__(self):
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type is PerResolution and not isinstance(value, PerResolution):
                try:
                    object.__setattr__(self, item.name, PerResolution.parse(value))
                except UserError as error:
                    raise UserError(f"{flag(item.name)}: {error}") from None
