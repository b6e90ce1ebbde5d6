"""Which fields of a completed ModelConfig are refused, and which do nothing here.

A field that would change an answer is refused where Kedge lacks it; one that only tunes Triton is
accepted with a warning. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from google.protobuf.message import Message

from kedge import proto
from kedge.core.errors import RepositoryFailed
from kedge.models.manifest import Tensor, argument_positions, datatype_of
from kedge.models.pbtxt import BACKEND_PYTHON, MODEL_FILENAMES

NOT_YET = "not in this version of Kedge"
# Durations are kept in int64 nanoseconds; nobody waits in a queue for longer than a day.
DURATION_US_MAX = 24 * 3600 * 1_000_000
# Each instance is a process with a copy of the model.
INSTANCES_MAX = 256

KINDS = {proto.ModelInstanceGroup.KIND_CPU, proto.ModelInstanceGroup.KIND_GPU}
REFUSED = {
    "sequence_batching": "requests of a sequence cannot be kept together",
    "ensemble_scheduling": "serve the composing models and call them one by one",
    "model_operations": "export the model without custom operation libraries",
    "batch_input": "ragged batches are not built",
    "batch_output": "ragged batches are not built",
    "model_repository_agents": "what the agent does, such as checking files, would not happen",
}
REFUSED_OF_TENSORS = {
    "reshape": "declare the shape that the model itself takes, and send that",
    "optional": "every request must bring every input",
    "allow_ragged_batch": "requests of different shapes run in batches of their own",
    "is_shape_tensor": "it belongs to TensorRT",
    "is_non_linear_format_io": "it belongs to TensorRT",
}
IGNORED = {
    "cc_model_filenames": "default_model_filename is loaded on every device",
    "metric_tags": "metrics carry model and version only",
    "model_metrics": "metrics are not configured per model",
    "model_warmup": "models are warmed with zeros instead, a TritonPythonModel not at all",
    "optimization": "Kedge chooses its own",
    "parameters": "no runtime here takes any",
    "response_cache": "every request is computed",
    "runtime": "the runtime is built in",
}
IGNORED_OF_GROUPS = {
    "host_policy": "there are none",
    "profile": "it belongs to TensorRT",
    "rate_limiter": "executions are not rationed",
    "secondary_devices": "a model runs on one device",
}
IGNORED_OF_BATCHING = {
    "priority_levels": "all requests have one level",
    "priority_queue_policy": "all requests share default_queue_policy",
}
# Triton unpacks it and runs the model with the Python in it.
ENVIRONMENT = "EXECUTION_ENV_PATH"


def check(config: proto.ModelConfig, model: str, where: str) -> None:
    """Raise RepositoryFailed unless the completed `config` of `model` can be served as it says.

    The text has one line per problem: `where`, the field, what is wrong, what to do.
    """
    problems = [*_general_problems(config, model)]
    problems += _scheduling_problems(config)
    for kind, tensors in (("input", config.input), ("output", config.output)):
        problems += _tensor_problems(kind, tensors)
    if problems:
        raise RepositoryFailed("\n".join(f"{where}: {problem}" for problem in problems))


def warnings_about(config: proto.ModelConfig) -> Iterator[str]:
    """One line per field that is set and does nothing here."""
    ignored = [(name, IGNORED.get(name)) for name in _fields_set(config)]
    for group in config.instance_group:
        ignored += [
            (f"instance_group.{name}", IGNORED_OF_GROUPS.get(name)) for name in _fields_set(group)
        ]
    if config.HasField("dynamic_batching"):
        ignored += [
            (f"dynamic_batching.{name}", IGNORED_OF_BATCHING.get(name))
            for name in _fields_set(config.dynamic_batching)
        ]
    takes_parameters = config.backend == BACKEND_PYTHON
    for name, why in ignored:
        if why is not None and not (takes_parameters and name == "parameters"):
            yield f"{name} does nothing {NOT_YET}: {why}"
    if takes_parameters and ENVIRONMENT in config.parameters:
        yield (
            f"parameters.{ENVIRONMENT} does nothing {NOT_YET}: the model runs in the server's own "
            "environment"
        )
    for group in config.instance_group:
        if group.kind == proto.ModelInstanceGroup.KIND_GPU and not group.gpus:
            yield "instance_group.gpus: not given, so the first GPU is used and not all of them"
        if group.kind == proto.ModelInstanceGroup.KIND_CPU and group.gpus:
            yield "instance_group.gpus does nothing in a group of KIND_CPU"
    if config.HasField("dynamic_batching") and config.max_batch_size == 0:
        yield "dynamic_batching does nothing while max_batch_size is 0"


def _fields_set(message: Message) -> list[str]:
    return [field.name for field, _ in message.ListFields()]


def _general_problems(config: proto.ModelConfig, model: str) -> Iterator[str]:
    if config.name != model:
        yield f"name: expected '{model}', the directory's name, got '{config.name}'"
    if (config.platform, config.backend) not in MODEL_FILENAMES:
        expected = " or ".join(
            f"'{platform}', '{backend}' ({filename})"
            for (platform, backend), filename in MODEL_FILENAMES.items()
        )
        yield (
            f"platform, backend: '{config.platform}', '{config.backend}' is {NOT_YET}; "
            f"expected {expected}"
        )
    for name in _fields_set(config):
        if name in REFUSED:
            yield f"{name}: {NOT_YET}; {REFUSED[name]}"
    if config.model_transaction_policy.decoupled:
        yield f"model_transaction_policy.decoupled: {NOT_YET}; one answer per request only"
    if config.max_batch_size < 0:
        yield f"max_batch_size: expected at least 0, got {config.max_batch_size}"
    if not is_inside(config.default_model_filename):
        yield (
            "default_model_filename: expected a relative path without '..', got "
            f"'{config.default_model_filename}'"
        )
    for number, group in enumerate(config.instance_group):
        if group.kind not in KINDS:
            yield f"instance_group[{number}].kind: {NOT_YET}; only KIND_CPU and KIND_GPU are"
        if any(gpu < 0 for gpu in group.gpus) or len(set(group.gpus)) < len(group.gpus):
            yield f"instance_group[{number}].gpus: expected different numbers from 0"
        if group.passive:
            yield f"instance_group[{number}].passive: {NOT_YET}; leave it out"
    instances = sum(group.count * max(len(group.gpus), 1) for group in config.instance_group)
    if instances > INSTANCES_MAX:
        yield f"instance_group: expected at most {INSTANCES_MAX} instances, got {instances}"


def _scheduling_problems(config: proto.ModelConfig) -> Iterator[str]:
    batching = config.dynamic_batching
    policy = batching.default_queue_policy
    for size in batching.preferred_batch_size:
        if not 0 < size <= config.max_batch_size:
            yield (
                "dynamic_batching.preferred_batch_size: expected 1 to max_batch_size "
                f"{config.max_batch_size}, got {size}"
            )
    for field, microseconds in (
        ("max_queue_delay_microseconds", batching.max_queue_delay_microseconds),
        ("default_queue_policy.default_timeout_microseconds", policy.default_timeout_microseconds),
    ):
        if microseconds > DURATION_US_MAX:
            yield (
                f"dynamic_batching.{field}: expected at most {DURATION_US_MAX}, a day, "
                f"got {microseconds}"
            )
    if policy.timeout_action == proto.ModelQueuePolicy.DELAY:
        yield (
            f"dynamic_batching.default_queue_policy.timeout_action: DELAY is {NOT_YET}; use REJECT"
        )


def _tensor_problems(kind: str, tensors: Sequence[Tensor]) -> Iterator[str]:
    if not tensors:
        yield f"{kind}: none is declared; a model file does not say them, so list all"
    seen: set[str] = set()
    for number, tensor in enumerate(tensors):
        where = f"{kind}[{number}] '{tensor.name}'"
        if not tensor.name:
            yield f"{where}: name: missing"
        elif tensor.name in seen:
            yield f"{where}: name: used twice"
        seen.add(tensor.name)
        if datatype_of(tensor) is None:
            yield f"{where}: data_type: missing or unknown; expected one like TYPE_FP32"
        if not tensor.dims:
            yield f"{where}: dims: missing; for one number per row write dims: [ 1 ]"
        elif any(dim < 1 and dim != -1 for dim in tensor.dims):
            yield f"{where}: dims: expected sizes of at least 1 or -1, got {list(tensor.dims)}"
        for name in _fields_set(tensor):
            if name in REFUSED_OF_TENSORS:
                yield f"{where}: {name}: {NOT_YET}; {REFUSED_OF_TENSORS[name]}"
        if isinstance(tensor, proto.ModelOutput) and not is_inside(tensor.label_filename):
            yield f"{where}: label_filename: expected a relative path without '..'"
    positions = argument_positions(tensors)
    if positions is not None and sorted(positions) != list(range(len(tensors))):
        yield f"{kind}: expected names that end in __0 to __{len(tensors) - 1}, each once"


def is_inside(filename: str) -> bool:
    """Whether a relative path cannot leave the directory that it starts in. Links are trusted."""
    path = PurePosixPath(filename)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in filename
