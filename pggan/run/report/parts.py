"""The tables and commands of the page as HTML. Text that comes from a run is escaped here."""

import html
import json

from pggan.config.per_resolution import PerResolution
from pggan.run.report.commands import Command
from pggan.run.report.facts import Facts, defaults

TITLES = {"data": "images", "network": "networks"}


def escaped(text: object) -> str:
    """Text for use between tags and in quoted attributes."""
    return html.escape(str(text))


def growth_table(growth: list[dict]) -> str:
    """The growth log as a table: kimg, action and reason, with the numbers behind each decision."""
    if not growth:
        return '<p class="none">None yet: the first resolution is being trained.</p>'
    rows = "".join(_growth_row(entry) for entry in growth)
    head = "<tr><th scope=col class=number>kimg</th><th scope=col>What</th><th scope=col>Why</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _growth_row(entry: dict) -> str:
    numbers = entry.get("numbers") if isinstance(entry.get("numbers"), dict) else {}
    said = ", ".join(f"{key.replace('_', ' ')} {_number(value)}" for key, value in numbers.items())
    below = f"<small>{escaped(said)}</small>" if said else ""
    why = f"{escaped(entry.get('reason', ''))}{below}"
    when = f"<td class=number>{entry['nimg'] / 1000:,.1f}</td>"
    return f'<tr class="{escaped(entry["action"])}">{when}<td>{escaped(_what(entry))}</td><td>{why}</td></tr>'


def _what(entry: dict) -> str:
    before, after = entry.get("from_res"), entry.get("to_res")
    names = {"grow": f"{before} to {after} px", "rollback": "rollback to here", "stop": f"end at {after} px"}
    return names.get(entry["action"], str(entry["action"]))


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def command_blocks(commands: list[Command]) -> str:
    """Each command with its name and a button that copies it."""
    if not commands:
        return '<p class="none">Nothing is saved yet.</p>'
    return "".join(_block(number, command) for number, command in enumerate(commands))


def _block(number: int, command: Command) -> str:
    button = f'<button type="button" class="copy" data-copies="command-{number}">Copy</button>'
    label = f'role="region" tabindex="0" aria-label="{escaped(command.name)}"'
    code = f'<pre {label}><code id="command-{number}">{escaped(command.text)}</code></pre>'
    return f'<div class="command"><h3>{escaped(command.name)}</h3>{button}{code}</div>'


def config_tables(facts: Facts) -> str:
    """All settings, those that differ from the preset marked, and the rest of config.json."""
    settings = facts.record.get("config")
    if not isinstance(settings, dict):
        return '<p class="none">There are no settings yet.</p>'
    usual = defaults(facts.config) if facts.config else {}
    others = {name: part for name, part in facts.record.items() if name != "config"}
    scalars = {name: part for name, part in (settings | others).items() if not isinstance(part, dict)}
    tables = [("start", scalars, {})]
    tables += [(TITLES.get(name, name), part, usual) for name, part in settings.items() if isinstance(part, dict)]
    tables += [(name, part, {}) for name, part in others.items() if isinstance(part, dict)]
    return "".join(_table(*table) for table in tables)


def _table(name: str, settings: dict, usual: dict[str, object]) -> str:
    """usual: the values of the preset, which rows with another value show too."""
    rows = "".join(_row(key, value, usual.get(key, value)) for key, value in settings.items())
    return f"<table><caption>{escaped(name.capitalize())}</caption><tbody>{rows}</tbody></table>"


def _row(name: str, value: object, usual: object) -> str:
    differs = _text(value) != _text(usual) and name != "out"
    note = f"<small>preset: {escaped(_text(usual))}</small>" if differs else ""
    kind = ' class="changed"' if differs else ""
    return f"<tr{kind}><th scope=row>{escaped(name)}</th><td>{escaped(_text(value))}{note}</td></tr>"


def _text(value: object) -> str:
    """A value as text; an empty one is a dash."""
    if value is None or value == [] or value == "":
        return "–"
    return str(value) if isinstance(value, (str, PerResolution)) else json.dumps(value)
