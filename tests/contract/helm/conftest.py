"""The chart, rendered with the values of `ci/` and with values that it must refuse."""

from __future__ import annotations

import pytest

from tests.contract.helm import chart
from tests.contract.helm.refusals import DEFAULT, MISSPELT, REFUSED


@pytest.fixture(scope="session")
def result() -> chart.Json:
    """What Helm's engine makes of all of them."""
    sets = {**chart.value_sets(), "misspelt": chart.merged(DEFAULT, MISSPELT)}
    return chart.run(sets, {name: values for name, (values, _) in REFUSED.items()})


@pytest.fixture(scope="session")
def renderings(result: chart.Json) -> dict[str, chart.Rendering]:
    """The renderings, by the name of their values."""
    return {
        name: each for name, each in chart.rendered(result).items() if name in chart.names_of_sets()
    }


@pytest.fixture(params=chart.names_of_sets())
def rendering(
    request: pytest.FixtureRequest, renderings: dict[str, chart.Rendering]
) -> chart.Rendering:
    """Each of the renderings."""
    return renderings[request.param]
