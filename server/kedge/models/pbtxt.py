"""A Triton model configuration, as protobuf text or JSON, to a completed ModelConfig message.

Pure. Not here: what Kedge makes of the fields (`support.py`, `manifest.py`).
"""

from __future__ import annotations

import difflib
import re

from google.protobuf import json_format, text_format

from kedge import proto
from kedge.core.errors import RepositoryFailed

BACKEND = "pytorch"
PLATFORM = "pytorch_libtorch"
PLATFORM_PT2 = "torch_aoti"
BACKEND_PYTHON = "python"
# (platform, backend) that are served, and the file that each looks for, as in Triton.
MODEL_FILENAMES = {
    (PLATFORM, BACKEND): "model.pt",
    (PLATFORM_PT2, BACKEND): "model.pt2",
    ("", BACKEND_PYTHON): "model.py",
}
# Generated configurations with hundreds of tensors have 100 KB; more than this is no configuration.
CONFIG_BYTES_MAX = 4 * 1024 * 1024
# The parsers quote what they cannot read, however long; a gRPC status travels in one header.
REASON_CHARS_MAX = 500
_UNKNOWN_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "(\w+)"')


def parse_text(text: bytes, where: str) -> proto.ModelConfig:
    """The message in a config.pbtxt. Raises RepositoryFailed with `where`, line and column."""
    _check_size(len(text), where)
    config = proto.ModelConfig()
    try:
        text_format.Parse(text.decode("utf-8"), config)
    except UnicodeDecodeError as error:
        raise RepositoryFailed(f"{where}: expected UTF-8, byte {error.start} is not") from None
    except text_format.ParseError as error:
        raise RepositoryFailed(f"{where}: {_explain(error)}") from None
    return config


def parse_json(text: str, where: str) -> proto.ModelConfig:
    """The message in a ModelConfig as JSON, with either spelling of field names.

    Raises RepositoryFailed with `where` and the reason.
    """
    _check_size(len(text), where)
    config = proto.ModelConfig()
    try:
        json_format.Parse(text, config)
    except json_format.ParseError as error:
        raise RepositoryFailed(f"{where}: {_explain(error)}") from None
    return config


def _check_size(size: int, where: str) -> None:
    if size > CONFIG_BYTES_MAX:
        raise RepositoryFailed(f"{where}: expected at most {CONFIG_BYTES_MAX} bytes, got {size}")


def _explain(error: Exception) -> str:
    """The parser's reason, which has line and column, and the nearest field for an unknown one."""
    reason = str(error).partition("\n")[0][:REASON_CHARS_MAX]
    unknown = _UNKNOWN_FIELD.search(reason)
    if not unknown:
        return reason
    message = proto.ModelConfig.DESCRIPTOR.file.pool.FindMessageTypeByName(unknown[1])
    nearest = difflib.get_close_matches(unknown[2], message.fields_by_name, n=1)
    return f"{reason} Did you mean '{nearest[0]}'?" if nearest else reason


def complete(config: proto.ModelConfig, name: str) -> proto.ModelConfig:
    """A copy with the defaults filled in as Triton's ModelConfig call shows them.

    name: the model's directory. What is written stays as it is, right or wrong.
    """
    completed = proto.ModelConfig()
    completed.CopyFrom(config)
    completed.name = config.name or name
    if not config.backend and config.platform in ("", PLATFORM, PLATFORM_PT2):
        completed.backend = BACKEND
    if not config.platform and completed.backend == BACKEND:
        completed.platform = PLATFORM
    runtime = (completed.platform, completed.backend)
    completed.default_model_filename = config.default_model_filename or MODEL_FILENAMES.get(
        runtime, MODEL_FILENAMES[PLATFORM, BACKEND]
    )
    if config.version_policy.WhichOneof("policy_choice") is None:
        completed.version_policy.latest.num_versions = 1
    _complete_instance_groups(completed)
    if config.HasField("dynamic_batching"):
        batching = completed.dynamic_batching
        if not batching.preferred_batch_size and config.max_batch_size > 0:
            batching.preferred_batch_size.append(config.max_batch_size)
    return completed


def _complete_instance_groups(config: proto.ModelConfig) -> None:
    if not config.instance_group:
        config.instance_group.add(name=config.name)
    for number, group in enumerate(config.instance_group):
        group.name = group.name or f"{config.name}_{number}"
        group.count = max(group.count, 1)
        if group.kind == proto.ModelInstanceGroup.KIND_AUTO:
            group.kind = proto.ModelInstanceGroup.KIND_CPU
