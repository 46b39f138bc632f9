"""One exposition of several processes' metrics."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from scheduler.process.exposition import Merged, merged

pytestmark = pytest.mark.unit


def registry(calls: int) -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("calls", "Calls.", ("code",), registry=made).labels("OK").inc(calls, {"trace_id": "t"})
    Histogram("lag", "Lag.", buckets=(0.1, 1.0), registry=made).observe(0.5)
    return made


def text(calls: int) -> str:
    return openmetrics(registry(calls)).decode()  # type: ignore[no-untyped-call]


def test_samples_say_whose_they_are_and_families_come_once() -> None:
    families = merged({"front_door": text(3), "0": text(1), "1": text(2)})
    assert [each.name for each in families] == ["calls", "lag"]
    values = {
        sample.labels["worker"]: sample.value
        for sample in families[0].samples
        if sample.name == "calls_total"
    }
    assert values == {"front_door": 3.0, "0": 1.0, "1": 2.0}


@pytest.mark.parametrize("encode", [openmetrics, generate_latest])
def test_what_is_merged_can_be_exposed_in_either_format(encode: object) -> None:
    exposed = encode(Merged(merged({"front_door": text(3), "0": text(1), "1": text(2)})))  # type: ignore[operator]
    lines = exposed.decode().splitlines()
    types = [each for each in lines if each.startswith("# TYPE lag ")]
    assert types == ["# TYPE lag histogram"]
    assert 'lag_bucket{le="1.0",worker="1"} 1.0' in lines


def test_exemplars_survive() -> None:
    exposed = openmetrics(Merged(merged({"0": text(1)}))).decode()  # type: ignore[no-untyped-call]
    (calls, _) = text_string_to_metric_families(exposed)  # type: ignore[no-untyped-call]
    assert calls.samples[0].exemplar.labels == {"trace_id": "t"}


def test_a_worker_that_talks_nonsense_costs_only_its_own_samples() -> None:
    families = merged({"0": "nonsense {", "1": text(2)})
    assert {sample.labels["worker"] for each in families for sample in each.samples} == {"1"}


def test_a_name_that_means_something_else_elsewhere_is_left_out_there() -> None:
    other = CollectorRegistry()
    Gauge("lag", "Lag.", registry=other).set(1)
    texts = {"front_door": openmetrics(_only_lag()), "1": openmetrics(other)}  # type: ignore[no-untyped-call]
    (lag,) = merged({worker: text.decode() for worker, text in texts.items()})
    assert {sample.labels["worker"] for sample in lag.samples} == {"front_door"}


def _only_lag() -> CollectorRegistry:
    made = CollectorRegistry()
    Histogram("lag", "Lag.", registry=made).observe(0.5)
    return made
