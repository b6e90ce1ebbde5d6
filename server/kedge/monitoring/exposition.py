"""The Prometheus text format, version 0.0.4. Pure.

Written out here, because the usual library ends every counter's name in `_total`, and Triton's do
not. Source: prometheus.io/docs/instrumenting/exposition_formats
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line. suffix: what a histogram's parts have behind the metric's name."""

    labels: Labels
    value: float
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with all its samples. kind: counter, gauge or histogram."""

    name: str
    kind: str
    description: str
    samples: Sequence[Sample]


def histogram_samples(
    labels: Labels, bounds: Sequence[int], counts: Mapping[int, int], total: int
) -> Iterator[Sample]:
    """counts: observations by observed value; total: the sum of all observed values."""
    for bound in bounds:
        up_to = sum(count for value, count in counts.items() if value <= bound)
        yield Sample({**labels, "le": str(bound)}, up_to, "_bucket")
    observations = sum(counts.values())
    yield Sample({**labels, "le": "+Inf"}, observations, "_bucket")
    yield Sample(labels, total, "_sum")
    yield Sample(labels, observations, "_count")


def expose(metrics: Iterable[Metric]) -> str:
    """The page. Metrics without samples are announced all the same."""
    return "".join(
        f"# HELP {metric.name} {_escaped(metric.description)}\n"
        f"# TYPE {metric.name} {metric.kind}\n"
        + "".join(_line(metric.name, sample) for sample in metric.samples)
        for metric in metrics
    )


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(
        '{}="{}"'.format(key, _escaped(value).replace('"', r"\""))
        for key, value in sample.labels.items()
    )
    return f"{name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {sample.value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
