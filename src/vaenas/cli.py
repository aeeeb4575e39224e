"""The command line: parses, wires the rooms, prints."""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import vaenas
from vaenas.architectures import draw, show
from vaenas.bench.commands import app as bench
from vaenas.errors import UserError, out_of_memory
from vaenas.export.export import ENDINGS
from vaenas.network_commands import evaluate, export, train
from vaenas.one_command import PLAN, Plan, finish, open_run, with_widest_fit
from vaenas.parallel import is_main, speaks
from vaenas.runs.command import (
    INTERRUPTED,
    Interrupted,
    free_folder,
    resume_command,
    to_its_end,
    unchanged,
    with_settings,
)
from vaenas.runs.config import SearchConfig, make_config
from vaenas.runs.directory import NewRun, RunDirectory
from vaenas.training.recipes import RECIPES

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Neural architecture search with a learned sampler.",
)  # fmt: skip
app.add_typer(bench, name="bench")

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
        code = _fail(str(error), speaks(error))
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


def _fail(message: str, speak: bool = True) -> int:
    if speak:
        print("vaenas: " + " ".join(message.split()), file=sys.stderr)
    return 2


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(vaenas.__version__)
        raise typer.Exit


def search(
    output: Annotated[Path | None, typer.Option(help="Run directory (default: a new one under runs/).")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; options given here come first.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run.")] = None,
    **options: Any,
) -> None:
    """Search for the best architecture; every setting may stand in the YAML file, too."""
    given = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        if output is not None and output != resume:
            raise UserError(f"--output {output}: a resumed run stays in its folder, {resume}; leave --output out")
        directory = RunDirectory.open(resume, "search")
        _run(unchanged(directory, given, config, make_config), directory, resume_command("search", resume))
    else:
        settings = make_config(given, config)
        folder = output or _free_folder(settings)
        _run(settings, NewRun(folder), resume_command("search", folder))


def run(
    output: Annotated[Path | None, typer.Option(help="Folder (default: a new one under runs/).")] = None,
    recipe: Annotated[str, typer.Option(metavar="|".join(RECIPES), help="How the found network is trained.")] = "quick",
    train_epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of that training (the recipe's).")] = None,
    formats: Annotated[str, typer.Option(help=f"What to export, with commas between: {', '.join(ENDINGS)}.")] = "onnx",
    config: Annotated[Path | None, typer.Option(help="YAML file of the search's settings.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this one.")] = None,
    **options: Any,
) -> None:
    """Search, train, test, export, report: from images to a network in use.

    Without --width, the widest network of which half the space keeps the limits on multiply-adds and parameters.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if resume is not None:
        if output not in (None, resume):
            raise UserError(f"--output {output}: a resumed run stays in its folder, {resume}; leave --output out")
        (whole, plan), folder = open_run(resume), resume
        plan.keep(resume, Plan(recipe=recipe, train_epochs=train_epochs, formats=formats))
        directory = RunDirectory.open(resume / "search", "search")
        settings = unchanged(directory, given, config, make_config)
    else:
        plan = Plan(recipe=recipe, train_epochs=train_epochs, formats=formats)
        settings = with_widest_fit(make_config(given, config), given)
        plan = plan.fitted(settings)
        folder = output or _free_folder(settings, "run-")
        whole, directory = RunDirectory(folder), NewRun(folder, "search", {PLAN: plan.to_yaml()})
    # All that can be wrong is said before anything is begun.
    plan.check(settings)
    _run(settings, directory, resume_command("run", folder), whole)
    finish(plan, folder, resume_command("run", folder))


with_settings(search, SearchConfig)
app.command()(search)
with_settings(run, SearchConfig)
app.command()(run)
app.command()(train)
app.command("eval")(evaluate)
app.command()(export)
app.command()(draw)
app.command()(show)


def _free_folder(settings: SearchConfig, prefix: str = "") -> Path:
    method = "" if settings.method == "one-shot" else f"-{settings.method}"
    name = f"{prefix}{settings.space}{method}-{settings.sampler}-{Path(settings.data).name}-seed{settings.seed}"
    return free_folder(name)


def _run(
    settings: SearchConfig, directory: NewRun | RunDirectory, again: str, whole: RunDirectory | None = None
) -> None:
    """Searches.

    Args:
        again: what to call to go on after a stop.
        whole: the folder of `vaenas run`, locked with the search's own as soon as both are there.
    """
    from vaenas.commands.progress import SearchProgress, print_result
    from vaenas.report import write_report
    from vaenas.runs.search_run import SearchRun

    def make() -> SearchRun:
        made = SearchRun(settings, directory)
        if whole is not None and isinstance(directory, NewRun):
            whole.lock()
        return made

    if isinstance(directory, NewRun) or not directory.ended:
        to_its_end(again, make, SearchProgress)
    if is_main():
        folder = directory.path if isinstance(directory, RunDirectory) else directory.folder / directory.inside
        print_result(RunDirectory(folder), write_report(folder))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    against: Annotated[
        list[Path] | None, typer.Option(help="Another gradient-based run, to compare the diversity with.")
    ] = None,
) -> None:
    """Write RUN/report.html, one self-contained page."""
    from vaenas.report import write_report

    print(write_report(run, against or ()))


if __name__ == "__main__":
    main()
