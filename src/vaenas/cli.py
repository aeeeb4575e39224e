"""The command line: parses, wires the rooms, prints."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

import vaenas
from vaenas.architectures import draw, show
from vaenas.bench.commands import app as bench
from vaenas.errors import UserError, out_of_memory
from vaenas.export.export import ENDINGS
from vaenas.network_commands import evaluate, export, train
from vaenas.one_command import Plan, finish, read_plan, with_widest_fit, write_plan
from vaenas.parallel import is_main, speaks
from vaenas.runs.command import INTERRUPTED, Interrupted, resume_command, to_its_end, unchanged, with_settings
from vaenas.runs.config import SearchConfig, make_config
from vaenas.training.recipes import RECIPES

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Neural architecture search with a learned sampler.",
)  # fmt: skip
app.add_typer(bench, name="bench")

# Typer brings a click of its own, or uses the one that is installed: the base of its errors, whichever that is.
ClickException: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> None:
    """Entry point of `vaenas`. Exit code 2 and one line for what the user can mend."""
    # `nohup` has a process ignore a signal, and it stays so.
    handlers = {n: h for n in INTERRUPTED if (h := signal.getsignal(n)) is not signal.SIG_IGN}
    for number in handlers:
        signal.signal(number, _interrupt)  # runs save first
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        code = _fail(str(error), speaks(error))
    except ClickException as error:
        code = _fail(error.format_message())  # pyright: ignore[reportAttributeAccessIssue]  # click's
    except Interrupted as interrupted:
        code = INTERRUPTED[interrupted.number]
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED[signal.SIGINT]
    except (MemoryError, RuntimeError, OSError) as error:
        if not out_of_memory(error):
            raise
        code = _fail(f"out of memory ({error}): lower --batch-size, --width, --image-size or --workers")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    sys.exit(code or 0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


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
        settings = unchanged(resume, given, config, make_config)
        _run(settings, resume, resumes=True)
    else:
        settings = make_config(given, config)
        _run(settings, output or _free_folder(settings), resumes=False)


def run(
    output: Annotated[Path | None, typer.Option(help="Folder (default: a new one under runs/).")] = None,
    recipe: Annotated[
        str, typer.Option(metavar="|".join(RECIPES), help="How the found network is trained.")
    ] = Plan.recipe,
    train_epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of that training (the recipe's).")] = None,
    formats: Annotated[
        str, typer.Option(help=f"What to export, with commas between: {', '.join(ENDINGS)}.")
    ] = Plan.formats,
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
        plan = read_plan(resume)
        plan.keep(resume, Plan(recipe, train_epochs, formats))
        settings, folder = unchanged(resume / "search", given, config, make_config), resume
    else:
        plan = Plan(recipe, train_epochs, formats)
        settings = with_widest_fit(make_config(given, config), given)
        folder = output or _free_folder(settings, "run-")
    # All that can be wrong is said before anything is begun.
    plan.check(settings)
    begun = None if resume else lambda: write_plan(plan, folder)
    _run(settings, folder / "search", resume is not None, resume_command("run", folder), begun)
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
    candidates = [Path("runs", name), *(Path("runs", f"{name}-{i}") for i in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


def _run(
    settings: SearchConfig, directory: Path, resumes: bool, again: str = "", begun: Callable[[], None] | None = None
) -> None:
    """Searches; `again` is what to call to go on after a stop, `begun` is called once the directory is there."""
    from vaenas.progress import SearchProgress, print_result
    from vaenas.report import write_report
    from vaenas.runs.directory import RunDirectory
    from vaenas.runs.search_run import SearchRun

    def make() -> SearchRun:
        made = SearchRun(settings, directory, resumes)
        if begun is not None and is_main():
            begun()
        return made

    to_its_end(again or resume_command("search", directory), make, SearchProgress, directory, resumes)
    if is_main():
        print_result(RunDirectory(directory), write_report(directory))


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
