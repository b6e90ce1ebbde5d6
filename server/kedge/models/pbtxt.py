"""A Triton model configuration, as protobuf text or JSON, to a completed ModelConfig message.

Pure. Not here: what Kedge makes of the fields (`support.py`, `manifest.py`).
"""

from __future__ import annotations

from google.protobuf import json_format, text_format

from kedge import proto
from kedge.core.errors import RepositoryFailed

BACKEND = "pytorch"
PLATFORM = "pytorch_libtorch"
MODEL_FILENAME = "model.pt"
# Generated configurations with hundreds of tensors have 100 KB; more than this is no configuration.
CONFIG_BYTES_MAX = 4 * 1024 * 1024


def parse_text(text: bytes, where: str) -> proto.ModelConfig:
    """The message in a config.pbtxt. Raises RepositoryFailed with `where`, line and column."""
    config = proto.ModelConfig()
    try:
        text_format.Parse(_decode(text, where), config)
    except text_format.ParseError as error:
        raise RepositoryFailed(f"{where}: {error}") from None
    except RecursionError:
        raise RepositoryFailed(f"{where}: nested too deep") from None
    return config


def parse_json(text: str, where: str) -> proto.ModelConfig:
    """The message in a ModelConfig as JSON, with either spelling of field names.

    Raises RepositoryFailed with `where` and the reason.
    """
    config = proto.ModelConfig()
    try:
        json_format.Parse(_decode(text.encode("utf-8"), where), config)
    except json_format.ParseError as error:
        raise RepositoryFailed(f"{where}: {error}") from None
    except RecursionError:
        raise RepositoryFailed(f"{where}: nested too deep") from None
    return config


def _decode(text: bytes, where: str) -> str:
    if len(text) > CONFIG_BYTES_MAX:
        raise RepositoryFailed(
            f"{where}: expected at most {CONFIG_BYTES_MAX} bytes, got {len(text)}"
        )
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RepositoryFailed(f"{where}: expected UTF-8, byte {error.start} is not") from None


def complete(config: proto.ModelConfig, name: str) -> proto.ModelConfig:
    """A copy with the defaults filled in as Triton's ModelConfig call shows them.

    name: the model's directory. What is written stays as it is, right or wrong.
    """
    completed = proto.ModelConfig()
    completed.CopyFrom(config)
    completed.name = config.name or name
    if not config.backend and config.platform in ("", PLATFORM):
        completed.backend = BACKEND
    if not config.platform and completed.backend == BACKEND:
        completed.platform = PLATFORM
    completed.default_model_filename = config.default_model_filename or MODEL_FILENAME
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
