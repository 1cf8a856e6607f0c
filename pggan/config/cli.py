"""Command lines from dataclasses, and errors as one plain line. Imports nothing heavy: `--help` must be quick."""

import contextlib
import difflib
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import tyro

from pggan.config.per_resolution import PerResolution
from pggan.errors import Diverged, UserError, disk_full, plain, refuse_if
from pggan.system import SIGPIPE

Settings = TypeVar("Settings")
STARTED = time.monotonic()
RENAMED = {  # old flag: new flag
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
    "--pictures": "--builtin-images",  # bench.py limits
    "--parts": "--breakdown",  # bench.py train
}

# Limits how long OpenMP threads spin while they wait: beside another busy process, the default made training up to
# eight times slower on two cores. OpenMP reads this when torch is loaded, so it is set here, before that.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def since_start() -> float:
    """Returns the seconds since this process began, without the start of the interpreter. A budget counts these."""
    return time.monotonic() - STARTED


per_resolution = tyro.constructors.ConstructorRegistry()


@per_resolution.primitive_rule
def _per_resolution(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Tells tyro how to read and to show a PerResolution."""

    def read(words: list[str]) -> PerResolution:
        try:
            return PerResolution.parse(words[0])
        except UserError as error:
            raise ValueError(str(error)) from None

    if info.type is not PerResolution:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="RES:VALUE,...",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, PerResolution),
        str_from_instance=lambda value: [str(value)],
    )


def parse(
    kind: type[Settings], argv: list[str], default: Settings | None = None, prog: str | None = None, example: str = ""
) -> Settings:
    """Returns `argv` as a `kind`, a dataclass whose docstrings are the help.

    default: used in place of the defaults of the fields; example: printed below the help.
    Raises UserError with one line, which names the nearest flag; SystemExit after --help.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            value, unknown = _tyro(kind, argv, default, prog, return_unknown_args=True)
    except SystemExit as end:
        if not end.code:  # --help
            print(example, end="\n" if example else "")
            raise
        raise UserError(_one_line(complaint.getvalue())) from None
    if unknown:
        refuse_if("--" in argv, "flags after -- are not read: leave the -- out")
        raise UserError(_unknown(unknown[0], kind, default, prog))
    return value


def _tyro(kind: type[Settings], argv: list[str], default: Settings | None, prog: str | None, **more: bool) -> Settings:
    more |= {} if default is None else {"default": default}
    with per_resolution:
        return tyro.cli(kind, args=argv, prog=prog, config=(tyro.conf.OmitArgPrefixes,), **more)


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a command and ends the process with its exit code: 0, 2 bad input, 3 diverged, 128 + n on signal n."""
    _open_standard_files()
    sys.stdout.reconfigure(errors="replace")  # for names that the terminal cannot show
    if signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:
        signal.signal(signal.SIGTERM, lambda number, _: _end("terminated", 128 + number))  # training has its own
    try:
        main(sys.argv[1:])
    except (UserError, Diverged) as error:
        _end(str(error), 3 if isinstance(error, Diverged) else 2)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:  # the reader of the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + SIGPIPE)
    except OSError as error:
        if disk_full(error):
            _end(f"the disk is full ({error.filename or 'while writing'}): free some room and start it again", 2)
        if error.filename is None:  # a defect of the program
            raise
        _end(f"{error.filename}: {error.strerror}; see that the place is there and may be read and written", 2)


def _open_standard_files() -> None:
    """Opens the null device in place of stdin, stdout and stderr where these were closed by the parent process.

    Otherwise the next file to be opened would take that place, and get all messages.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def _end(message: str, code: int) -> None:
    print(f"error: {plain(message)}" if code < 128 else message, file=sys.stderr)
    sys.exit(code)


def _one_line(box: str) -> str:
    """Returns the text between the first two rules of tyro's framed message; in ASCII these are hyphens."""
    parts = re.split(r"^\s*(?:─|-{4}).*$", re.sub(r"[│╭╮╰╯]", " ", box), flags=re.MULTILINE)
    said = " ".join(parts[min(1, len(parts) - 1)].split()).rstrip(".")
    said = re.sub(
        r"Error parsing (\S+): no type matching \{None\}\|(\S+) .* from \[(.*?)\].*", r"\1 takes \2, not \3", said
    )
    return said.removeprefix("Error parsing ") + "; --help lists all flags"


def _unknown(word: str, kind: type, default: object, prog: str | None) -> str:
    """Returns the message for a word that is no flag."""
    flag = word.partition("=")[0]
    spelled = flag.replace("_", "-")
    new = RENAMED.get(spelled) or RENAMED.get(spelled.replace("--no-", "--", 1), "").replace("--", "--no-", 1)
    if new:
        return f"{flag} has been renamed: use {new}"
    if not word.startswith("-"):
        return f"'{word}' belongs to no flag; --help lists all flags"
    page = io.StringIO()
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        _tyro(kind, ["--help"], default, prog)
    known = set(re.findall(r"--[a-z][a-z0-9-]*", page.getvalue()))
    nearest = difflib.get_close_matches(spelled, known, n=1, cutoff=0.6)
    hint = f"; did you mean {nearest[0]}?" if nearest else "; --help lists all flags"
    return f"there is no flag {word}{hint}"
