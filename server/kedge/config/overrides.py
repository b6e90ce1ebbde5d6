"""Environment variables that override keys of every endpoint, as KEDGE__SERVING__QUEUE__TIMEOUT.

Only what lies under `serving` can be overridden: the rest says what the model is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from kedge.config.check import section_at
from kedge.config.document import Document, Location, dotted, parse_document
from kedge.config.problems import ConfigError, Problem, nearest

PREFIX = "KEDGE__"


def override(document: Document, environ: Mapping[str, str]) -> Document:
    """`document` with the values of all `KEDGE__...` variables, read as YAML, put in.

    Raises ConfigError for every variable that names no key.
    """
    found: dict[Location, Any] = {}
    names: dict[Location, str] = {}
    problems: list[Problem] = []
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        location: Location = tuple(name.removeprefix(PREFIX).lower().split("__"))
        try:
            _check_location(name, location)
            found[location] = parse_document(environ[name].encode(), name).values
            names[location] = name
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    values = copy.deepcopy(document.values)
    for location, value in found.items():
        _put(values, location, value)
    # What the file had there is gone, and so are its lines.
    lines = {
        location: line
        for location, line in document.lines.items()
        if not any(location[: len(put)] == put for put in names)
    }
    return replace(document, values=values, lines=lines, overrides=names)


def _check_location(name: str, location: Location) -> None:
    if location[0] != "serving":
        message = f"only keys under {PREFIX}SERVING__ can be overridden"
        raise ConfigError([Problem(name, 0, "", message)])
    for depth in range(1, len(location)):
        section = section_at(location[:depth])
        known = section.model_fields if _is_section(section) else {}
        key = str(location[depth])
        if key not in known:
            message = f"unknown key {dotted(location[: depth + 1])}{nearest(key, known)}"
            raise ConfigError([Problem(name, 0, "", message)])
    if _is_section(section_at(location)):
        raise ConfigError([Problem(name, 0, "", "names a section, not a key")])


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _put(values: Any, location: Location, value: Any) -> None:
    """Set `value` where the file has sections or nothing; what is no section is left to `check`."""
    for step in location[:-1]:
        if not isinstance(values, dict):
            return
        values = values.setdefault(step, {})
    if isinstance(values, dict):
        values[location[-1]] = value
