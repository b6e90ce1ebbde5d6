"""Kedge as the server under test: its models, its endpoint files, `kedge serve`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _harness import REPOSITORY
from _processes import ServerProcess, free_ports, run_program
from _servers import Server, port_options, ready
from _venvs import PeerAbsent
from _wire import MODEL, MODELS, Interface, Rows, payload

READY_LINE = r"^ready grpc=(\S+) http=\S+ metrics=(\S+)"
TORCHSCRIPT = REPOSITORY / "benchmarks" / "servers" / "torchscript.py"


@dataclass(frozen=True)
class Endpoint:
    """One model as an endpoint file describes it. model: relative to the file's folder.

    placement: `inline`, `workers` for worker processes, or `auto`. serving: other keys of that
    section, such as `queue`; they win over what the interface says.
    """

    name: str
    model: str
    interface: Interface
    placement: str = "inline"
    serving: Mapping[str, Any] = field(default_factory=dict)

    def document(self, rows_max: int = 0) -> str:
        """The file's text: JSON, which is YAML too. rows_max: another one than the interface's."""
        interface = self.interface
        batching = {"max_batch_size": rows_max or interface.rows_max}
        tensors = {"INPUT0": interface.input_dims, "OUTPUT0": interface.output_dims}
        given, answered = (
            [{"name": name, "datatype": interface.datatype, "shape": [-1, *dims]}]
            for name, dims in tensors.items()
        )
        document = {
            "apiVersion": "kedge/v1",
            "kind": "Endpoint",
            "name": self.name,
            "inputs": given,
            "outputs": answered,
            "versions": {"1": {"model": self.model}},
            "serving": {"placement": self.placement, "batching": batching, **self.serving},
        }
        return json.dumps(document, indent=2)


def torchscript_endpoints(
    folder: Path, models: Sequence[str], placement: str = "inline"
) -> dict[str, Rows]:
    """Writes models that servers/torchscript.py knows, with an endpoint file each, into folder.

    Returns what each answers to its payload.
    """
    computing = [name for name in models if not MODELS[name].is_identity]
    for name in computing:
        np.save(folder / f"{name}.payload.npy", payload(name))
    make_torchscript(folder, models)
    for name in models:
        endpoint = Endpoint(name, f"{name}.pt", MODELS[name], placement)
        (folder / f"{name}.yaml").write_text(endpoint.document())
    answers = {name: np.load(folder / f"{name}.expected.npy") for name in computing}
    return {name: answers.get(name, payload(name)) for name in models}


def make_torchscript(folder: Path, models: Sequence[str]) -> None:
    """Writes FOLDER/MODEL.pt for each, in a process of its own: this one stays without torch."""
    run_program([sys.executable, TORCHSCRIPT, folder, *models])


def start_kedge(endpoints: Path, folder: Path, *options: str) -> ServerProcess:
    """Starts `kedge serve` of a folder of endpoint files on free ports; it is not ready yet."""
    program = Path(sys.executable).with_name("kedge")
    if not program.exists():
        raise PeerAbsent(f"{program} is not there: install this repository into its environment")
    ports = port_options(*free_ports(3))
    state = f"--state={folder / 'state'}"
    return ServerProcess(folder / "kedge.log", program, "serve", endpoints, *ports, state, *options)


def serve_endpoints(
    endpoints: Path, folder: Path, expected: Mapping[str, Rows], name: str, *options: str
) -> Server:
    """`kedge serve` of a folder of endpoint files, ready. expected: answers by model."""
    process = start_kedge(endpoints, folder, *options)
    address, metrics = ready(process, READY_LINE)
    return Server(name, process, address, expected, metrics=metrics)


@contextmanager
def running_kedge(
    folder: Path, models: Sequence[str] = (MODEL,), placement: str = "inline"
) -> Iterator[Server]:
    """Kedge with TorchScript models and its files under a new folder, ended with the block."""
    folder.mkdir()
    server = serve_torchscript(folder, models, placement)
    try:
        yield server
    finally:
        server.process.stop()


def serve_torchscript(
    folder: Path, models: Sequence[str], placement: str = "inline", name: str = "kedge"
) -> Server:
    """Kedge with TorchScript models, ready."""
    endpoints = folder / "endpoints"
    endpoints.mkdir()
    expected = torchscript_endpoints(endpoints, models, placement)
    return serve_endpoints(endpoints, folder, expected, name)
