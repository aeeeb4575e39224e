"""`vaenas search`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaenas.commands.options import (
    OF_IMAGES,
    Config,
    Output,
    Resume,
    free_folder,
    given,
    keep_folder,
    resume_command,
    with_settings,
)
from vaenas.commands.signals import to_its_end
from vaenas.runs.config import SearchConfig
from vaenas.runs.settings import make, resumed

if TYPE_CHECKING:
    from vaenas.runs.directory import NewRun, RunDirectory

PANELS = {
    "Search": (
        "preset", "method", "sampler", "supernet.epochs", "supernet.batch_size", "supernet.learning_rate", "table.path",
    ),
    "Space and limits": (
        "space", "space_file", "network.width", "network.layers",
        "constraints.max_flops", "constraints.max_params", "constraints.max_latency",
    ),
    "Images": OF_IMAGES,
    "Machine": ("seed", "machine.device"),
}  # fmt: skip


def search(output: Output = None, config: Config = None, resume: Resume = None, **options: Any) -> None:
    """Search for the best architecture.

    Every setting may stand in the YAML file, too: --help-all shows them.
    """
    from vaenas.runs.directory import NewRun, RunDirectory

    if resume is not None:
        keep_folder(resume, output)
        directory = RunDirectory.open(resume, "search")
        settings, folder = resumed(SearchConfig, resume, given(options), config), resume
    else:
        settings = make(SearchConfig, given(options), config)
        folder = output or free_folder(name_of(settings))
        directory = NewRun(folder)
    search_to_its_end(settings, directory, resume_command("search", folder))


with_settings(search, SearchConfig, PANELS)


def name_of(settings: SearchConfig) -> str:
    """What the folder of such a run is called."""
    method = "" if settings.method == "one-shot" else f"-{settings.method}"
    source = Path(settings.data.source).name
    return f"{settings.space}{method}-{settings.sampler_name}-{source}-seed{settings.seed}"


def search_to_its_end(
    settings: SearchConfig,
    directory: "NewRun | RunDirectory",
    again: str,
    whole: "RunDirectory | None" = None,
) -> None:
    """Searches.

    Args:
        again: what to call to go on after a stop.
        whole: the folder of `vaenas run`, locked with the search's own as soon as both are there.
    """
    from vaenas.commands.progress import SearchProgress, print_result
    from vaenas.parallel import is_main
    from vaenas.report import write_report
    from vaenas.runs.directory import NewRun
    from vaenas.runs.search_run import SearchRun

    def begin() -> SearchRun:
        made = SearchRun(settings, directory)
        if whole is not None and isinstance(directory, NewRun):
            whole.lock()
        return made

    if isinstance(directory, NewRun) or not directory.ended:
        to_its_end(again, begin, SearchProgress)
    if is_main():
        print_result(directory, write_report(directory.path))
