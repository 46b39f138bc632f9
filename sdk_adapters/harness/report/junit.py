"""A report as JUnit XML: a test case for each threshold, and one for the run's validity. Pure.

Continuous integration reads it as it reads tests. An invalid run is an *error*, a threshold
that was missed a *failure*.
"""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree as ET

from sdk_adapters.harness.report import words
from sdk_adapters.harness.report.model import LoadReport

_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not have."""
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>'


def render(report: LoadReport) -> str:
    """Returns the report as JUnit XML."""
    run = report.run
    begin, end = run.measured_s
    errors = [*report.validity.reasons]
    if words.cut_short(report):
        errors.append("the run was ended early")
    missed = sum(not each.met for each in report.verdicts)
    suite = ET.Element(
        "testsuite",
        name=_plain(f"load {run.scenario}"),
        tests=f"{len(report.verdicts) + 1}",
        failures=f"{missed}",
        errors=f"{int(bool(errors))}",
        skipped="0",
        time=f"{end - begin:.3f}",
        timestamp=_plain(run.began_at),
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("scenario_hash", run.scenario_hash),
        ("config_hash", run.config_hash),
        ("seed", f"{run.seed}"),
        ("commit", run.commit),
        ("service_version", run.service.version),
        ("model", run.service.model),
    ):
        ET.SubElement(properties, "property", name=name, value=_plain(value))
    validity = _case(suite, report, "the run is valid")
    if errors:
        ET.SubElement(validity, "error", message=_plain("; ".join(errors)), type="invalid")
    for each in report.verdicts:
        case = _case(suite, report, f"{words.label(each)} {words.limit(report, each)}")
        told = words.sentence(report, each)
        if each.met:
            ET.SubElement(case, "system-out").text = _plain(told)
        else:
            ET.SubElement(case, "failure", message=_plain(told), type="threshold")
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    return f"{_DECLARATION}\n{ET.tostring(suites, encoding='unicode')}\n"


def _case(suite: ET.Element, report: LoadReport, name: str) -> ET.Element:
    classname = _plain(f"load.{report.run.scenario}")
    return ET.SubElement(suite, "testcase", classname=classname, name=_plain(name), time="0")


def _plain(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
