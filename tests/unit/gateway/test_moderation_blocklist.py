"""The blocklist: what its lines find, and how it is read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.moderation import NOT_ALLOWED, Question
from gateway.moderation.blocklist import MOST_LINES, Blocklist
from scheduler.core.errors import ConfigurationError

pytestmark = pytest.mark.unit

LIST = """\
# What nobody wants to see.
weasel
Crème brûlée

two   words
c++
re:\\bbadger\\w*
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    path.write_text(LIST)
    return path


async def allowed(blocklist: Blocklist, prompt: str) -> bool:
    return (await blocklist.check(Question(prompt, "t", "s", "m"))).allowed


@pytest.mark.parametrize(
    "prompt",
    [
        "a weasel",
        "WEASEL!",
        "wea\u200bsel",
        "\uff37easel",
        "a creme brulee, please",
        "CRE\u0300ME BRU\u0302LE\u0301E",
        "two words",
        "two\nwords",
        "more c++ code",
        "badgers",
    ],
)
async def test_what_is_listed_is_refused(file: Path, prompt: str) -> None:
    assert not await allowed(Blocklist(str(file)), prompt)


@pytest.mark.parametrize(
    "prompt", ["weasels", "two other words", "c", "a honeybadger", "# What nobody", "", "re:"]
)
async def test_what_is_not_listed_is_allowed(file: Path, prompt: str) -> None:
    assert await allowed(Blocklist(str(file)), prompt)


async def test_an_empty_list_allows_everything(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# nothing\n")
    assert await allowed(Blocklist(str(tmp_path / "list")), "anything")


async def test_the_reason_is_the_operators(file: Path) -> None:
    verdict = await Blocklist(str(file), reason="be kind").check(Question("weasel", "t", "s", "m"))
    assert verdict.reason == "be kind"
    assert (await Blocklist(str(file)).check(Question("weasel", "", "", ""))).reason == NOT_ALLOWED


async def test_a_changed_list_is_read_again(file: Path) -> None:
    blocklist = Blocklist(str(file))
    assert not blocklist.look()
    file.write_text("otter\n")
    assert blocklist.look()
    assert not await allowed(blocklist, "an otter")
    assert await allowed(blocklist, "a weasel")


async def test_a_list_that_has_become_wrong_changes_nothing_but_the_log(file: Path) -> None:
    blocklist = Blocklist(str(file))
    for wrong in (lambda: file.write_text("re:(\n"), file.unlink):
        wrong()
        with capture_logs() as log:
            assert not blocklist.look()
        assert [each["event"] for each in log] == ["blocklist.kept"]
        assert not await allowed(blocklist, "a weasel")


@pytest.mark.parametrize(
    "content", ["re:(\n", "weasel\n" * (MOST_LINES + 1), b"\xff\xfe".decode("latin-1")]
)
def test_a_list_that_cannot_be_used_keeps_the_gateway_from_starting(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "list"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigurationError):
        Blocklist(str(path))
    with pytest.raises(ConfigurationError):
        Blocklist(str(tmp_path / "none"))
