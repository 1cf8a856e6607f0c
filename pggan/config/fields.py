"""How a group of settings is declared: its base class, the mark of fields that may change, and their types."""

from dataclasses import field, fields
from typing import Literal, get_args, get_origin

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


STORED_AS = {  # type of a field: the types of its stored values, and how a message calls them
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    str: ((str,), "text"),
    PerResolution: ((str, int, float), "a number or RES:VALUE pairs"),
    type(None): ((type(None),), "none"),
}


def problem_of_stored(kind: type, values: dict) -> str | None:
    """Returns what is wrong with the first of `values`, {field: value}, that dataclass `kind` cannot have; or None."""
    declared = {item.name: item.type for item in fields(kind)}
    for name, value in values.items():
        if name not in declared:
            return f"it has a setting {name}, which is unknown here"
        wanted, said = declared[name], f"{flag(name)} is {str(value)[:40]!r}"
        choices = get_args(wanted) if get_origin(wanted) is Literal else ()
        if choices and value not in choices:
            return f"{said}, but known here are {', '.join(choices)}"
        known = [] if choices else [STORED_AS[part] for part in get_args(wanted) or (wanted,)]
        if known and not any(type(value) in types for types, _ in known):
            return f"{said}, but here it is {' or '.join(words for _, words in known)}"
    return None
