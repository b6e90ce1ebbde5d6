"""A parsed document against the endpoint format: every mistake in words that say what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kedge.config.document import Document, Location
from kedge.config.endpoint import AUTO, DIM_MAX, INSTANCES_MAX, EndpointFile, Tensor
from kedge.config.lengths import length_problems
from kedge.config.problems import NOT_YET, ConfigError, Problem, nearest
from kedge.core.settings import Placement
from kedge.core.urls import is_url, name_of, problem_with

# By which a model's format is looked for; with `format` any name will do.
MODEL_SUFFIXES = (".pt", ".pth", ".ts", ".pt2", ".py")
NAME_RULE = "1 to 128 letters, digits, '_', '.' or '-', the first no '.' or '-'"
SHA256_RULE = "a SHA-256 as 64 digits 0-9a-f, as sha256sum writes it"
VERSION_RULE = "a version number from 1, without leading zeros"
# By pydantic's error types.
TYPES_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
}
TEMPLATES = {
    "missing": "is required",
    "value_error": "{error}",
    "literal_error": "expected {expected}, got {got!r}",
    "greater_than_equal": "expected at least {ge}, got {got}",
    "less_than_equal": "expected at most {le}, got {got}",
    "too_short": "needs at least one entry",
    "string_too_short": "is empty, expected text",
}
# What config.pbtxt calls the same thing, where no spelling is near.
TRITON_KEYS = {
    "data_type": "datatype",
    "dims": "shape",
    "max_queue_size": "max_queued_requests",
    "default_timeout_microseconds": "timeout",
}

Found = tuple[Location, str]


def check(document: Document) -> EndpointFile:
    """The document as an endpoint. Raises ConfigError with everything that is wrong in it."""
    try:
        endpoint = EndpointFile.model_validate(document.values)
    except ValidationError as failed:
        errors = failed.errors(include_url=False)
        problems = [document.problem(_location(error), _message(error)) for error in errors]
        raise ConfigError(_in_order(problems)) from None
    problems = [document.problem(*found) for found in _contradictions(endpoint)]
    if problems:
        raise ConfigError(_in_order(problems))
    return endpoint


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: problem.line)


def _location(error: ErrorDetails) -> Location:
    """pydantic puts `[key]` behind a mapping's key that is itself at fault."""
    return tuple(step for step in error["loc"] if step != "[key]")


def _message(error: ErrorDetails) -> str:
    got = error["input"]
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(_location(error))
    if kind == "string_type" and isinstance(got, bool | int | float):
        return f"expected text, got {got!r}: put it in quotes, else YAML reads no text"
    if kind in TYPES_EXPECTED:
        was = "is empty" if got is None else f"got {got!r}"
        return f"expected {TYPES_EXPECTED[kind]}, {was}"
    if kind == "string_pattern_mismatch":
        rule = VERSION_RULE if error["loc"][-1] == "[key]" else NAME_RULE
        rule = SHA256_RULE if error["loc"][-1] == "sha256" else rule
        return f"expected {rule}, got {got!r}"
    template = TEMPLATES.get(kind)
    return template.format(got=got, **error.get("ctx", {})) if template else error["msg"]


def _unknown_key(location: Location) -> str:
    section = section_at(location[:-1])
    key = str(location[-1])
    if key in section.later:
        return NOT_YET
    if key in TRITON_KEYS:
        return f"unknown key; did you mean {TRITON_KEYS[key]!r}?"
    return f"unknown key{nearest(key, section.model_fields)}"


def section_at(location: Location) -> Any:
    """The section of the format (a class of `endpoint.py`) that lies at `location`."""
    kind: Any = EndpointFile
    for step in location:
        is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
        # A list's item type is its first argument, a mapping's value type its second.
        kind = kind.model_fields[step].annotation if is_section else get_args(kind)[-1]
    return kind


def _contradictions(endpoint: EndpointFile) -> Iterator[Found]:
    """What no single key shows."""
    for side, tensors in (("inputs", endpoint.inputs), ("outputs", endpoint.outputs)):
        yield from _tensor_problems(side, tensors)
    yield from _batch_problems(endpoint)
    yield from length_problems(endpoint)
    yield from _execution_problems(endpoint)
    for number, version in endpoint.versions.items():
        location: Location = ("versions", number, "model")
        url_problem = is_url(version.model) and problem_with(version.model)
        if version.model.startswith("models:"):
            yield location, f"a model registry is {NOT_YET}: give a file or a URL"
        elif url_problem:
            yield location, url_problem
        elif version.format == AUTO and not _is_model_name(version.model):
            expected = f"a model file ({', '.join(MODEL_SUFFIXES)}) or the folder of a model.py"
            yield location, f"expected {expected}; other formats are {NOT_YET}"


def _is_model_name(model: str) -> bool:
    """Whether it ends as a model does; a folder's name has no suffix, or a slash behind it."""
    if is_url(model):
        return name_of(model).endswith(MODEL_SUFFIXES)
    return model.endswith((*MODEL_SUFFIXES, "/")) or not PurePosixPath(model).suffix


def _tensor_problems(side: str, tensors: list[Tensor]) -> Iterator[Found]:
    first_of: dict[str, int] = {}
    for i, tensor in enumerate(tensors):
        first = first_of.setdefault(tensor.name, i)
        if first != i:
            yield (side, i, "name"), f"{tensor.name!r} is already the name of {side}[{first}]"
        if 0 in tensor.shape:
            yield (side, i, "shape"), "a dimension is -1 (any size) or at least 1, got 0"
        if math.prod(dim for dim in tensor.shape if dim > 0) > DIM_MAX:
            yield (side, i, "shape"), f"more than {DIM_MAX} elements in one row"


def _batch_problems(endpoint: EndpointFile) -> Iterator[Found]:
    batching = endpoint.serving.batching
    at_rows: Location = ("serving", "batching", "max_batch_size")
    if batching.max_batch_size > 0:
        starts = {
            (side, i, "shape"): tensor.shape[:1] == [-1]
            for side, tensors in (("inputs", endpoint.inputs), ("outputs", endpoint.outputs))
            for i, tensor in enumerate(tensors)
        }
        without = [location for location, has_batch in starts.items() if not has_batch]
        if 0 < len(without) < len(starts):
            message = (
                "expected -1 (the batch) as first dimension, as other tensors have it; a model "
                "without batch dimension says serving.batching.max_batch_size: 0"
            )
            yield from ((location, message) for location in without)
        elif without and "max_batch_size" in batching.model_fields_set:
            yield at_rows, "no shape starts with -1 (the batch): expected 0, or shapes with -1"
    for i, rows in enumerate(batching.preferred_batch_size):
        if rows > batching.max_batch_size:
            message = f"expected at most max_batch_size {batching.max_batch_size}, got {rows}"
            yield (*at_rows[:2], "preferred_batch_size", i), message
    for i, rows in enumerate(batching.buckets):
        if rows > max(batching.max_batch_size, 1):
            message = f"expected at most max_batch_size {batching.max_batch_size}, got {rows}"
            yield (*at_rows[:2], "buckets", i), message


def _execution_problems(endpoint: EndpointFile) -> Iterator[Found]:
    serving = endpoint.serving
    if serving.execute_timeout < 1:
        yield ("serving", "execute_timeout"), "a batch needs some time: expected more than 0"
    if serving.placement == Placement.INLINE.value:
        if serving.device != ["cpu"]:
            yield ("serving", "device"), "placement inline runs on the CPU only: expected cpu"
        if serving.instances > 1:
            message = f"placement inline runs one instance, got {serving.instances}"
            yield ("serving", "instances"), message
    if len(serving.device) * serving.instances > INSTANCES_MAX:
        yield ("serving", "instances"), f"more than {INSTANCES_MAX} instances on all devices"
