"""From the model name and the version text of a request to the version that answers it. Pure."""

from __future__ import annotations

import re

from kedge.core.errors import InvalidRequest, UnknownModel
from kedge.core.values import Catalog, R_co, ServedVersion

INT64_MAX = 2**63 - 1
_INTEGER = re.compile(r"-?[0-9]{1,19}")


def parse_version(text: str) -> int | None:
    """The version that `text` names, at least 0; None for "", which means the newest one.

    Raises InvalidRequest with Triton's texts, because its stock clients match on them.
    """
    if not text:
        return None
    if not _INTEGER.fullmatch(text) or abs(int(text)) > INT64_MAX:
        # "stol" is what Triton's C++ library says in these brackets.
        raise InvalidRequest(
            f"failed to get model version from specified version string '{text}' (details: stol), "
            "version should be an integral value > 0"
        )
    version = int(text)
    if version < 0:
        raise InvalidRequest(
            f"invalid model version specified '{text}' , version should be an integral value > 0"
        )
    return version


def find_version(catalog: Catalog[R_co], name: str, version_text: str) -> ServedVersion[R_co]:
    """The version of `name` that is served for `version_text`.

    Raises InvalidRequest for a text that is no version, UnknownModel for what is not served.
    """
    version = parse_version(version_text)
    versions = catalog.models.get(name)
    if versions is None:
        raise UnknownModel(f"Request for unknown model: '{name}' is not found")
    if version is None:
        if not versions:
            raise UnknownModel(f"Request for unknown model: '{name}' has no available versions")
        return versions[max(versions)]
    if version not in versions:
        raise UnknownModel(f"Request for unknown model: '{name}' version {version} is not found")
    return versions[version]
