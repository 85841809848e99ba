"""params.yaml, one section at a time: every key is declared, none has a default in code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from medslm.errors import ParamsError


class Section(BaseModel):
    """A section of params.yaml. Subclasses declare its keys; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=BaseModel)


def load_section(path: Path, name: str, section: type[S]) -> S:
    """Read section ``name`` (dots go deeper); all problems at once raise one ParamsError."""
    found: S = _validate(path, name, section, load_value(path, name))
    return found


def load_all(path: Path, name: str, value_type: Any) -> Any:
    """Read section ``name`` as any annotated type, for example ``dict[str, list[str]]``."""
    return _validate(path, name, value_type, load_value(path, name))


def load_value(path: Path, name: str) -> Any:
    """Return the raw value at ``name``; ParamsError if the file or the key is missing."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        # YAML 1.2, as DVC reads it: in 1.1 a key `yes`, one of our answers, would read as True.
        value = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: no such file; run from the project's root or pass --params"
        ) from None
    except YAMLError as exc:
        raise ParamsError(f"{path}: not YAML: {' '.join(str(exc).split())}") from None
    walked: list[str] = []
    for key in name.split("."):
        walked.append(key)
        if not isinstance(value, dict) or key not in value:
            raise ParamsError(f"{path}: {'.'.join(walked)}: this key is required and missing")
        value = value[key]
    return value


def _validate(path: Path, name: str, value_type: Any, value: object) -> Any:
    try:
        return TypeAdapter(value_type).validate_python(value)
    except ValidationError as exc:
        lines = []
        for error in exc.errors(include_url=False):
            where = ".".join([name, *_path(error["loc"], value)])
            got = "" if error["type"] == "missing" else f" (got {error['input']!r})"
            lines.append(f"{where}: {error['msg']}{got}")
        raise ParamsError(f"{path}: {len(lines)} problem(s): " + "; ".join(lines)) from None


def _path(loc: tuple[int | str, ...], value: object) -> list[str]:
    """Return the keys of an error's place, without the tags pydantic adds for unions."""
    path = []
    for at, part in enumerate(loc):
        inside = isinstance(value, dict) and part in value
        if inside and isinstance(value, dict):
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part] if part < len(value) else None
        elif at < len(loc) - 1:
            continue
        path.append(str(part))
    return path
