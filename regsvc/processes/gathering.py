"""The metrics of several processes in one answer, each sample with the number of its process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from regsvc.metrics import PROCESS_FAILURES, PROCESS_RUNNING
from regsvc.processes.states import ProcessState

Families = list[Any]
"""Metrics as they travel: name, text, type and samples of each."""

_LABEL = "process"
_OF_ALL = frozenset({"regsvc_process_running", "regsvc_process_failures"})  # each process has them of all


def dump_metrics() -> Families:
    """Return the metrics of this process, as they travel."""
    return [
        [
            family.name,
            family.documentation,
            family.type,
            [[sample.name, sample.labels, sample.value] for sample in family.samples],
        ]
        for family in REGISTRY.collect()
    ]


def note_states(before: Sequence[ProcessState], now: Sequence[ProcessState]) -> None:
    """Count how the processes are in this process's own metrics."""
    counted = {state.number: state.failures for state in before}
    for state in now:
        PROCESS_RUNNING.labels(state.number).set(state.state == "running")
        PROCESS_FAILURES.labels(state.number).inc(state.failures - counted.get(state.number, 0))


def render_metrics(number: int, others: Mapping[int, Families]) -> bytes:
    """Return the metrics of all processes in Prometheus' text format.

    Args:
        number: of this process.
        others: metrics of the others, by number.
    """
    merged: dict[str, Metric] = {}
    for process, families in sorted({**others, number: dump_metrics()}.items()):
        for name, text, kind, samples in families:
            if name in _OF_ALL and process != number:
                continue
            metric = merged.setdefault(name, Metric(name, text, kind))
            for sample, labels, value in samples:
                metric.add_sample(sample, {_LABEL: str(process), **labels}, value)
    return generate_latest(_Fixed([*merged.values()]))


class _Fixed(Collector):
    """A registry with nothing but these."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        yield from self._metrics
