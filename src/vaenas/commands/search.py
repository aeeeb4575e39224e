"""`vaenas search`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaenas.commands.options import OF_IMAGES, RUN, begin, resume_command, setting_options, with_options
from vaenas.commands.signals import to_its_end
from vaenas.runs.config import SearchConfig

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


@with_options(RUN | setting_options(SearchConfig, PANELS))
def search(**options: Any) -> None:
    """Search for the best architecture.

    Every setting may stand in the YAML file, too: --help-all shows them.
    """
    settings, place = begin(SearchConfig, "search", name_of, **options)
    search_to_its_end(settings, place, resume_command("search", place.path))


def name_of(settings: SearchConfig) -> str:
    """What the folder of such a run is called."""
    method = "" if settings.method == "one-shot" else f"-{settings.method}"
    source = Path(settings.data.source).name
    return f"{settings.space}{method}-{settings.sampler_name}-{source}-seed{settings.seed}"


def search_to_its_end(
    settings: SearchConfig, place: "NewRun | RunDirectory", again: str, whole: "RunDirectory | None" = None
) -> None:
    """Searches and reports; `whole`, the folder of `vaenas run`, is locked as soon as it is there."""
    from vaenas.commands.progress import SearchProgress, print_result
    from vaenas.parallel import is_main
    from vaenas.report import write_report
    from vaenas.runs.directory import NewRun
    from vaenas.runs.search_run import SearchRun

    def make() -> SearchRun:
        made = SearchRun(settings, place)
        if whole is not None and isinstance(place, NewRun):
            whole.lock()
        return made

    if isinstance(place, NewRun) or not place.ended:
        to_its_end(again, make, SearchProgress)
    if is_main():
        print_result(place, write_report(place.path))
