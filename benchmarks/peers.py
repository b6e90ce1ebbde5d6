"""The servers of the comparison: how each is installed, started, and known to serve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path

from _harness import REPOSITORY, console
from _kedge import serve_torchscript
from _processes import ServerFailed, ServerProcess, free_ports
from _servers import Server, port_options, ready
from _venvs import PeerAbsent, site_packages, venv_for
from _wire import MODELS, payload

SERVERS = REPOSITORY / "benchmarks" / "servers"
READY_LINE = r"^ready grpc=(\S+)"
# What every server of the comparison serves.
COMPARED = ("bench", "image", "strings")
IDENTITY = {model: payload(model) for model in COMPARED}


def kedge(folder: Path) -> Server:
    """`kedge serve` of TorchScript models in the gateway process."""
    return serve_torchscript(folder, COMPARED)


def kedge_workers(folder: Path) -> Server:
    """The same with every model in a worker process."""
    return serve_torchscript(folder, COMPARED, placement="workers", name="kedge_workers")


def grpc_aio(folder: Path) -> Server:
    """A grpc.aio echo in the environment of the benchmark itself."""
    script, port = SERVERS / "grpc_aio_echo.py", free_ports(1)[0]
    process = ServerProcess(folder / "grpc_aio.log", sys.executable, script, str(port))
    return Server("grpc_aio", process, ready(process, READY_LINE)[0], IDENTITY)


def triton(folder: Path) -> Server:
    """The tritonserver binary of the nvidia-pytriton wheel, with python-backend identities."""
    repository = folder / "repository"
    for model in COMPARED:
        write_triton_model(repository, model, SERVERS / "triton_identity.py")
    return start_triton(folder, repository)


def start_triton(folder: Path, repository: Path) -> Server:
    """Triton with a repository of python-backend models, ready."""
    venv = venv_for("triton")
    wheel = site_packages(venv) / "pytriton" / "tritonserver"
    ports = free_ports(3)
    options = [
        f"--model-repository={repository}",
        f"--backend-directory={_triton_backends(wheel)}",
        *port_options(*ports),
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
    ready(process, r"(Started) GRPCInferenceService")
    return Server("triton", process, f"127.0.0.1:{ports[0]}", IDENTITY)


def write_triton_model(repository: Path, model: str, program: Path) -> None:
    """One python-backend model with dynamic batching, its input as its output."""
    interface = MODELS[model]
    version = repository / model / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(program.read_text())
    datatype = "TYPE_STRING" if interface.datatype == "BYTES" else f"TYPE_{interface.datatype}"
    tensor = f"data_type: {datatype} dims: {list(interface.input_dims)}"
    (repository / model / "config.pbtxt").write_text(f"""backend: "python"
max_batch_size: {interface.rows_max}
input {{ name: "INPUT0" {tensor} }}
output {{ name: "OUTPUT0" {tensor} }}
instance_group {{ kind: KIND_CPU count: 1 }}
dynamic_batching {{ }}
""")


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


def mlserver(folder: Path) -> Server:
    """MLServer with an echo runtime in its one process, access log off: its fastest settings."""
    venv = venv_for("mlserver")
    grpc_port, http_port, metrics_port = map(str, free_ports(3))
    for model in COMPARED:
        own_folder = folder / "models" / model
        own_folder.mkdir(parents=True)
        settings = {"name": model, "implementation": "mlserver_echo.Echo"}
        (own_folder / "model-settings.json").write_text(json.dumps(settings))
    environment = {
        "PYTHONPATH": str(SERVERS),
        "MLSERVER_DEBUG": "false",
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_GRPC_PORT": grpc_port,
        "MLSERVER_HTTP_PORT": http_port,
        "MLSERVER_METRICS_PORT": metrics_port,
        # 0 is no pool: with its default of one worker every request is pickled to it and back.
        "MLSERVER_PARALLEL_WORKERS": "0",
    }
    command = [venv / "bin" / "mlserver", "start", folder / "models"]
    process = ServerProcess(folder / "mlserver.log", *command, env=environment)
    ready(process, r"(gRPC server running)")
    return Server(
        "mlserver",
        process,
        f"127.0.0.1:{grpc_port}",
        IDENTITY,
        metrics=f"127.0.0.1:{metrics_port}",
        success_metric="model_infer_request_success_total",
    )


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
    address = ready(process, READY_LINE)[0]
    # Ray's scheduler, controller and logging only idle: they are not counted per request.
    return Server("ray", process, address, IDENTITY, serving=r"ray::ServeReplica|haproxy")


PEERS: Mapping[str, Callable[[Path], Server]] = {
    "kedge": kedge,
    "kedge_workers": kedge_workers,
    "grpc_aio": grpc_aio,
    "triton": triton,
    "mlserver": mlserver,
    "ray": ray,
}


LABELS: Mapping[str, str] = {
    "kedge": "Kedge, inline",
    "kedge_workers": "Kedge, worker process",
    "grpc_aio": "grpc.aio, echo",
    "triton": "Triton, python-backend identity",
    "mlserver": "MLServer, echo",
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
