"""`kedge doctor`: does this machine have what `kedge serve` needs, and do the models load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from kedge.cli.machine import Finding, machine_findings
from kedge.cli.models import ALLOW_MODEL_CODE, read_targets
from kedge.cli.output import Exit, output_option, show_rows
from kedge.cli.serve import listener_options, state_option

# Importing torch takes 2 s, compiling the kernels 20 s, and a large model may load for a minute.
PROBE_S_MAX = 300
# Kernels load in 0.1 s from their cache.
KERNELS = "kernels"


@click.command()
@click.argument("targets", nargs=-1, type=click.Path(path_type=Path))
@listener_options
@state_option
@click.option(
    "--allow-model-code", is_flag=True, help="Try models that are code too; they can do anything."
)
@output_option
@click.pass_context
def doctor(
    context: click.Context,
    /,
    targets: tuple[Path, ...],
    state_dir: Path,
    output: str,
    allow_model_code: bool,
    **on: Any,
) -> None:
    """Check this machine, and TARGETs if given.

    Each model is fetched if it is a URL, loaded and run once. warn: it works, but worse than it
    could; fail: `kedge serve` would not work.
    """
    host = on.pop("host")
    ports = {option.removesuffix("_port"): port for option, port in on.items()}
    findings = [
        *machine_findings(host, ports),
        *_target_findings(targets),
        *_probe(state_dir, targets, allow_model_code),
    ]
    show_rows([finding._asdict() for finding in findings], output)
    failed = any(finding.state == "fail" for finding in findings)
    context.exit(Exit.FAILED if failed else Exit.OK)


def _target_findings(targets: tuple[Path, ...]) -> list[Finding]:
    """What the configurations say; models without problems are left to the probe."""
    manifests, problems = read_targets(targets)
    failures = [Finding("target", "fail", str(problem)) for problem in problems]
    warnings = [
        Finding(f"model {manifest.ref}", "warn", warning)
        for manifest in manifests
        for warning in manifest.warnings
    ]
    return failures + warnings


def _probe(state_dir: Path, targets: tuple[Path, ...], allow_model_code: bool) -> list[Finding]:
    """What another process found out; it may hang or crash without harm."""
    option = [ALLOW_MODEL_CODE] if allow_model_code else []
    command = [sys.executable, "-m", "kedge.cli.probe", *option, str(state_dir)]
    command += map(str, targets)
    try:
        done = subprocess.run(  # noqa: S603 - our own module, paths as plain arguments
            command, capture_output=True, text=True, timeout=PROBE_S_MAX, check=False
        )
    except subprocess.TimeoutExpired as expired:
        printed = expired.stdout or b""
        text = printed if isinstance(printed, str) else printed.decode()
        return [*_findings(text), Finding("probe", "fail", f"no answer within {PROBE_S_MAX} s")]
    findings = _findings(done.stdout)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit status {done.returncode}"
        findings.append(Finding("probe", "fail", f"ended after the line above: {reason}"))
    return findings


def _findings(lines: str) -> list[Finding]:
    return [_finding(**json.loads(line)) for line in lines.splitlines()]


def _finding(name: str, error: str, seconds: float, detail: str) -> Finding:
    check = name if name in {"torch", KERNELS} else f"model {name}"
    if error:
        return Finding(check, "fail", error)
    is_cold = name == KERNELS and not detail.startswith("from cache")
    return Finding(check, "warn" if is_cold else "ok", f"{detail} ({seconds:.1f} s)")
