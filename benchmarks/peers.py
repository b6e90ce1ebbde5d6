"""The four servers of the comparison: how each is installed, started, and known to serve."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _harness import REPOSITORY, console
from _processes import ServerFailed, ServerProcess, free_ports
from _venvs import PeerAbsent, site_packages, venv_for
from _wire import MODEL, Rows, payload

SERVERS = REPOSITORY / "benchmarks" / "servers"
START_TIMEOUT_S = 60.0
READY_LINE = r"^ready grpc=(\S+)"
KEDGE_READY_LINE = r"^ready grpc=(\S+) http=\S+ metrics=(\S+)"


@dataclass(frozen=True)
class Server:
    """One running server of the comparison.

    serving: pattern of the command lines whose CPU time counts, None for the whole tree.
    metrics: address of its Prometheus page, None if it has none that the benchmark reads.
    """

    name: str
    process: ServerProcess
    address: str
    expected: Rows
    serving: str | None = None
    metrics: str | None = None

    def cpu_s(self) -> float:
        """CPU seconds so far of the processes that serve."""
        return self.process.cpu_s(self.serving)


def kedge(folder: Path, model: str = MODEL) -> Server:
    """`kedge serve` of a TorchScript model in a Triton repository, with its defaults.

    model: a name that servers/torchscript.py knows.
    """
    repository, expected = make_model(folder, model)
    process = start_kedge(repository, folder)
    ready = _ready(process, KEDGE_READY_LINE)
    return Server("kedge", process, ready[0], expected, metrics=ready[1])


def make_model(folder: Path, model: str) -> tuple[Path, Rows]:
    """Makes a model; returns its repository and its answer to the payload."""
    np.save(folder / "payload.npy", payload(model))
    program = [sys.executable, str(SERVERS / "torchscript.py"), model, str(folder)]
    subprocess.run(program, check=True)
    expected: Rows = np.load(folder / "expected.npy")
    return folder / "repository", expected


def start_kedge(repository: Path, folder: Path, *more: str) -> ServerProcess:
    """Starts `kedge serve` on free ports, with `more` options; it is not ready yet."""
    program = Path(sys.executable).with_name("kedge")
    if not program.exists():
        raise PeerAbsent(f"{program} is not there: install this repository into its environment")
    options = [*_port_options(*free_ports(3)), f"--state={folder / 'state'}"]
    return ServerProcess(folder / "kedge.log", program, "serve", repository, *options, *more)


@contextmanager
def running_kedge(folder: Path, model: str = MODEL) -> Iterator[Server]:
    """Kedge with its files under a new folder, ended when the block is left."""
    folder.mkdir()
    server = kedge(folder, model)
    try:
        yield server
    finally:
        server.process.stop()


def grpc_aio(folder: Path) -> Server:
    """A grpc.aio echo in the environment of the benchmark itself."""
    script, port = SERVERS / "grpc_aio_echo.py", free_ports(1)[0]
    process = ServerProcess(folder / "grpc_aio.log", sys.executable, script, str(port))
    return Server("grpc_aio", process, _ready(process, READY_LINE)[0], payload())


def triton(folder: Path) -> Server:
    """The tritonserver binary of the nvidia-pytriton wheel, with a python-backend identity."""
    venv = venv_for("triton")
    wheel = site_packages(venv) / "pytriton" / "tritonserver"
    ports = free_ports(3)
    options = [
        f"--model-repository={SERVERS / 'triton_repository'}",
        f"--backend-directory={_triton_backends(wheel)}",
        *_port_options(*ports),
        *[f"--{kind}-address=127.0.0.1" for kind in ("grpc", "http", "metrics")],
    ]
    environment = {
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(site_packages(venv)),
        # The stub is linked with libpython, which need not be where the loader looks.
        "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
    }
    program = wheel / "bin" / "tritonserver"
    process = ServerProcess(folder / "triton.log", program, *options, env=environment)
    _ready(process, r"(Started) GRPCInferenceService")
    return Server("triton", process, f"127.0.0.1:{ports[0]}", payload())


def _triton_backends(wheel: Path) -> Path:
    """The wheel's backend folder, with the stub for this Python linked to where it is sought."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel / "python_backend_stubs" / python / "triton_python_backend_stub"
    if not stub.exists():
        raise PeerAbsent(f"the nvidia-pytriton wheel has no backend stub for Python {python}")
    link = wheel / "backends" / "python" / stub.name
    link.unlink(missing_ok=True)
    link.symlink_to(stub)
    return wheel / "backends"


def ray(folder: Path) -> Server:
    """One Ray Serve replica behind Serve's direct ingress and its HAProxy, tuned for speed."""
    venv = venv_for("ray")
    grpc_port, http_port, metrics_port, stats_port = map(str, free_ports(4))
    environment = {
        "PYTHONPATH": str(SERVERS),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Straight in folder: HAProxy takes socket paths of 97 characters, 57 are Ray's node id.
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": metrics_port,
        "RAY_SERVE_HAPROXY_STATS_PORT": stats_port,
    }
    process = ServerProcess(
        folder / "ray.log",
        venv / "bin" / "python",
        SERVERS / "ray_echo.py",
        folder / "ray",
        grpc_port,
        http_port,
        env=environment,
    )
    address = _ready(process, READY_LINE)[0]
    # Ray's scheduler, controller and logging only idle: they are not counted per request.
    return Server("ray", process, address, payload(), serving=r"ray::ServeReplica|haproxy")


PEERS: Mapping[str, Callable[[Path], Server]] = {
    "kedge": kedge,
    "grpc_aio": grpc_aio,
    "triton": triton,
    "ray": ray,
}


LABELS: Mapping[str, str] = {
    "kedge": "Kedge, MLP",
    "grpc_aio": "grpc.aio, echo",
    "triton": "Triton, python-backend identity",
    "ray": "Ray Serve, direct ingress + HAProxy, echo",
}


def start(name: str, folder: Path) -> Server:
    """Starts one server of PEERS with its files under folder.

    Raises PeerAbsent, with the reason, if it cannot be installed or does not come up.
    """
    with console.status(f"[bold]{name}[/]: starting"):
        try:
            return PEERS[name](folder)
        except (ServerFailed, OSError, subprocess.CalledProcessError) as failure:
            raise PeerAbsent(f"not started: {failure}") from failure


def _port_options(grpc: int, http: int, metrics: int) -> list[str]:
    """Kedge and Triton call their ports the same."""
    return [f"--grpc-port={grpc}", f"--http-port={http}", f"--metrics-port={metrics}"]


def _ready(process: ServerProcess, pattern: str) -> tuple[str, ...]:
    """Waits for the line that says the server serves; a server that does not is ended."""
    try:
        groups = process.wait_for_line(pattern, START_TIMEOUT_S).groups()
    except BaseException:
        process.stop()
        raise
    return tuple(str(group) for group in groups)
