"""The command line: parses, wires the rooms, prints."""

import inspect
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

import vaenas
from vaenas.architectures import draw, show
from vaenas.bench.commands import app as bench
from vaenas.errors import UserError
from vaenas.runs.config import SearchConfig, make_config, option, read_yaml

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Neural architecture search with a learned sampler.",
)  # fmt: skip
app.add_typer(bench, name="bench")

# Typer brings a click of its own, or uses the one that is installed: the base of its errors, whichever that is.
ClickException: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
INTERRUPTED: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Interrupted(BaseException):
    """Stopped by a signal at once; what is on disk is whole, since every file is written so."""

    def __init__(self, number: int) -> None:
        self.number = number


def main() -> None:
    """Entry point of `vaenas`. Exit code 2 and one line for what the user can mend."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        code = _fail(str(error))
    except ClickException as error:
        code = _fail(error.format_message())  # pyright: ignore[reportAttributeAccessIssue]  # click's
    except Interrupted as interrupted:
        code = INTERRUPTED[interrupted.number]
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED[signal.SIGINT]
    sys.exit(code or 0)


def _fail(message: str) -> int:
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
        settings = _unchanged(resume, given, config)
        _run(settings, resume, resumes=True)
    else:
        settings = make_config(given, config)
        _run(settings, output or _free_folder(settings), resumes=False)


def _signature() -> inspect.Signature:
    """The options of `search`: its own and one for each setting, so that settings are written down only once."""
    parameters = [p for p in inspect.signature(search).parameters.values() if p.kind is not p.VAR_KEYWORD]
    for name, field in SearchConfig.model_fields.items():
        shown = "" if field.default is None else f" [{field.default}]"
        kind = bool if field.annotation is bool else str
        allowed = "|".join(get_args(field.annotation)) if get_origin(field.annotation) is Literal else name.upper()
        annotation = Annotated[kind | None, typer.Option(help=f"{field.description}{shown}", metavar=allowed)]
        if kind is bool:
            annotation = Annotated[
                bool | None, typer.Option(f"{option(name)}/{option(f'no_{name}')}", help=f"{field.description}")
            ]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return inspect.Signature(parameters)


search.__signature__ = _signature()  # type: ignore[attr-defined]  # typer reads the options from here
app.command()(search)
app.command()(draw)
app.command()(show)


def _unchanged(resume: Path, given: dict[str, Any], file: Path | None) -> SearchConfig:
    """The settings of the run to resume; raises `UserError` if the user asks for others."""
    from vaenas.runs.directory import RunDirectory

    settings = RunDirectory.open(resume).config()
    if given or file:
        wanted = make_config({**settings.model_dump(), **(read_yaml(file) if file else {}), **given})
        for name, value in wanted.model_dump().items():
            if value != getattr(settings, name):
                raise UserError(
                    f"{option(name)} {value}: the run in {resume} has {getattr(settings, name)}; a resumed run keeps "
                    f"its settings: leave the option out, or begin a new run"
                )
    return settings


def _free_folder(settings: SearchConfig) -> Path:
    method = "" if settings.method == "one-shot" else f"-{settings.method}"
    name = f"{settings.space}{method}-{settings.sampler}-{Path(settings.data).name}-seed{settings.seed}"
    candidates = [Path("runs", name), *(Path("runs", f"{name}-{i}") for i in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


def _run(settings: SearchConfig, directory: Path, resumes: bool) -> None:
    searching, stopped_by = False, 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped_by
        if stopped_by or not searching:  # asked twice, or nothing to save yet: at once
            raise Interrupted(number)
        stopped_by = number
        print("stopping and saving; once more to stop at once", file=sys.stderr)

    previous = {number: signal.signal(number, stop) for number in INTERRUPTED}
    try:
        from vaenas.progress import SearchProgress, print_result
        from vaenas.report import write_report
        from vaenas.runs.directory import RunDirectory
        from vaenas.runs.search_run import SearchRun

        finished = resumes and RunDirectory.open(directory).result() is not None
        if not finished:
            run = SearchRun(settings, directory, resumes)
            with SearchProgress(run) as progress:
                searching = True
                for record in run.records():
                    progress.show(record)
                    if stopped_by:
                        run.save()
                        break
            searching = False
            if stopped_by and run.directory.result() is None:
                again = f"vaenas search --resume {shlex.quote(str(directory))}"
                print(f"stopped and saved; go on with: {again}", file=sys.stderr)
                raise typer.Exit(INTERRUPTED[stopped_by])
        print_result(RunDirectory(directory), write_report(directory))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
