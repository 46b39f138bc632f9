"""What can be asked for at a door, and who is to get what. Tables, and what fills them in."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.e2e.isolation.callers import Caller

HTTP: Final = {"door": "http", "away": "404", "forbidden": "403", "unknown": "401"}
GRPC: Final = {
    "door": "grpc",
    "away": "NOT_FOUND",
    "forbidden": "PERMISSION_DENIED",
    "unknown": "UNAUTHENTICATED",
}


@dataclass(frozen=True)
class Target:
    """Somebody's things, by all names under which they can be asked for."""

    session: str
    upload: str
    fork: str
    """A copy of the session."""
    stream: str
    """Name of a stream, `~name`."""
    streamed: str
    """Its session."""
    publisher: str
    """Id of its WHIP resource."""
    player: str
    """Id of a WHEP resource of the session."""
    connection: int
    """Number of a connection of the session."""
    until: str = "1999999999"
    signature: str = "0" * 32
    """As the address of a file of its recording says them."""
    capability: str = "x" * 120
    """As the address of an upload says it."""

    @property
    def ids(self) -> tuple[str, ...]:
        """What tells it from others in an answer."""
        named = dataclasses.asdict(self)
        return tuple(each for each in named.values() if isinstance(each, str) and each)


def nobodys(like: Target) -> Target:
    """Returns a target of the same form that does not exist."""
    drawn: dict[str, Any] = {
        name: f"s{secrets.token_hex(16)}" for name in ("session", "fork", "streamed")
    }
    return dataclasses.replace(
        like,
        **drawn,
        upload=secrets.token_hex(16),
        stream=f"~{secrets.token_hex(len(like.stream))[: len(like.stream) - 1]}",
        publisher=secrets.token_urlsafe(16),
        player=secrets.token_urlsafe(16),
        signature=secrets.token_hex(16),
        capability="".join(reversed(like.capability)),
    )


Who = Callable[[Caller, Mapping[str, str]], str]
"""From a caller and the words of a door to the status that it is to get of what exists, or to one
of two with `|` between them; empty: the caller is no stranger there, and is not to try.
"""


def owners(caller: Caller, words: Mapping[str, str]) -> str:
    """What belongs to a session: it is not there for another tenant."""
    if caller.name in ("sibling", "operator"):
        return words["forbidden"]
    # A key is no token: over HTTP nobody is called by it.
    if caller.name == "rival's key":
        return words["unknown"] if words["door"] == "http" else words["away"]
    return words["away"] if caller.name.startswith("rival") else words["unknown"]


def operators(caller: Caller, words: Mapping[str, str]) -> str:
    """What is for operators: of all tenants."""
    if caller.name == "operator":
        return ""
    if caller.name == "rival's key" and words["door"] == "http":
        return words["unknown"]
    known = caller.name.startswith("rival") or caller.name == "sibling"
    return words["forbidden"] if known else words["unknown"]


def guests(caller: Caller, words: Mapping[str, str]) -> str:
    """What whoever may have sessions may ask for."""
    told = owners(caller, words)
    if told == words["away"] or caller.name == "sibling":
        return words["allowed"]
    return told


def readers(caller: Caller, words: Mapping[str, str]) -> str:
    """What a tenant may ask of its own, by a token that is not narrowed, and operators of all."""
    if caller.name in ("sibling", "rival, narrowed"):
        return words["forbidden"]
    return "" if caller.name == "operator" else guests(caller, words)


def owners_and_operators(caller: Caller, words: Mapping[str, str]) -> str:
    """What belongs to a session, and is for operators, too."""
    return "" if caller.name == "operator" else owners(caller, words)


def makers(caller: Caller, words: Mapping[str, str]) -> str:
    """What whoever may make sessions may ask for: a token for those that exist makes none."""
    bound = caller.name == "rival, bound to them"
    return words["forbidden"] if bound else guests(caller, words)


def members(caller: Caller, words: Mapping[str, str]) -> str:
    """What is for everybody who is somebody."""
    return words["allowed"] if caller.name == "operator" else guests(caller, words)


def namesakes(caller: Caller, words: Mapping[str, str]) -> str:
    """What goes by a name: others who use it mean something else by it."""
    return words["away"] if caller.name == "sibling" else owners(caller, words)


def passers_by(caller: Caller, words: Mapping[str, str]) -> str:
    """What is nothing, so that it needs no leave; but the front door lets nobody through who is
    nobody.
    """
    return "|".join({words["allowed"], guests(caller, words)})


def everybody(_: Caller, words: Mapping[str, str]) -> str:
    """What nobody has to say his name for."""
    return words["allowed"]


def nobody(_: Caller, words: Mapping[str, str]) -> str:
    """What is not there, as long as there is authentication."""
    return words["unknown"]


def holders(_: Caller, words: Mapping[str, str]) -> str:
    """What its address alone gives leave to: nobody has the right one."""
    return words["away"]


@dataclass(frozen=True)
class Ask:
    """A request of HTTP."""

    path: Callable[[Target], str]
    body: bytes | Callable[[Target], bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    who: Who = owners
    allowed: str = ""
    """Status of whoever `who` lets in."""
    own: str = ""
    """Status that the owner gets; empty: nobody owns it, or see `test_isolation`."""
    ends: bool = False
    """Whether it ends what it is about, when its owner asks."""

    def content(self, target: Target) -> bytes:
        """Returns the body."""
        return self.body(target) if callable(self.body) else self.body


@dataclass(frozen=True)
class Call:
    """A call of gRPC."""

    requests: Callable[[Target], list[Any]]
    who: Who = owners
    allowed: str = "OK"
    own: str = "OK"
    ends: bool = False
