"""Changes to the text of a file of API keys that keep its comments and its order. Pure.

YAML is written by people, too: entries are added and taken out as lines, and the result is
read again before anybody relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from gateway.auth.key_file import Keys, parse
from scheduler.core.errors import ConfigurationError

HEAD = "# API keys of sana-gateway: hashes, never the keys. See docs/auth.md.\nkeys:\n"
"""How a new file begins."""
_BY_HAND = "the file is written in a way that only a person can change"


def added(text: str, entry: Mapping[str, object]) -> str:
    """Returns the file with one more entry, at its end.

    Args:
        text: The file; empty for one that does not exist.
        entry: The fields, as the file holds them.

    Raises:
        ConfigurationError: The file or the entry is wrong, or its form allows no added lines.
    """
    before = parse(text) if text.strip() else Keys()
    kept = text if text.strip() else HEAD
    kept += "" if kept.endswith("\n") else "\n"
    lines = yaml.safe_dump([dict(entry)], sort_keys=False).splitlines()
    fault: ConfigurationError | None = None
    for indent in ("  ", ""):
        after = kept + "".join(f"{indent}{line}\n" for line in lines)
        try:
            keys = parse(after)
        except ConfigurationError as error:
            fault = fault or error
            continue
        if keys.records[:-1] == before.records and keys.tenants == before.tenants:
            return after
    # Whether the entry is at fault, or the place that it was put at.
    parse(HEAD + "".join(f"  {line}\n" for line in lines))
    if str(entry.get("id")) in before.by_id and fault is not None:
        raise fault
    raise ConfigurationError(f"{_BY_HAND}; put this below `keys:`\n" + "\n".join(lines))


def removed(text: str, key_id: str) -> str:
    """Returns the file without an entry.

    Raises:
        ConfigurationError: There is no such entry, or its lines cannot be told apart.
    """
    before = parse(text)
    if key_id not in before.by_id:
        known = ", ".join(before.by_id) or "none"
        raise ConfigurationError(f"there is no key {key_id!r}; there are: {known}")
    index = [each.key_id for each in before.records].index(key_id)
    starts = _starts(text)
    lines = text.splitlines(keepends=True)
    end = starts[index + 1] if index + 1 < len(starts) else len(lines)
    # Comments above the next entry are about that one.
    while end > starts[index] + 1 and _is_remark(lines[end - 1]):
        end -= 1
    after = "".join(lines[: starts[index]] + lines[end:])
    left = tuple(each for each in before.records if each.key_id != key_id)
    try:
        harmless = parse(after)
        unharmed = harmless.records == left and harmless.tenants == before.tenants
    except ConfigurationError:
        unharmed = False
    if not unharmed:
        raise ConfigurationError(_BY_HAND)
    return after


def _starts(text: str) -> list[int]:
    """Returns the lines at which the entries begin, from 0."""
    content = yaml.compose(text, yaml.SafeLoader)
    assert isinstance(content, yaml.MappingNode)  # noqa: S101 - it was read before
    entries = next(value for name, value in content.value if name.value == "keys")
    return [entry.start_mark.line for entry in entries.value]


def _is_remark(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")
