"""The metrics of the service: one naming scheme, bounded labels, and a page that is fresh."""

from __future__ import annotations

import re
from functools import cache

import pytest
from prometheus_client import CollectorRegistry

from model_actor.metrics import ActorCollector, Use
from sana_gateway.v1 import pool_pb2
from scheduler.metrics import PoolCollector
from tools.metrics_catalogue import PAGE, Described, catalogue, page

pytestmark = pytest.mark.contract

KNOWN_LABELS = {
    "action", "actor", "cause", "code", "codec", "command", "index", "kind", "method", "model",
    "of", "outcome", "pool", "process", "queue", "rate", "reason", "role", "route", "stage",
    "state", "status", "version", "wire",
}  # fmt: skip
"""Labels whose values are few and ours. Before another is added: can a client make values up?"""
OF_NAMED_TENANTS = "sana_gateway_usage_"
"""Metrics that tell tenants apart, as far as the configuration names them."""
UNITS = re.compile(r"_(seconds|bytes)$")


@cache
def metrics() -> tuple[Described, ...]:
    return tuple(catalogue())


def test_the_page_is_fresh() -> None:
    before = PAGE.read_text()
    assert page(before) == before, "run: python -m tools.metrics_catalogue --write"


def test_every_metric_that_the_page_names_exists() -> None:
    exposed = {name for each in metrics() for name in each.exposed}
    named = set(re.findall(r"`(sana_gateway_[a-z0-9_]+)", PAGE.read_text()))
    families = {each.name for each in metrics()}
    prefixes = {name for name in named if any(each.startswith(name) for each in families)}
    assert not named - exposed - families - prefixes


def test_all_names_follow_one_scheme() -> None:
    assert len(metrics()) > 80
    for each in metrics():
        assert re.fullmatch(r"sana_gateway_[a-z][a-z0-9_]*[a-z0-9]", each.name), each.name
        assert not re.search(r"_(ms|us|milliseconds|kb|mb|minutes|hours)(_|$)", each.name), each
        assert each.text.endswith("."), each.name
        if each.kind == "histogram":
            assert UNITS.search(each.name) or each.name == "sana_gateway_batch_windows", each.name


def test_no_label_can_be_made_up_by_a_client() -> None:
    for each in metrics():
        known = KNOWN_LABELS | ({"tenant"} if each.name.startswith(OF_NAMED_TENANTS) else set())
        assert set(each.labels) <= known, each


def test_collectors_tell_nothing_that_they_do_not_describe() -> None:
    class Actor:
        def use(self) -> Use:
            return Use("m", 1, 2, 1, 0.5, 4, 0, 1.5, 1, 1, 64, 0)

    actors = ActorCollector()
    actors.add("a1", Actor())
    pool = pool_pb2.DescribePoolResponse(actors=[pool_pb2.Actor(actor_id="a1", model="m")])
    for collector in (actors, PoolCollector(lambda: pool)):
        described = {each.name for each in collector.describe()}
        assert {each.name for each in collector.collect()} == described
        # A second one of the same names is noticed.
        registry = CollectorRegistry()
        registry.register(collector)
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(type(collector)(*([lambda: pool] if collector is not actors else [])))
