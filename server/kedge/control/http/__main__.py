"""`python -m kedge.control.http`: started by the gateway, not by people.

This is where the HTTP process is put together, as `app.py` is for the gateway.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys

from kedge.control.http.process import CannotListen, HttpSettings, run
from kedge.core.ports import SECRET_VARIABLE
from kedge.monitoring.prometheus import MetricsPage


def main(arguments: list[str]) -> int:
    """Serve until told to stop; the exit code, 1 when an address is taken."""
    parser = argparse.ArgumentParser(prog="python -m kedge.control.http", description=__doc__)
    parser.add_argument("--grpc", required=True, metavar="TARGET")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--metrics-port", type=int, default=8002)
    parser.add_argument("--control-from-loopback-only", action="store_true")
    parser.add_argument("--parent-fd", type=int, required=True)
    given = parser.parse_args(arguments)
    settings = HttpSettings(
        grpc_address=given.grpc,
        gateway_secret=os.environ.pop(SECRET_VARIABLE, ""),
        host=given.host,
        http_port=given.http_port,
        metrics_port=given.metrics_port,
        control_from_loopback_only=given.control_from_loopback_only,
        parent_fd=given.parent_fd,
    )
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # One line for every malformed request would let clients fill the disk; tracebacks stay.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    try:
        run(settings, MetricsPage().render)
    except CannotListen as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
