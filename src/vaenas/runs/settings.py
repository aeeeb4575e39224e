"""Settings by their dotted paths: which there are, where each comes from, and what is said when one is wrong."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from vaenas.documents import dotted, first_problem, read_yaml, short
from vaenas.errors import UserError

# The command line's short names of settings; each other one goes by its path, as --vae.keep-ratio.
SHORT = {
    "network.width": "width", "network.layers": "layers",
    "constraints.max_flops": "max-flops", "constraints.max_params": "max-params",
    "constraints.max_latency": "max-latency",
    "data.source": "data", "data.root": "data-root", "data.image_size": "image-size",
    "data.workers": "workers", "data.skip_bad_images": "skip-bad-images",
    "machine.device": "device", "table.path": "table",
    "supernet.epochs": "epochs", "supernet.batch_size": "batch-size", "supernet.learning_rate": "learning-rate",
    "training.epochs": "epochs", "training.batch_size": "batch-size", "training.learning_rate": "learning-rate",
    "teacher.model": "teacher", "teacher.weights": "teacher-weights",
}  # fmt: skip


def option(path: str) -> str:
    """learning_rate -> --learning-rate, vae.keep_ratio -> --vae.keep-ratio"""
    return "--" + SHORT.get(path, path.replace("_", "-"))


Idle = Sequence[tuple[str, Callable[[Any], bool], str]]
"""Settings or whole parts, when they have no effect, and how that is said after "has no effect"."""


class Configuration(BaseModel):
    """A tree of settings; `make` gives one. Its parts are dataclasses, each of the module that uses it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    preset_by: ClassVar[str | None] = None  # the setting that names a preset
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # its values, by paths
    idle: ClassVar[Idle] = ()

    def check(self) -> None:
        """Raises `ValueError` "path: why" for settings that contradict each other."""

    def dotted(self) -> dict[str, Any]:
        """Every setting by its path."""
        return dotted(self.model_dump())


C = TypeVar("C", bound=Configuration)


def settings_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Every setting by its path: type, range, default, description."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if not dataclasses.is_dataclass(kind):
            found[name] = field
            continue
        hints = get_type_hints(kind, include_extras=True)
        for part in dataclasses.fields(kind):
            default = getattr(field.default, part.name)
            found[f"{name}.{part.name}"] = FieldInfo.from_annotated_attribute(hints[part.name], default)
    return found


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """{"vae.latent": 8} -> {"vae": {"latent": 8}}"""
    found: dict[str, Any] = {}
    for path, value in values.items():
        part, _, name = path.rpartition(".")
        (found.setdefault(part, {}) if part else found)[name] = value
    return found


def make(
    model: type[C], given: Mapping[str, Any], file: Path | None = None, begun: Mapping[str, Any] | None = None
) -> C:
    """The settings given, before those of a YAML file, before the preset's, before the defaults.

    Args:
        given: by their paths, or nested as in the file.
        begun: all of them by their paths, in place of the preset's and the defaults.

    Raises:
        UserError: names the first setting that is unknown or wrong, its place and what is allowed.
    """
    given, from_file = dotted(given), dotted(read_yaml(file) if file else {})
    known, given = settings_of(model), _with_space_file(given, from_file)

    def wrong(path: str, message: str) -> UserError:
        return UserError(f"{f'{file}, {path}' if path in from_file and path not in given else option(path)}: {message}")

    for path, value in (*given.items(), *from_file.items()):
        if path not in known:
            raise wrong(path, _unknown(path, value, known))
        if isinstance(value, bool) and known[path].annotation is not bool:  # pydantic would take true as 1
            raise wrong(path, f"{str(value).lower()} is not allowed: must be no truth value")
    by = model.preset_by
    name = given.get(by, from_file.get(by, known[by].default)) if by else None
    preset = model.presets.get(str(name), {})
    # A file may have the numbers of another preset written out.
    first = preset if by in given and name != from_file.get(by) else {}
    values = {**preset, **(begun or {}), **from_file, **first, **given}
    try:
        config = model.model_validate(nested(values))
        config.check()
        usual, made = {**{path: field.default for path, field in known.items()}, **preset}, config.dotted()
        for path, why in without_effect(config).items():
            if made[path] != usual[path]:
                raise ValueError(f"{path}: has no effect {why}; leave it out")
        return config
    except ValidationError as error:
        path, message, _ = first_problem(error)
        raise wrong(path, f"{short(values[path])} is not allowed: {message}") from None
    except ValueError as error:
        raise wrong(*str(error).split(": ", 1)) from None


def _with_space_file(given: dict[str, Any], from_file: dict[str, Any]) -> dict[str, Any]:
    """`given`; a space of the user's own is made known, and meant where no other is named."""
    if "space_file" not in given and from_file.get("space_file") is None:
        return given
    from vaenas.networks.space_file import with_space_file

    return with_space_file(given, from_file)


def _unknown(path: str, value: Any, known: Mapping[str, Any]) -> str:
    if any(name.startswith(f"{path}.") for name in known):
        return f"{short(value)} is not allowed: must hold settings as 'name: value'"
    last = {name.rpartition(".")[2]: name for name in reversed([*known])}
    (close,) = difflib.get_close_matches(path.rpartition(".")[2], last, 1, 0.0)
    exact = difflib.get_close_matches(path, known, 1, 0.8)
    return f"there is no such setting; did you mean {exact[0] if exact else last[close]}?"


def without_effect(config: Configuration) -> dict[str, str]:
    """The settings that have no effect beside the others, each with why."""
    found: dict[str, str] = {}
    for names, idle, why in config.idle:
        for name in names.split() if idle(config) else ():
            same = (path for path in config.dotted() if path == name or path.startswith(f"{name}."))
            found = {**dict.fromkeys(same, why), **found}
    return found


def resumed(model: type[C], folder: Path, given: dict[str, Any], file: Path | None) -> C:
    """The settings of the run in `folder`; raises `UserError` if the user asks for others."""
    _with_space_file(given, {})  # which makes it trusted
    begun = make(model, {}, folder / "config.yaml")
    if given or file:
        kept = begun.dotted()
        for path, value in make(model, given, file, kept).dotted().items():
            check_kept(folder, path, kept[path], value)
    return begun


def check_kept(folder: Path, path: str, begun: Any, wanted: Any) -> None:
    """Raises `UserError` if the setting that the user wants is not what the run in `folder` began with."""
    if wanted != begun:
        raise UserError(
            f"{option(path)} {wanted}: the run in {folder} has {begun}; a resumed run keeps its settings: leave the "
            f"option out, or begin a new run"
        )
