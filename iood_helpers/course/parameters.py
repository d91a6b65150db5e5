"""Parameters of notebooks: which exist, which values files and the command line give them, and whether these fit."""

from __future__ import annotations

import ast
import difflib
from pathlib import Path
from typing import Any

import nbformat
import yaml

from ..errors import ParameterError

PATHS = ("data_root", "samples_archive")
"""Parameters that name files or folders of the user."""
WEIGHTS = (".pth", ".pt", ".safetensors")


def declared(path: Path) -> dict[str, Any]:
    """Names and defaults in the ``parameters`` cell of a notebook.

    Raises
    ------
    ParameterError
        If the notebook is damaged, has no such cell, or the cell holds anything but assignments of literals.
    """
    try:
        cells = nbformat.read(path, as_version=4).cells
        tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
        source = "".join(tagged[0].source) if len(tagged) == 1 else ""
    except Exception as error:  # nbformat stumbles over damage in many ways
        raise ParameterError(f"The notebook {path} is missing or damaged; restore it.") from error
    if len(tagged) != 1:
        raise ParameterError(
            f"The notebook {path.stem} needs exactly one cell tagged 'parameters'; it has {len(tagged)}."
        )
    try:
        assignments: list[Any] = ast.parse(source).body
        return {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}
    except (AttributeError, TypeError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ParameterError(f"The parameters cell of {path.stem} must hold literals only ({error}).") from error


class _Loader(yaml.SafeLoader):
    """Without aliases: nine lines of them can expand to gigabytes, and one can contain itself."""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        return super().compose_node(parent, index)


_YAML_ERRORS = (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""The last ones come from tags (``!!bool x``) and from values that end early."""


def _read(text: str) -> Any:
    return yaml.load(text, _Loader)  # a SafeLoader


def read_yaml(path: Path) -> dict[str, Any]:
    """Parameters in a file; ParameterError if it is not a mapping of names to values."""
    try:
        content = _read(path.read_text(encoding="utf-8"))
    except (OSError, *_YAML_ERRORS) as error:
        raise ParameterError(f"The parameter file {path} is not readable YAML; fix or restore it.") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ParameterError(f"The parameter file {path} must hold lines 'name: value'; fix or restore it.")
    return content


def parse(items: list[str]) -> dict[str, Any]:
    """Values of ``NAME=VALUE`` items, VALUE in YAML; ParameterError if one is not of that form."""
    changes = {}
    for item in items:
        name, sign, text = item.partition("=")
        if not sign:
            raise ParameterError(f"--set needs NAME=VALUE, not {item!r}.")
        try:
            changes[name] = _read(text)
        except _YAML_ERRORS as error:
            raise ParameterError(f"The value in --set {item!r} is not YAML; quote or fix it.") from error
    return changes


def check(parameters: dict[str, Any], defaults: dict[str, Any], where: str = "") -> None:
    """Raise ``ParameterError`` for a name that no notebook declares, or a value of another type than its default.

    ``where`` says in the message where the parameters come from.
    """
    for name, value in parameters.items():
        if name not in defaults:
            raise ParameterError(unknown("parameter", name, sorted(defaults), where))
        if not _fits(value, defaults[name]):
            raise ParameterError(
                f"The parameter {name}{where} is {value!r}, but must be {_NAMES[type(defaults[name])]}, "
                f"as its default {defaults[name]!r} is."
            )


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}


def _fits(value: Any, default: Any) -> bool:
    if default is None:
        return True
    if isinstance(default, str):
        return value is None or isinstance(value, str)
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


def absolute(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with paths of the user made absolute, since notebooks run in a folder of their own.

    A checkpoint may be a name, a path or a URL: it counts as a path if such a file exists, or it ends as weights do.
    """
    out = dict(parameters)
    for name in PATHS:
        if isinstance(out.get(name), str | Path):
            out[name] = str(Path(out[name]).expanduser().absolute())
    checkpoint = out.get("checkpoint")
    if isinstance(checkpoint, str) and "://" not in checkpoint:
        path = Path(checkpoint).expanduser()
        if path.suffix in WEIGHTS or path.is_file():
            out["checkpoint"] = str(path.absolute())
    return out


def unknown(what: str, name: str, known: list[str], where: str = "") -> str:
    """Sentence about a name that is not known, with the nearest one that is."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Unknown {what} {name!r}{where}; known are {', '.join(known)}.{hint}"
