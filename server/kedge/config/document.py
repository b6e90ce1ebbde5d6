"""YAML text to plain values, with the line of every key. Knows YAML, not endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from kedge.config.problems import ConfigError, Problem

# The largest endpoint anybody writes by hand has a few KiB; 1 MiB parses in about 0.1 s.
DOCUMENT_BYTES_MAX = 1024 * 1024
# The format itself nests 5 deep. libyaml stops at 1,000, where Python's own recursion ends too.
DEPTH_MAX = 32
TOO_DEEP = f"nested deeper than {DEPTH_MAX} levels"
# Longest scalar: a path has 4,096 bytes at most. YAML 1.1 reads 1:1:1:... as one number, in
# quadratic time.
SCALAR_CHARS_MAX = 4096

Location = tuple[str | int, ...]

# libyaml is 20 times faster than the Python parser, which every PyYAML has as its fallback.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file. values: dicts with text keys, lists, scalars; lines: from 1, of every key and
    item that the file has; overrides: what came from elsewhere, and from where.
    """

    where: str
    values: Any
    lines: dict[Location, int]
    overrides: dict[Location, str] = field(default_factory=dict)

    def problem(self, location: Location, message: str) -> Problem:
        """`message` about `location`, at its line or that of the nearest thing around it."""
        around = location
        while around:
            if around in self.overrides:
                return Problem(self.overrides[around], 0, dotted(location), message)
            if around in self.lines:
                break
            around = around[:-1]
        return Problem(self.where, self.lines.get(around, 1), dotted(location), message)


def dotted(location: Location) -> str:
    """`("inputs", 0, "name")` -> `inputs[0].name`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.removeprefix(".")


def parse_document(text: bytes, where: str) -> Document:
    """Parse one YAML document of at most `DOCUMENT_BYTES_MAX` bytes.

    Aliases are refused: expanded, a few hundred bytes of them fill the memory. Raises ConfigError
    with every duplicate key and unreadable value, or with the first error of syntax.
    """
    if len(text) > DOCUMENT_BYTES_MAX:
        message = f"has {len(text)} bytes, at most {DOCUMENT_BYTES_MAX} are read"
        raise ConfigError([Problem(where, 0, "", message)])
    try:
        source = text.decode()
        _check_nesting(source, where)
        node = yaml.compose(source, Loader=_Loader)
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(where, 0, "", f"is not UTF-8: {error}")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        # The end of the file counts as a line of its own.
        line = min(mark.line, source.rstrip().count("\n")) + 1 if mark else 0
        # A parser that looks ahead finds it first, at a limit of its own.
        is_deep = "nesting depth" in str(error.problem)
        message = TOO_DEEP if is_deep else f"no YAML: {error.problem}"
        raise ConfigError([Problem(where, line, "", message)]) from None
    except yaml.YAMLError as error:
        raise ConfigError([Problem(where, 0, "", f"no YAML: {error}")]) from None
    reader = _Reader(where)
    values = reader.read(node, ()) if node is not None else None
    if reader.problems:
        raise ConfigError(reader.problems)
    return Document(where, values, reader.lines)


def _check_nesting(source: str, where: str) -> None:
    depth = 0
    for event in yaml.parse(source, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            message = f"alias *{event.anchor}: write the value out, aliases are not read"
            raise ConfigError([Problem(where, line, "", message)])
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_MAX:
            raise ConfigError([Problem(where, line, "", TOO_DEEP)])


@dataclass(slots=True)
class _Reader:
    """Turns nodes into values; collects lines and problems on the way."""

    where: str
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _scalars: yaml.constructor.SafeConstructor = field(
        default_factory=yaml.constructor.SafeConstructor
    )

    def read(self, node: Node, location: Location) -> Any:
        self.lines.setdefault(location, node.start_mark.line + 1)
        match node:
            case MappingNode():
                return {
                    key: self.read(value, (*location, key))
                    for key, value in self._entries(node, location)
                }
            case SequenceNode():
                return [self.read(item, (*location, i)) for i, item in enumerate(node.value)]
            case _:
                return self._scalar(node, location)

    def _entries(self, node: MappingNode, location: Location) -> Iterator[tuple[str, Node]]:
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._report(line, location, "a key must be plain text")
                continue
            # The text as written: YAML 1.1 would make `on`, `yes` and `no` booleans and 1 a number.
            key = str(key_node.value)
            entry = (*location, key)
            if entry in self.lines:
                self._report(line, entry, f"given twice, first in line {self.lines[entry]}")
                continue
            self.lines[entry] = line
            yield key, value

    def _scalar(self, node: Node, location: Location) -> Any:
        line = node.start_mark.line + 1
        if len(node.value) > SCALAR_CHARS_MAX:
            self._report(line, location, f"is longer than {SCALAR_CHARS_MAX} characters")
            return None
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            kind = node.tag.removeprefix("tag:yaml.org,2002:")
            self._report(line, location, f"cannot read {node.value!r} as {kind}; quote it")
            return None

    def _report(self, line: int, location: Location, message: str) -> None:
        self.problems.append(Problem(self.where, line, dotted(location), message))
