"""A space of the user's own in a Python file, which registers it when it is run: `--space-file`."""

import hashlib
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from vaenas.data.cache import cache_dir
from vaenas.documents import read_yaml, regular_file
from vaenas.errors import UserError
from vaenas.networks.image_space import space_class, space_names

LARGEST = 2**20  # bytes
_loaded: dict[str, tuple[str, ...]] = {}  # by the digest of the content: the spaces that it registers


def load_space_file(path: Path, given: bool) -> tuple[str, ...]:
    """Runs a file that registers spaces, once for each content; gives their names.

    Args:
        given: whether the user names the file now, and so trusts it. What a run's folder names may be anyone's: it is
            run only if its content was given by this user before.

    Raises:
        UserError: there is no such file, it was never given, it fails, or it registers no space.
    """
    content = _content(path)
    digest = hashlib.sha256(content).hexdigest()
    note = cache_dir() / "space-files" / digest
    if given:
        with suppress(OSError):  # without a cache it must be given each time
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()
    elif digest not in _loaded and not note.is_file():
        raise UserError(
            f"{path}: the run's space is in this file, which is a program and as it is now was never given here: look "
            f"at it, and add --space-file {path}"
        )
    if digest not in _loaded:
        _loaded[digest] = _run(path, content, f"vaenas_space_{digest[:16]}")
    return _loaded[digest]


def _content(path: Path) -> bytes:
    with regular_file(path) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise UserError(f"--space-file {path}: larger than {LARGEST >> 20} MiB; give a Python file")
    return content


def _run(path: Path, content: bytes, name: str) -> tuple[str, ...]:
    before = {name: space_class(name) for name in space_names()}
    module = sys.modules[name] = ModuleType(name)  # where dataclasses look for their module
    module.__file__ = str(path)
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
    except Exception as error:
        said = error if isinstance(error, UserError) else f"{type(error).__name__}: {error}: correct the file"
        raise UserError(f"--space-file {path}: {said}") from error
    names = tuple(name for name in space_names() if before.get(name) is not space_class(name))
    if not names:
        raise UserError(f"--space-file {path}: it registers no space; end it with vaenas.register_space(MySpace)")
    return names


def load_space_of(folder: Path, given: Path | None) -> None:
    """Makes known the space of a run's folder: by the file given, else by the one that its config.yaml names."""
    if given is not None:
        load_space_file(given, given=True)
        return
    with suppress(UserError):  # no settings, or none that can be read
        name = read_yaml(folder / "config.yaml").get("space_file")
        given = Path(name) if isinstance(name, str) else None
    if given is not None:
        load_space_file(given, given=False)


def with_space_file(options: dict[str, Any], from_file: dict[str, Any]) -> dict[str, Any]:
    """The options of a command, once the space file that they or the YAML file name is loaded.

    A file's only space is the one that is meant, where no other is named.
    """
    name = options.get("space_file", from_file.get("space_file"))
    if not isinstance(name, str):
        return options
    names = load_space_file(Path(name).expanduser(), given="space_file" in options)
    named = "space" in options or "space" in from_file
    return options if named or len(names) != 1 else {**options, "space": names[0]}


def digest_of(space_file: str | None) -> dict[str, str]:
    """What a run keeps of its space file, to see on resuming that it has changed: {what it is: digest}."""
    if space_file is None:
        return {}
    return {f"the space file {space_file}": hashlib.sha256(_content(Path(space_file))).hexdigest()}
