"""Which importer a file needs."""

from pathlib import Path

from vaenas.bench import import_nasbench101, import_sequences
from vaenas.errors import UserError
from vaenas.evaluation.tabular import TabularBenchmark


def import_table(
    path: Path,
    *,
    dataset: str | None = None,
    slots: list[str] | None = None,
    score: str | None = None,
    test: str | None = None,
) -> TabularBenchmark:
    """A table from a file, by how its name ends.

    Args:
        path: NAS-Bench-101 as `.tfrecord` or `.parquet`; NAS-Bench-Macro as `.json`; NAS-Bench-201 as `.csv`; any other
            `.csv` with `slots` and `score`.
        dataset: NAS-Bench-201 only, one of `import_sequences.DATASETS`; by default cifar10.
        slots, score, test: columns of a user's own CSV, see `import_sequences.from_csv`.

    Raises:
        UserError: the file is of no known kind, not whole, or has other content; an option does not fit it.
    """
    kind = path.suffix.lower()
    own = slots is not None or score is not None or test is not None
    if own and kind != ".csv":
        raise UserError(f"{path}: --slots, --score and --test are for a CSV of your own; leave them out")
    if dataset is not None and (own or kind != ".csv"):
        raise UserError(f"--dataset {dataset}: only for NAS-Bench-201's CSV; leave it out")
    if own and (not slots or score is None):
        raise UserError(f"{path}: a CSV of your own needs both --slots a,b,c and --score column")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: cannot read it: not a regular file; check the path")
    try:
        if kind == ".tfrecord":
            return import_nasbench101.from_tfrecord(path)
        if kind == ".parquet":
            return import_nasbench101.from_parquet(path)
        if kind == ".json":
            return import_sequences.from_nasbench_macro(path)
        if slots and score is not None:
            return import_sequences.from_csv(path, slots, score, test)
        if kind == ".csv":
            return import_sequences.from_nasbench201(path, dataset or "cifar10")
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}; check the path") from error
    raise UserError(f"{path}: unknown kind of file; known are .tfrecord, .parquet, .json and .csv")
