"""The guard: another aiortc than the known one is refused, part by part."""

from __future__ import annotations

import types
from typing import Any

import aiortc
import pytest

from gateway.webrtc import aiortc_adapter
from gateway.webrtc.aiortc_adapter import guard
from gateway.webrtc.aiortc_adapter.guard import Part
from scheduler.core.errors import ConfigurationError

pytestmark = pytest.mark.unit

PARTS = tuple(guard.used())
every_part = pytest.mark.parametrize("part", PARTS, ids=str)


def test_the_installed_aiortc_is_known() -> None:
    aiortc_adapter.require_supported()


@pytest.mark.parametrize("version", ["1.15.0", "1.17.0", "2.0.0"])
def test_another_aiortc_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiortc, "__version__", version)
    with pytest.raises(ConfigurationError, match=version):
        aiortc_adapter.require_supported()


@every_part
def test_an_aiortc_without_a_part_that_we_use_is_refused(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_against(monkeypatch, part, owner_without(part))
    with pytest.raises(ConfigurationError, match=part.name):
        aiortc_adapter.require_supported()


@pytest.mark.parametrize("part", [part for part in PARTS if part.parameters is not None], ids=str)
def test_an_aiortc_that_calls_a_part_of_ours_otherwise_is_refused(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = owner_without(part)
    setattr(owner, part.name, lambda self, another: (self, another))
    check_against(monkeypatch, part, owner)
    with pytest.raises(ConfigurationError, match=part.name):
        aiortc_adapter.require_supported()


@every_part
def test_what_stands_in_for_aiortc_is_refused_for_the_part_alone(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two tests above would pass with any stand-in, were this not so."""
    owner = owner_without(part)
    if part.parameters is None:
        setattr(owner, part.name, "here")
    else:
        scope: dict[str, Any] = {}
        exec(f"def part({', '.join(part.parameters)}): ...", scope)  # noqa: S102
        setattr(owner, part.name, scope["part"])
    check_against(monkeypatch, part, owner)
    aiortc_adapter.require_supported()


def owner_without(part: Part) -> Any:
    """Something like the owner of a part that does not have it."""
    return types.SimpleNamespace(__name__=getattr(part.owner, "__name__", "owner"))


def check_against(monkeypatch: pytest.MonkeyPatch, part: Part, owner: Any) -> None:
    """Lets the guard look for a part at another owner."""
    key = (id(part.owner), part.name)
    monkeypatch.setitem(guard._parts, key, Part(owner, part.name, part.parameters))


class Owner:
    def __init__(self) -> None:
        self._of_instances = 1


def test_what_instances_have_counts_as_there() -> None:
    assert guard._is_there(Part(Owner, "_of_instances"))
    assert not guard._is_there(Part(Owner, "_of_nobody"))
    assert not guard._is_there(Part(Owner, "_of_instances", ("self",)))


def test_a_part_that_is_not_there_cannot_be_replaced() -> None:
    with pytest.raises(ConfigurationError, match="no_such_part"):
        guard.replace(Owner(), "no_such_part", 1)
    with pytest.raises(ConfigurationError, match="no_such_part"):
        guard.private(Owner(), "no_such_part")
