"""Plugins that are not the project's own, for services under test."""

from __future__ import annotations

from tests.stack import ROOT

INSTALLED = {"PYTHONPATH": str(ROOT / "tests/fixtures/plugins")}
"""Environment in which they are installed: auth `named`, where a token is the name of a tenant,
and the model `understudy`, which is `simulated` under another name."""
