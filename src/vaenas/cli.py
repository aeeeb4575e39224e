"""The command line: wires the commands, and turns what goes wrong into one line and an exit code."""

import errno
import os
import signal
import sys
from typing import Annotated

import typer

import vaenas
from vaenas.commands import bench
from vaenas.commands.evaluate import evaluate
from vaenas.commands.export import export
from vaenas.commands.options import SettingsCommand
from vaenas.commands.rank import choose, rank
from vaenas.commands.report import report
from vaenas.commands.run import run
from vaenas.commands.search import search
from vaenas.commands.show import draw, show
from vaenas.commands.signals import INTERRUPTED, Interrupted
from vaenas.commands.train import train
from vaenas.errors import UserError, out_of_memory

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Neural architecture search with a learned sampler.",
)  # fmt: skip
for command in (search, run, train):
    app.command(cls=SettingsCommand)(command)
app.command("eval", cls=SettingsCommand)(evaluate)
for command in (export, rank, draw, show, report):
    app.command()(command)
app.command(cls=SettingsCommand)(choose)
app.add_typer(bench.app, name="bench")

# Typer brings a click of its own, or uses the one that is installed: the base of its errors, whichever that is.
ClickException: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

# A full or broken disk, met where no message of its own was foreseen; other errors of files are bugs.
THE_SYSTEMS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENFILE}


def main() -> None:
    """Entry point of `vaenas`. Exit code 2 and one line for what the user can fix."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()  # here, where a full disk or a closed pipe has its message
    except UserError as error:
        code = _fail(str(error)) if _speaks(error) else 2
    except ClickException as error:
        code = _fail(error.format_message())  # pyright: ignore[reportAttributeAccessIssue]  # click's
    except BrokenPipeError:  # who read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter would complain at its end
        code = 141
    except Interrupted as interrupted:
        code = INTERRUPTED[interrupted.number]
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED[signal.SIGINT]
    except (MemoryError, RuntimeError, OSError) as error:
        if out_of_memory(error):
            code = _fail(f"out of memory ({error}): lower --batch-size, --width, --image-size or --workers")
        elif isinstance(error, OSError) and error.errno in THE_SYSTEMS:
            code = _fail(f"{error.filename or 'cannot write the output'}: {error.strerror}")
        else:
            raise
    sys.exit(code or 0)


def _speaks(error: UserError) -> bool:
    if "RANK" not in os.environ:  # a process alone: torch need not be imported to say what is wrong
        return True
    from vaenas.parallel import speaks

    return speaks(error)


def _fail(message: str) -> int:
    print("vaenas: " + " ".join(message.split()), file=sys.stderr)
    return 2


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(vaenas.__version__)
        raise typer.Exit
