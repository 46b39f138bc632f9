"""What is known of a session's usage, as text in the ledger's file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

from scheduler.core.metering import Account, Carried, Shown, Tally, Terms


def write_account(account: Account) -> str:
    """Writes it."""
    told = {
        "floor": account.origin_floor,
        "before": astuple(account.before),
        "tallies": {
            origin: [each.floor, astuple(each.before), _out(each.runs)]
            for origin, each in account.tallies.items()
        },
        "owners": {
            owner: [each.floor, astuple(each.before), _out(each.terms)]
            for owner, each in account.owners.items()
        },
    }
    return json.dumps(told, separators=(",", ":"))


def read_account(text: str) -> Account:
    """Reads what `write_account` has written."""
    told = json.loads(text)
    return Account(
        origin_floor=told["floor"],
        before=Shown(*told["before"]),
        tallies={
            int(origin): Tally(int(origin), floor, Shown(*before), _in(runs, Shown))
            for origin, (floor, before, runs) in told["tallies"].items()
        },
        owners={
            owner: Terms(floor, Carried(*before), _in(terms, Carried))
            for owner, (floor, before, terms) in told["owners"].items()
        },
    )


def _out(figures: Mapping[int, Shown] | Mapping[int, Carried]) -> dict[int, tuple[int, ...]]:
    return {number: astuple(each) for number, each in figures.items()}


def _in(told: Mapping[str, list[int]], kind: Any) -> dict[int, Any]:  # noqa: ANN401 - either
    return {int(number): kind(*figures) for number, figures in told.items()}
