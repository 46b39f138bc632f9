"""What the Ray backend asks of Ray, without a cluster."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.backends.launcher import ActorSpec, Room

pytestmark = pytest.mark.unit

ray_actors = pytest.importorskip("scheduler.backends.ray_actors")


def launcher(num_gpus: float = 0.0) -> Any:
    specs = [
        ActorSpec(model=model, placement_address="a:1", lease_secret="s", listen="")
        for model in ("painter", "simulated")
    ]
    shell = "a:B"
    return ray_actors.RayLauncher(specs, shell=shell, num_gpus=num_gpus)


class Gcs:
    """What Ray's control process knows of nodes and actors."""

    def __init__(self, draining: dict[str, int], where: dict[str, str] | None = None) -> None:
        self._draining = draining
        self._where = where or {}

    def get_draining_nodes(self) -> dict[str, int]:
        return self._draining

    def actor_table(self, actor_id: str, *_: object) -> dict[str, Any]:
        node = self._where.get(actor_id)
        return {"Address": {"NodeID": node}} if node else {}


def node(name: str, actors: int, surge: int = 0, *, alive: bool = True) -> dict[str, Any]:
    resources = {"sana_actor": float(actors + surge), "sana_surge": float(surge)}
    return {"NodeID": name, "Alive": alive, "Resources": resources}


async def test_the_demand_is_told_to_the_autoscaler_in_bundles_of_one_actor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[dict[str, float]]] = []
    monkeypatch.setattr(ray_actors, "request_resources", lambda bundles: asked.append(bundles))
    await launcher().wish(2)
    await launcher(num_gpus=0.5).wish(1)
    await launcher().wish(0)
    assert asked == [[{"sana_actor": 1}] * 2, [{"sana_actor": 1, "GPU": 0.5}], []]


async def test_room_is_on_living_nodes_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        node("head", 0),
        node("a", 2, surge=1),
        node("b", 4),
        node("going", 8),
        node("dead", 16, alive=False),
    ]
    monkeypatch.setattr(ray_actors, "_nodes", lambda: nodes)
    monkeypatch.setattr(ray_actors, "_gcs", Gcs({"going": 0}))
    assert await launcher().room() == Room(6, surge=1)


async def test_actors_on_nodes_that_are_to_go_are_known_with_the_time_they_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def found(name: str) -> SimpleNamespace:
        handle = SimpleNamespace(_actor_id=SimpleNamespace(hex=lambda: f"ray-{name}"))
        return SimpleNamespace(actor=name, handle=SimpleNamespace(handle=handle))

    where = {"ray-x": "soon", "ray-y": "sometime", "ray-z": "stays"}
    draining = {"soon": int((time.time() + 60) * 1000), "sometime": 0}
    monkeypatch.setattr(ray_actors, "_running", lambda: [found(name) for name in "xyzw"])
    monkeypatch.setattr(ray_actors, "_gcs", Gcs(draining, where))
    leaving = await launcher().leaving()
    assert leaving.keys() == {"x", "y"}
    assert 0 < leaving["x"] <= 60
    assert leaving["y"] is None


async def test_without_such_nodes_no_actor_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise AssertionError

    monkeypatch.setattr(ray_actors, "_gcs", Gcs({}))
    monkeypatch.setattr(ray_actors, "_running", none)
    assert await launcher().leaving() == {}


def test_running_actors_are_found_by_their_names_with_their_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [
        {"name": "sana-actor-1f-sana-streaming", "namespace": "sana-gateway"},
        {"name": "sana-actor-2f-painter", "namespace": "other"},
        {"name": "sana-actor-3f-gone", "namespace": "sana-gateway"},
        {"name": "sana-scheduler", "namespace": "sana-gateway"},
        {"name": None, "namespace": "sana-gateway"},
    ]

    def get_actor(name: str, namespace: str) -> str:
        if name.endswith("gone"):
            raise ValueError(name)
        return f"{namespace}/{name}"

    monkeypatch.setattr(ray_actors, "list_named_actors", lambda **_: names)
    monkeypatch.setattr(ray_actors.ray, "get_actor", get_actor)
    [found] = ray_actors._running()
    assert (found.actor, found.model) == ("1f", "sana-streaming")
    assert found.handle.handle == "sana-gateway/sana-actor-1f-sana-streaming"
