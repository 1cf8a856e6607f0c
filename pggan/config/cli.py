"""Command lines from dataclasses, and errors as one plain line. Imports nothing heavy: `--help` must be quick."""

import contextlib
import difflib
import io
import os
import re
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import tyro

from pggan.config.per_resolution import PerResolution
from pggan.errors import Diverged, UserError, disk_full
from pggan.system import SIGPIPE

Settings = TypeVar("Settings")
STARTED = time.monotonic()


def since_start() -> float:
    """Seconds since this process began, give or take the start of the interpreter: what a budget counts."""
    return time.monotonic() - STARTED


# Threads that wait may spin for microseconds, not longer: beside one other busy process, spinning on as is the default
# made training up to eight times slower on two cores. OpenMP reads this when torch is loaded, so it stands before that.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


per_resolution = tyro.constructors.ConstructorRegistry()


@per_resolution.primitive_rule
def _per_resolution(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Tells tyro how to read and to show a PerResolution."""

    def read(words: list[str]) -> PerResolution:
        try:
            return PerResolution.parse(words[0])
        except UserError as error:
            raise ValueError(str(error)) from None

    return (
        info.type is PerResolution
        and tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="RES:VALUE,...",
            instance_from_str=read,
            is_instance=lambda value: isinstance(value, PerResolution),
            str_from_instance=lambda value: [str(value)],
        )
    ) or None


def parse(kind: type[Settings], argv: list[str], default: Settings | None = None, prog: str | None = None) -> Settings:
    """`argv` as a `kind`, whose docstrings are the help. Raises UserError with one line, the nearest flag named."""
    complaint = io.StringIO()
    more = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint), per_resolution:
            value, unknown = tyro.cli(
                kind, args=argv, prog=prog, return_unknown_args=True, config=(tyro.conf.OmitArgPrefixes,), **more
            )
    except SystemExit as end:
        if not end.code:  # --help
            raise
        raise UserError(_one_line(complaint.getvalue())) from None
    if unknown:
        raise UserError(_unknown(unknown[0], kind, default, prog))
    return value


def check_writable(flag: str, path: str | None) -> None:
    """Raises UserError when a file that is going to be written has no folder to be in: before the work is done."""
    folder = os.path.dirname(os.path.abspath(os.path.expanduser(path or "here")))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise UserError(f"{flag} {path} cannot be written: there is no folder {folder} that may be written to")


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command and ends the process with its exit code: 0, 2 bad input, 3 diverged, 128 + n on signal n."""
    if sys.stdout is None:  # closed by whoever started this
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    sys.stdout.reconfigure(errors="replace")  # a name that the terminal cannot show is no reason to stop
    try:
        main(sys.argv[1:])
    except UserError as error:
        _end(str(error), 2)
    except Diverged as error:
        _end(str(error), 3)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:  # whoever read the output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + SIGPIPE)
    except OSError as error:
        if disk_full(error):
            _end(f"the disk is full ({error.filename or 'while writing'}): free some room and start it again", 2)
        if error.filename is None:  # no file was to blame
            raise
        _end(f"{error.filename}: {error.strerror}; see that the place is there and may be read and written", 2)


def _end(message: str, code: int) -> None:
    print(f"error: {' '.join(message.split())}" if code != 130 else message, file=sys.stderr)
    sys.exit(code)


def _one_line(box: str) -> str:
    """What stands between the first two rules of tyro's framed message; where the output is ASCII they are hyphens."""
    parts = re.split(r"^\s*(?:─|-{4}).*$", re.sub(r"[│╭╮╰╯]", " ", box), flags=re.MULTILINE)
    said = " ".join(parts[min(1, len(parts) - 1)].split()).rstrip(".")
    said = re.sub(
        r"Error parsing (\S+): no type matching \{None\}\|(\S+) .* from \[(.*?)\].*", r"\1 takes \2, not \3", said
    )
    return said + "; --help lists all flags"


RENAMED = {  # old flag: its name from now on
    "--augment-control": "--ada",
    "--augment-target": "--ada-target",
    "--augment-kimg": "--ada-kimg",
    "--augment-most": "--ada-max",
    "--penalty": "--penalty-weight",
    "--penalty-every": "--penalty-interval",
    "--ema-ramp": "--ema-rampup",
    "--measure-kimg": "--eval-kimg",
    "--measure-num": "--eval-samples",
    "--builtin-pictures": "--builtin-images",
}


def _unknown(word: str, kind: type, default: object, prog: str | None) -> str:
    """What to say of a word that is no flag."""
    flag = word.partition("=")[0]
    if flag in RENAMED:
        return f"{flag} has been renamed: use {RENAMED[flag]}"
    if not word.startswith("-"):
        return f"'{word}' belongs to no flag; --help lists all flags"
    page = io.StringIO()
    more = {} if default is None else {"default": default}
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit), per_resolution:
        tyro.cli(kind, args=["--help"], prog=prog, config=(tyro.conf.OmitArgPrefixes,), **more)
    known = set(re.findall(r"--[a-z][a-z0-9-]*", page.getvalue()))
    nearest = difflib.get_close_matches(word.partition("=")[0].replace("_", "-"), known, n=1, cutoff=0.6)
    hint = f"; did you mean {nearest[0]}?" if nearest else "; --help lists all flags"
    return f"there is no flag {word}{hint}"
