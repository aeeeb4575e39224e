"""What is in a folder of images, `train/<class>/*` and perhaps `val/<class>/*`: each file once; what is left out."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vaenas.data.decode import ENDINGS
from vaenas.errors import UserError

TEST_PARTS = ("val", "valid", "validation", "test")  # the first that is there is the test part
# What systems leave in folders, beside names that begin with a dot.
LITTER = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "lost+found", "@eadir"}
AGAIN = "by links a second time"


class _Entry(NamedTuple):
    """Something in a folder."""

    path: str
    real: str  # path without links
    linked: bool  # links lead there from its part of the data
    is_folder: bool


Labelled = list[tuple[_Entry, int]]
Files = dict[str, list[tuple[Path, int]]]
"""Of "train" and, where there is one, of the test part, each with its label, class by class."""


def list_folder(root: Path) -> tuple[Path, tuple[str, ...], Files, tuple[str, ...]]:
    """The folder without links, its classes, its files, and what to say of it.

    Names with a dot in front and `LITTER` are left out. Links are followed, but each file is taken once.

    Raises `UserError` for a folder that is not laid out so, fewer than two classes, an empty class, other classes in
    the test part than in `train`.
    """
    root = root.expanduser().resolve()
    train = root / "train"
    if not train.is_dir():
        raise UserError(f"{train}: no such folder; put the images into {train}/<class>/")
    left_out: Counter[str] = Counter()
    try:
        folders = {os.path.basename(entry.path) for entry in _entries(_top(root)) if entry.is_folder}
        candidates = (part for part in TEST_PARTS if part in folders)
        test = next((p for p in candidates if any(entry.is_folder for entry in _entries(_top(root / p)))), None)
        found = {part: _list_part(root / part, left_out) for part in ("train", test) if part is not None}
    except OSError as error:
        raise UserError(f"{error.filename}: cannot read the folder: {error.strerror}") from error
    files = _each_once({part: images for part, (_, images) in found.items()}, left_out)
    for part, (names, _) in found.items():
        why = f"it has no images of its own ({' '.join(ENDINGS)})"
        raise_if_empty(root / part, names, {label for _, label in files[part]}, why)
    classes = found["train"][0]
    if len(classes) < 2:
        raise UserError(f"{train}: {len(classes)} class folders, at least 2 are needed: {train}/<class>/<image>")
    if test is not None and found[test][0] != classes:
        extra, missing = sorted({*found[test][0]} - {*classes}), sorted({*classes} - {*found[test][0]})
        raise UserError(
            f"{root / test}: its classes differ from those of train: extra {extra}, missing {missing}; make them the "
            f"same, or remove {test}"
        )
    notes = [f"{test}/ is the test part"] if test not in (None, "val") else []
    if unused := sorted(folders - {"train", test}):
        notes.append(f"folders beside train/ that are not used: {_some([f'{ascii(name)[1:-1]}/' for name in unused])}")
    if left_out.total():
        notes.append(f"left out: {_some([f'{n} {what}' for what, n in left_out.most_common() if n])}")
    return root, classes, files, tuple(notes)


def raise_if_empty(part: Path, classes: tuple[str, ...], labels: set[int], why: str) -> None:
    """Raises `UserError` for a class that is not among the labels of a part's images."""
    for label, name in enumerate(classes):
        if label not in labels:
            raise UserError(f"{part / name}: {why}; add some, or remove the class")


def _some(items: list[str], most: int = 8) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def _top(folder: Path) -> _Entry:
    return _Entry(str(folder), os.path.realpath(folder), False, True)


def _entries(folder: _Entry, left_out: Counter[str] | None = None) -> Iterator[_Entry]:
    """What is in a folder, in the order of names, without the systems' litter, which is counted."""
    with os.scandir(folder.path) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.name.casefold() in LITTER:
            if left_out is not None:
                left_out["hidden or the system's own"] += 1
            continue
        link = entry.is_symlink()
        yield _Entry(
            entry.path,
            os.path.realpath(entry.path) if link else os.path.join(folder.real, entry.name),
            folder.linked or link,
            os.path.isdir(entry.path) if link else entry.is_dir(follow_symlinks=False),
        )


def _list_part(part: Path, left_out: Counter[str]) -> tuple[tuple[str, ...], Labelled]:
    """The classes, sorted, and each image with its label, class by class; `left_out` counts the rest."""
    entries = [*_entries(_top(part), left_out)]
    left_out.update(f"{_ending(entry.path)} outside the class folders" for entry in entries if not entry.is_folder)
    classes, images = [], []
    for label, folder in enumerate(entry for entry in entries if entry.is_folder):
        name = os.path.basename(folder.path)
        if not name.isprintable():
            raise UserError(f"{part}: the class {name!r} has characters that cannot be printed; rename its folder")
        classes.append(name)
        files = sorted(_files_below(folder, left_out), key=lambda entry: os.path.split(entry.path))
        images += [(entry, label) for entry in files if entry.path.lower().endswith(ENDINGS)]
        left_out.update(_ending(entry.path) for entry in files if not entry.path.lower().endswith(ENDINGS))
    return tuple(classes), images


def _ending(path: str) -> str:
    ending = os.path.splitext(path)[1].lower()
    return ending if ending.isprintable() and 1 < len(ending) <= 10 else "of no known kind"


def _files_below(folder: _Entry, left_out: Counter[str]) -> Iterator[_Entry]:
    """All files; each real folder is entered once, by a way without links if there is one."""
    entered, folders = set(), [folder]
    linked: list[_Entry] = []
    while folders or linked:
        here = (folders or linked).pop()
        if here.real in entered:
            left_out[AGAIN] += 1
            continue
        entered.add(here.real)
        for entry in _entries(here, left_out):
            if entry.is_folder:
                (linked if entry.linked else folders).append(entry)
            else:
                yield entry


def _each_once(found: dict[str, Labelled], left_out: Counter[str]) -> Files:
    """Each real file once, where it is itself rather than a link: none is in two classes, or trains and tests."""
    place: dict[str, str] = {}
    for entry in sorted((entry for listed in found.values() for entry, _ in listed), key=lambda entry: entry.linked):
        place.setdefault(entry.real, entry.path)
    files = {
        part: [(Path(entry.path), label) for entry, label in listed if place[entry.real] == entry.path]
        for part, listed in found.items()
    }
    left_out[AGAIN] += sum(map(len, found.values())) - sum(map(len, files.values()))
    return files
