"""Two tenants try everything against each other: what is another's looks like what is not there.

Every row of the tables is tried by everybody, once for what another tenant has and once for what
nobody has: to the byte the same comes back. The owner, who asks for the same, gets it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from sana_gateway import CallError, Client, Session
from sana_gateway.v1 import command_pb2, event_pb2, session_pb2, usage_pb2
from tests.e2e.driving import Seen, Told, polled, stage, watching
from tests.e2e.isolation import grpc_table, http_table
from tests.e2e.isolation.callers import TRACE, Caller
from tests.e2e.isolation.http_table import said
from tests.e2e.isolation.outcome import Outcome, over_grpc, over_http
from tests.e2e.isolation.rows import GRPC, HTTP, Ask, Call, Target, operators
from tests.e2e.isolation.world import MODEL, NAME, PROMPT, World, ask, furnished
from tests.e2e.reactor import wire_client
from tests.unit.sdk_adapters.whip_offers import OBS, PLAYER

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


METHODS = grpc_table.contract()
SDP = "application/sdp"
TENANTS = ("rival", "sibling")
WORKERS: dict[str, tuple[str, ...]] = {"": (), "/workers/0": TENANTS, "/workers/1": TENANTS}
"""Ways to a route, and who goes them: by whose it is everybody; to each worker by its name, as to
another gateway, those whom a hub has to tell apart.
"""


def words_of(row: Ask | Call, words: dict[str, str]) -> dict[str, str]:
    return {**words, "allowed": row.allowed}


# -- every row ------------------------------------------------------------------------------------


async def test_every_method_of_grpc_has_a_row() -> None:
    assert METHODS.keys() == grpc_table.TABLE.keys()


async def test_every_route_of_http_has_a_row(tmp_path: Path) -> None:
    assert await http_table.served(tmp_path) == http_table.ROUTES


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", grpc_table.TABLE)
async def test_strangers_over_grpc(world: World, name: str) -> None:
    row = grpc_table.TABLE[name]

    async def tried(caller: Caller, target: Target) -> Outcome:
        return await over_grpc(world.channel, caller, METHODS[name], row.requests(target))

    await try_everybody(world, row, GRPC, tried)


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", http_table.ASKS)
async def test_strangers_over_http(world: World, name: str) -> None:
    method, row = http_table.ASKS[name]

    for prefix, names in WORKERS.items():

        async def tried(caller: Caller, target: Target, prefix: str = prefix) -> Outcome:
            path, body = prefix + row.path(target), row.content(target)
            return await over_http(world.http, caller, method, path, body, row.headers)

        await try_everybody(world, row, HTTP, tried, names)


async def try_everybody(
    world: World, row: Any, words: dict[str, str], tried: Any, names: Iterable[str] = ()
) -> None:
    """Asks for what the owner has and for what nobody has, as everybody who is a stranger, or as
    those of these names.
    """
    for caller in [world.strangers[name] for name in names or world.strangers]:
        wanted = row.who(caller, words_of(row, words))
        if not wanted:
            continue
        theirs = await tried(caller, world.victim)
        nothing = await tried(caller, world.nobody)
        assert theirs.status in wanted.split("|"), (caller.name, theirs.content)
        if caller.outside:
            same = nothing.without(world.nobody.ids)
            assert theirs.without(world.victim.ids) == same, caller.name
        found = [each for each in world.secrets if each.encode() in theirs.content]
        assert not found, caller.name


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("prefix", WORKERS)
async def test_a_session_that_has_ended_never_was(world: World, prefix: str) -> None:
    async with await world.client.create_session(MODEL) as over:
        pass
    rival = world.strangers["rival"]
    seen = set()
    for session_id in (over.session_id, world.victim.session, world.nobody.session):
        path = f"{prefix}/sessions/{session_id}/info"
        outcome = await over_http(world.http, rival, "GET", path)
        assert outcome.status == "404"
        seen.add(outcome)
    assert len(seen) == 1


# -- the owner ------------------------------------------------------------------------------------


async def own(world: World, stream: str) -> Target:
    """Returns more of the owner's, to do anything with."""
    session = await world.client.create_session(MODEL)
    return await furnished(world.http, world.owner, session.session_id, stream)


async def test_the_owner_gets_over_grpc_what_strangers_do_not(world: World) -> None:
    mine = await own(world, "~over-grpc")
    for name, row in sorted(grpc_table.TABLE.items(), key=lambda each: each[1].ends):
        if row.own and row.who is not operators:
            method, requests = METHODS[name], row.requests(mine)
            outcome = await over_grpc(world.channel, world.owner, method, requests, most=1)
            assert outcome.status == row.own, (name, outcome.content)


async def test_the_owner_gets_over_http_what_strangers_do_not(world: World) -> None:
    mine = await own(world, "~over-http")
    for name, (method, row) in sorted(http_table.ASKS.items(), key=lambda each: each[1][1].ends):
        if row.own:
            path, body = row.path(mine), row.content(mine)
            outcome = await over_http(world.http, world.owner, method, path, body, row.headers)
            assert outcome.status == row.own, (name, outcome.content)


async def test_the_owner_gets_the_journal_of_its_session(world: World) -> None:
    name = "ReplayService/ExportJournal"
    requests = grpc_table.TABLE[name].requests(world.victim)

    async def got() -> bool:
        outcome = await over_grpc(world.channel, world.owner, METHODS[name], requests)
        return outcome.status == "OK" and len(outcome.content) > 0

    await polled(got)


async def test_operators_are_told_of_all_sessions(world: World) -> None:
    operator = world.strangers["operator"]
    row, method = grpc_table.TABLE["PoolService/DescribePool"], METHODS["PoolService/DescribePool"]
    told = await over_grpc(world.channel, operator, method, row.requests(world.victim))
    assert told.status == "OK"
    assert world.victim.session.encode() in told.content


async def test_operators_are_told_over_http_what_they_are_told_over_grpc(world: World) -> None:
    operator, session = world.strangers["operator"], world.victim.session
    _, _, pool = await ask(world.http, operator, "GET", "/operator/pool")
    assert session in {each["session_id"] for each in pool["sessions"]}
    assert not {"address", "host"} - pool["actors"][0].keys()
    _, _, counted = await ask(world.http, operator, "GET", "/operator/pool?sessions=none")
    assert "sessions" not in counted
    assert counted["session_counts"] == pool["session_counts"]
    _, _, told = await ask(world.http, operator, "GET", f"/operator/sessions/{session}")
    assert told["session"]["tenant"] == "acme-sparrow"
    path = f"/operator/usage?by=session&session={session}"

    async def used() -> Any:
        return (await ask(world.http, operator, "GET", path))[2].get("rows")

    (row,) = await polled(used)
    assert (row["session_id"], row["tenant"]) == (session, "acme-sparrow")


async def test_operators_follow_a_session_through_all_processes(world: World, clip: Path) -> None:
    """Without a collector, whichever media worker is asked, and nothing of what users brought."""
    operator, heard = world.strangers["operator"], Seen[bytes]()
    wanted = {
        *("gateway.execute", "gateway.command", "actor.command", "scheduler.book"),
        *("actor.chunk", "actor.queue", "actor.stage.generate", "actor.encode", "actor.send"),
        "gateway.first_packet",
    }

    async def edit(session: Session) -> None:
        """Makes something, again and again: spans are told from when somebody follows."""
        told = Told(session)
        for number in itertools.count(1):
            await stage(session, clip, PROMPT)
            start = command_pb2.Command(command_id=f"start-{number}", start=command_pb2.Start())
            await world.client.execute(session.session_id, start)
            await told.until_told("generation_complete", number)
            await session.reset()

    def whole_trace() -> bool:
        traces: dict[str, set[str]] = {}
        for line in heard.items:
            if line.startswith(b"data: "):
                for span in json.loads(line.removeprefix(b"data: ")).get("spans", ()):
                    traces.setdefault(span["trace_id"], set()).add(span["name"])
        return any(wanted <= names for names in traces.values())

    async def listen(answer: aiohttp.ClientResponse) -> None:
        async for line in answer.content:
            heard.add(line)

    async with await world.client.create_session(MODEL) as session:
        path = f"/operator/sessions/{session.session_id}/trace"
        async with (
            watching(world.client, session),
            world.http.get(path, headers=operator.http) as answer,
        ):
            tasks = [asyncio.create_task(each) for each in (listen(answer), edit(session))]
            try:
                await heard.until(whole_trace)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    assert {b"event: started\n", b"event: session_placed\n"} <= set(heard.items)
    read = b"".join(heard.items)
    assert not [each for each in (PROMPT, NAME, clip.name) if each.encode() in read]


# -- from sessions of one's own -----------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def rival(world: World) -> AsyncIterator[Client]:
    token = world.strangers["rival"].http["Authorization"].removeprefix("Bearer ")
    async with Client(world.stack.grpc_address, token=token) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def theirs(rival: Client) -> AsyncIterator[Session]:
    """A session of the rival's."""
    async with await rival.create_session(MODEL) as session:
        yield session


def uploaded(world: World) -> list[str]:
    """The id of the owner's upload, of one of the clip that it plays, and of none at all."""
    return [world.victim.upload, world.nobody.upload]


async def refused(call: Any) -> str:
    with pytest.raises(CallError) as error:
        await call
    return f"{error.value.code} {error.value}"


# -- uploads --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unharmed")
async def test_uploads_are_of_one_session_alone(world: World, theirs: Session) -> None:
    seen: list[set[str]] = [set(), set()]
    caller = world.strangers["rival"]
    for told, upload in zip(seen, uploaded(world), strict=True):
        start = session_pb2.UploadStart(
            session_id=theirs.session_id, upload_id=upload, name="a", size=9
        )
        for name, request in (
            (
                "GetUpload",
                session_pb2.GetUploadRequest(session_id=theirs.session_id, upload_id=upload),
            ),
            ("Upload", session_pb2.UploadRequest(start=start)),
        ):
            method = METHODS[f"SessionService/{name}"]
            outcome = await over_grpc(world.channel, caller, method, [request])
            assert outcome.status == "NOT_FOUND"
            told.add(outcome.content.decode("latin-1"))
    assert seen[0] == seen[1]


@pytest.mark.usefixtures("unharmed")
async def test_a_clip_of_another_session_cannot_be_played(world: World, theirs: Session) -> None:
    told = Told(theirs)
    await theirs.set_mode("file")
    # An id is part of a key of the storage: nothing of it may lead elsewhere.
    ids = [*uploaded(world), f"../{world.victim.session}/{world.victim.upload}"]
    ids.append(f"{world.victim.upload}/../../{world.victim.session}/{world.victim.upload}")
    for number, upload in enumerate(ids, 1):
        await theirs.set_video(command_pb2.FileRef(upload_id=upload, name="a", size=9))
        await told.until_told("command_error", number)
    reasons = {each.reason for each in told.of("command_error")}
    assert len(reasons) == 1, reasons
    assert not told.of("video_accepted")


@pytest.mark.usefixtures("unharmed")
async def test_data_channels_lead_to_nothing_of_others(world: World) -> None:
    headers = dict(world.strangers["rival"].http)
    async with wire_client.connected(world.stack.http_url, "js-2.12", headers=headers) as browser:
        await browser.reply("set_mode", mode="file")
        seen = []
        for number, upload in enumerate(uploaded(world), 1):
            video = {"upload_id": upload, "name": "a.mp4", "mime_type": "video/mp4", "size": 9}
            browser.command("set_video", {"video": video})
            await browser.heard.until(
                lambda number=number: len(browser.of("command_error")) == number
            )
            seen.append(browser.of("command_error")[-1].data)
        assert seen[0] == seen[1]
        browser.runtime("requestRecording")
        browser.runtime("requestClip", duration_seconds=30)
        await browser.heard.until(lambda: len(browser.of("clipFailed")) == 2)
        everything = repr(browser.heard.items)
    assert not [each for each in world.secrets if each in everything]


# -- names and ids that clients choose ------------------------------------------------------------


@pytest.mark.usefixtures("unharmed")
async def test_request_ids_are_ones_own(world: World, rival: Client) -> None:
    request_id = secrets.token_hex(8)
    mine = await world.client.create_session(MODEL, request_id=request_id)
    async with mine, await rival.create_session(MODEL, request_id=request_id) as other:
        assert other.session_id != mine.session_id
        (copy,) = await world.client.fork(mine.session_id, 1, request_id=request_id)
        (theirs,) = await rival.fork(other.session_id, 1, request_id=request_id)
        async with copy, theirs:
            assert len({mine.session_id, other.session_id, copy.session_id, theirs.session_id}) == 4
            assert await refused(rival.get_session(copy.session_id)) == await refused(
                rival.get_session(world.nobody.session)
            )


@pytest.mark.usefixtures("unharmed")
async def test_command_ids_are_ones_own(world: World, theirs: Session, rival: Client) -> None:
    seed = command_pb2.Command(command_id="the-same", set_seed=command_pb2.SetSeed(seed=7))
    async with await world.client.create_session(MODEL) as mine:
        await world.client.execute(mine.session_id, seed)
        seed.set_seed.seed = 8
        done = await rival.execute(theirs.session_id, seed)
    assert done.state.seed == 8, "it was no repeat"


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", ["rival", "sibling"])
async def test_names_of_streams_are_ones_own(world: World, name: str) -> None:
    caller = world.strangers[name]
    _, headers, _ = await ask(
        world.http,
        caller,
        "POST",
        f"/whip/{MODEL}/{world.victim.stream}",
        OBS.encode(),
        Content_Type=SDP,
    )
    made = headers["Sana-Session-Id"]
    assert made not in (world.victim.streamed, world.victim.session)
    _, headers, _ = await ask(
        world.http,
        caller,
        "POST",
        f"/whep/{world.victim.stream}",
        PLAYER.encode(),
        Content_Type=SDP,
    )
    assert headers["Sana-Session-Id"] == made
    _, _, state = await ask(world.http, caller, "GET", f"/sessions/{world.victim.stream}/state")
    assert state["session_id"] == made
    await ask(world.http, caller, "DELETE", f"/sessions/{made}")


@pytest.mark.usefixtures("unharmed")
async def test_a_trace_is_no_key(world: World, theirs: Session, rival: Client) -> None:
    """Whoever says that he belongs to another's trace gets what he would get without."""
    command = command_pb2.Command(
        command_id="traced", traceparent=TRACE, set_prompt=command_pb2.SetPrompt(prompt="mine")
    )
    done = await rival.execute(theirs.session_id, command)
    assert done.state.current_prompt == "mine"
    for target in (world.victim.session, world.nobody.session):
        assert "no such session" in await refused(rival.execute(target, command))


# -- what is told of all --------------------------------------------------------------------------


@pytest.mark.usefixtures("unharmed")
async def test_metrics_name_nobody_and_nothing(world: World) -> None:
    for path in ("/metrics", "/workers/0/metrics", "/workers/1/metrics", "/", "/readyz"):
        told = await over_http(world.http, Caller("nobody"), "GET", path)
        assert told.status == "200"
        private = [*world.victim.ids, PROMPT, NAME, *world.keyring.keys.values(), TRACE[3:35]]
        assert not [each for each in private if each.encode() in told.content], path


@pytest.mark.usefixtures("unharmed")
async def test_usage_is_ones_own(world: World) -> None:
    method = METHODS["UsageService/ReadUsage"]
    for request in (
        usage_pb2.ReadUsageRequest(),
        usage_pb2.ReadUsageRequest(by=usage_pb2.USAGE_BY_SESSION),
        usage_pb2.ReadUsageRequest(by=usage_pb2.USAGE_BY_TENANT),
        usage_pb2.ReadUsageRequest(tenant="acme-sparrow"),
        usage_pb2.ReadUsageRequest(session_id=world.victim.session),
        usage_pb2.ReadUsageRequest(page_token=world.victim.session),
    ):
        told = await over_grpc(world.channel, world.strangers["rival"], method, [request])
        assert not [each for each in world.secrets if each.encode() in told.content], request


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", ["rival", "sibling"])
async def test_events_are_ones_own(world: World, name: str) -> None:
    caller = world.strangers[name]
    heard = Seen[event_pb2.Event]()
    path = "/sana_gateway.v1.EventService/WatchEvents"
    call: Any = world.channel.unary_stream(
        path,
        event_pb2.WatchEventsRequest.SerializeToString,
        event_pb2.WatchEventsResponse.FromString,
    )(event_pb2.WatchEventsRequest(after_sequence=0), metadata=caller.grpc)

    async def listen() -> None:
        async for word in call:
            if word.HasField("event"):
                heard.add(word.event)

    listening = asyncio.create_task(listen())
    try:
        async with await world.client.create_session(MODEL) as mine:
            pass
        async with world.http.post(
            "/sessions", data=said({"model": {"name": MODEL}}), headers=caller.http
        ) as answer:
            made = (await answer.json())["session_id"]
        await over_http(world.http, caller, "DELETE", f"/sessions/{made}")
        over = (made, event_pb2.EVENT_KIND_SESSION_RELEASED)
        await heard.until(lambda: over in [(each.session_id, each.kind) for each in heard.items])
    finally:
        call.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    others = {mine.session_id, *world.victim.ids}
    assert not others & {each.session_id for each in heard.items}
    if name == "rival":
        assert {each.tenant for each in heard.items} <= {"rival"}
