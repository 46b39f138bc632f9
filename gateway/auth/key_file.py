"""The file of API keys: who may call, and what each may do.

YAML. It holds the SHA-256 hash of each key and never a key; docs/auth.md has an example.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gateway.auth.details import MOST_NAME
from gateway.auth.limits import Limits
from scheduler.core.errors import ConfigurationError

MOST_BYTES: Final = 4 * 1024 * 1024
"""Largest file of keys."""
MOST_KEY: Final = 256
"""Most characters of a key that is looked up; ours have 46."""
NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What an id and a tenant look like."""
ALL: Final = "all"
MOST_DEPTH: Final = 16
"""How deep lists and mappings may lie in each other; a file of keys has four levels."""

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One API key."""

    key_id: str
    digest: str = field(repr=False)
    """SHA-256 hash of the key in hexadecimal digits."""
    tenant: str
    scopes: frozenset[str]
    models: frozenset[str] | None
    """Models that it may create sessions of; None: all."""
    limits: Limits
    """What it may use."""
    expires_at: float | None
    """Seconds since 1970; None: never."""

    @property
    def mark(self) -> str:
        """Tells it from another key under the same id."""
        return self.digest[:16]

    def is_over(self, now: float) -> bool:
        """Tells whether it has expired at a time in seconds since 1970."""
        return self.expires_at is not None and now >= self.expires_at


class Keys:
    """The API keys of a file."""

    def __init__(
        self, records: Iterable[KeyRecord] = (), tenants: Mapping[str, Limits] | None = None
    ) -> None:
        """Takes the records, in the order of the file.

        Args:
            records: The keys.
            tenants: What all keys of a tenant may use together.

        Raises:
            ConfigurationError: Two have the same id or the same key.
        """
        self.records = tuple(records)
        self.tenants = dict(tenants or {})
        self.by_id: dict[str, KeyRecord] = {}
        self._by_digest: dict[str, KeyRecord] = {}
        for each in self.records:
            if each.key_id in self.by_id:
                raise ConfigurationError(f"the id {each.key_id!r} comes twice")
            if each.digest in self._by_digest:
                other = self._by_digest[each.digest].key_id
                raise ConfigurationError(f"{other!r} and {each.key_id!r} have the same key")
            self.by_id[each.key_id] = self._by_digest[each.digest] = each

    def find(self, api_key: str) -> KeyRecord | None:
        """Returns the record of a key, expired or not; None for one that is not known.

        How long that takes tells at most of the hash of what was shown, which says nothing
        of a key; the whole hash is compared in constant time.
        """
        if not 1 <= len(api_key) <= MOST_KEY:
            return None
        digest = digest_of(api_key)
        record = self._by_digest.get(digest)
        return record if record is not None and hmac.compare_digest(record.digest, digest) else None


def digest_of(api_key: str) -> str:
    """Returns the hash that the file holds of a key. Any text has one.

    A fast hash will do: keys are drawn with 256 bits, which nobody can try out.
    """
    return hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).hexdigest()


def parse(text: str) -> Keys:
    """Reads the content of a file of keys.

    Raises:
        ConfigurationError: It has another form. The text names the entry and the field, and
            repeats no value but ids.
    """
    if len(text) > MOST_BYTES:
        raise ConfigurationError(f"the file has more than {MOST_BYTES} bytes")
    try:
        return _parsed(text)
    except ConfigurationError:
        raise
    except Exception:
        # A tag that does not fit its value makes YAML's constructors raise anything at all.
        raise ConfigurationError("it is not YAML") from None


def _parsed(text: str) -> Keys:
    try:
        _refuse_deep(text)
        content = yaml.load(text, _Unique)  # noqa: S506 - it is a safe loader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else "the end"
        twice = isinstance(error, _TwiceError)
        why = "has a name for the second time" if twice else "is not YAML"
        raise ConfigurationError(f"{line} {why}") from None
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(_explain(content, error)) from None
    return Keys((each.record() for each in file.keys), file.tenants)


def _refuse_deep(text: str) -> None:
    """Passes a text of few levels: libyaml's loader goes down one frame of C a level, and takes
    the process along when there are too many.

    Raises:
        ConfigurationError: It has more levels.
    """
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            raise ConfigurationError(f"it has more than {MOST_DEPTH} levels")


def read(path: Path) -> Keys:
    """Reads a file of keys.

    Raises:
        ConfigurationError: It cannot be read, or has another form.
    """
    try:
        with path.open("rb") as file:
            # Not all of a file that is something else altogether.
            text = file.read(MOST_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(
            f"the API keys cannot be read ({path}: {why}); `sana-gateway keys new` makes the file"
        ) from None
    try:
        return parse(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"the API keys cannot be used ({path}: {error})") from None


def moment(value: object) -> float:
    """Returns a point in time in seconds since 1970; without a zone it is UTC.

    Args:
        value: A date, a date with a time, or the text of either (ISO 8601).

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if not isinstance(value, dt.datetime):
        raise ValueError("is a date")  # noqa: TRY004 - what pydantic takes for a fault of input
    return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).timestamp()


def _moment(value: object) -> float | None:
    try:
        return None if value is None else moment(value)
    except (ValueError, OverflowError):
        raise ValueError("is a date, as 2027-01-31 or 2027-01-31T12:00:00Z") from None


_Scope = Literal["model", "session", "operator"]
_DRIVING: Final[list[_Scope]] = ["session"]
"""Scopes of a key that names none."""
_Name = Annotated[str, Field(pattern=f"^{NAME}$", strict=True)]
_Model = Annotated[str, Field(min_length=1, max_length=MOST_NAME, strict=True)]


class _Entry(Limits):
    id: _Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", strict=True)]
    tenant: _Name
    scopes: Annotated[list[_Scope], Field(min_length=1)] = Field(default_factory=lambda: _DRIVING)
    models: Literal["all"] | Annotated[list[_Model], Field(min_length=1)] = "all"
    expires: Annotated[float | None, BeforeValidator(_moment)] = None

    def record(self) -> KeyRecord:
        return KeyRecord(
            key_id=self.id,
            digest=self.sha256,
            tenant=self.tenant,
            scopes=frozenset(self.scopes),
            models=None if self.models == ALL else frozenset(self.models),
            limits=Limits(**{name: getattr(self, name) for name in Limits.model_fields}),
            expires_at=self.expires,
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: Annotated[list[_Entry], BeforeValidator(lambda keys: [] if keys is None else keys)]
    tenants: dict[_Name, Limits] = Field(default_factory=dict)


class _TwiceError(yaml.MarkedYAMLError):
    """A mapping has a name twice; YAML's own loaders drop the first one without a word."""


class _Unique(_Loader):  # type: ignore[misc,valid-type]
    """Loads plain data, and mappings only where each name comes once."""

    def construct_mapping(self, node: yaml.MappingNode, *, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for name_node, _ in node.value:
            name = self.construct_object(name_node, deep=True)
            if isinstance(name, Hashable) and name in names:
                raise _TwiceError(problem_mark=name_node.start_mark)
            if isinstance(name, Hashable):
                names.add(name)
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found


_SAID: Final = {
    "model_type": "is to be a mapping of names to values",
    "list_type": "is to be a list",
    "extra_forbidden": "is no field of it",
    "missing": "is missing",
}
"""Our words for what pydantic calls by the names of its own types."""


def _explain(content: object, error: ValidationError) -> str:
    """Words every fault by its entry and its field, without the value that was refused."""
    lines = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        place = [str(part) for part in fault["loc"]]
        if len(place) >= 2 and place[0] == "keys":
            place[:2] = [_name_of(content, int(place[1]))]
        said = _SAID.get(fault["type"], fault["msg"].removeprefix("Value error, "))
        lines.append(f"{' '.join(place) or 'the file'}: {said}")
    return "; ".join(dict.fromkeys(lines))


def _name_of(content: object, index: int) -> str:
    entries = content.get("keys") if isinstance(content, Mapping) else None
    # A set, which YAML has too, passes for a list but has no order.
    entry = entries[index] if isinstance(entries, list) else None
    name = entry.get("id") if isinstance(entry, Mapping) else None
    return repr(name) if isinstance(name, str) and len(name) <= 64 else f"entry {index + 1}"
