"""The lines of docs/grpc.md for `buf curl`: by reflection, and with the descriptor set."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.required import ROOT, require
from tests.stack import Stack

pytestmark = pytest.mark.e2e

SCHEMAS: tuple[tuple[str, ...], ...] = ((), ("--schema", "proto/sana_gateway.binpb"))


def curl(stack: Stack, schema: tuple[str, ...], method: str, body: dict[str, Any]) -> Any:
    """Makes a call; returns its answer, or what it was refused with."""
    done = subprocess.run(
        [
            *(require(".tools/bin/buf"), "curl", *schema),
            *("--protocol", "grpc", "--http2-prior-knowledge", "-d", json.dumps(body)),
            f"http://{stack.grpc_address}/sana_gateway.v1.{method}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return json.loads(done.stdout or done.stderr)


@pytest.mark.parametrize("schema", SCHEMAS, ids=["reflection", "descriptor set"])
def test_a_session_is_driven_from_the_shell(simulated: Stack, schema: tuple[str, ...]) -> None:
    made = curl(simulated, schema, "SessionService/CreateSession", {"model": "simulated"})
    session = {"sessionId": made["session"]["sessionId"]}
    prompt = {"setPrompt": {"prompt": "a watercolour painting"}}
    answer = curl(simulated, schema, "SessionService/Execute", {**session, "command": prompt})
    assert answer["messages"][0]["promptAccepted"]["prompt"] == "a watercolour painting"
    assert answer["state"]["hasPrompt"]
    refused = curl(
        simulated, schema, "SessionService/Execute", {**session, "command": {"pause": {}}}
    )
    assert refused["code"] == "failed_precondition"
    kinds = {each["type"] for each in refused["details"]}
    assert "sana_gateway.v1.ErrorDetail" in kinds
    assert curl(simulated, schema, "SessionService/CloseSession", session) == {}
