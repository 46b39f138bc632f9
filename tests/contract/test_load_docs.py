"""What docs/load.md says of load tests is what the harness does."""

from __future__ import annotations

import re

import pytest

from sdk_adapters.harness.deeds import Deed
from sdk_adapters.harness.metrics import METRICS
from sdk_adapters.harness.outputs import FORMS
from sdk_adapters.harness.report.markdown import metrics
from tests.required import ROOT

pytestmark = pytest.mark.contract

DOC = (ROOT / "docs/load.md").read_text("utf-8")


def test_the_table_of_metrics_is_that_of_the_harness() -> None:
    assert metrics() in DOC


def test_it_names_the_metrics_of_which_more_is_better() -> None:
    (named,) = re.findall(r"from below for (.*?), where more is better", DOC, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", named)) == {
        name for name, metric in METRICS.items() if metric.more_is_better
    }


def test_it_names_every_file_that_a_run_leaves() -> None:
    assert all(f"`{name}`" in DOC for name, _ in FORMS.values())


def test_deeds_in_its_examples_exist() -> None:
    deeds = set(re.findall(r"--deed (\S+)", DOC))
    assert deeds
    assert deeds <= set(map(str, Deed))
