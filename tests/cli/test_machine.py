from __future__ import annotations

import importlib.metadata
import resource
import socket
from pathlib import Path

import pytest

from kedge.cli import machine
from kedge.cli.machine import Finding, machine_findings


def find(check: str, host: str = "127.0.0.1", port: int = 0) -> Finding:
    (finding,) = (one for one in machine_findings(host, {"grpc": port}) if one.check == check)
    return finding


def test_a_port_is_free_until_somebody_listens_on_it() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.listen()
        taken = find("grpc port", port=port)
    assert taken.state == "fail"
    assert f"127.0.0.1:{port}: Address already in use" in taken.detail
    assert "another --grpc-port" in taken.detail
    assert find("grpc port", port=port).state == "ok"


def test_a_host_that_is_not_ours_fails_its_ports() -> None:
    assert find("grpc port", host="192.0.2.1").state == "fail"


def test_any_port_is_free() -> None:
    assert find("grpc port") == Finding("grpc port", "ok", "any")


@pytest.mark.parametrize(("files", "state"), [(4095, "warn"), (4096, "ok"), (-1, "ok")])
def test_open_files_are_enough_from_4096(
    monkeypatch: pytest.MonkeyPatch, files: int, state: str
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert find("open files").state == state


@pytest.mark.parametrize(
    ("limit", "state"), [("1073741823\n", "warn"), ("1073741824\n", "ok"), ("max\n", "ok")]
)
def test_a_containers_memory_limit_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, state: str
) -> None:
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(machine, "CGROUP_MEMORY", tmp_path / "memory.max")
    assert find("memory").state == state


def test_every_required_package_is_named_with_its_version() -> None:
    assert find("grpcio").detail.startswith(f"{importlib.metadata.version('grpcio')} (grpcio")


def test_a_package_that_is_missing_fails_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requires = ["no-such-package>=1.0", 'pytest>=8; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: requires)
    finding = find("no-such-package")
    assert finding == Finding(
        "no-such-package", "fail", "not installed: pip install 'no-such-package>=1.0'"
    )
    names = [one.check for one in machine_findings("127.0.0.1", {})]
    assert "pytest" not in names
