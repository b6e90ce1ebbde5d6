"""The command line: one function per verb, typed options to settings to the library. Imports no
torch, numba or grpc before a verb needs it, so that `kedge --help` answers at once.
"""

from __future__ import annotations

import click

from kedge import __version__
from kedge.cli.bench import bench
from kedge.cli.doctor import doctor
from kedge.cli.drift import drift
from kedge.cli.explain import explain
from kedge.cli.init import init
from kedge.cli.predict import predict
from kedge.cli.serve import serve
from kedge.cli.validate import validate
from kedge.cli.warm import warm


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kedge", message="%(prog)s %(version)s")
def main() -> None:
    """Serve PyTorch models over gRPC (KServe v2, Triton's protocol).

    Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 inconclusive, 4 a gate failed.
    """


for _verb in (init, doctor, validate, serve, predict, bench, explain, drift, warm):
    main.add_command(_verb)
