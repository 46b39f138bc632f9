"""One trace from the client's command to the first packet that answers it, over real parts."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from sana_gateway import Client
from tests.integration.otlp import OtlpReceiver, Received
from tests.media.clips import Recipe, make
from tests.stack import Stack, serving

pytestmark = pytest.mark.integration

SECRET = "zanzibar-lilac-prompt"
CREATE = {"gateway.create_session", "scheduler.place", "actor.admit"}
START = {
    "gateway.command",
    "actor.command",
    "scheduler.book",
    "actor.chunk",
    "gateway.first_packet",
}
PROMPT = START - {"scheduler.book"}
PARTS = {"actor.queue", "actor.stage.generate", "actor.encode", "actor.send"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def traced(receiver: OtlpReceiver) -> Iterator[Stack]:
    """The service on Ray, so that the trace crosses every process there is."""
    with serving(
        "--model", "simulated", "--model-option", "chunk_ms=50",
        "--otlp-endpoint", receiver.address, "--log-level", "debug",
        env={"OTEL_BSP_SCHEDULE_DELAY": "200"},
    ) as running:  # fmt: skip
        yield running


class Traces:
    """The traces that the test's own client began."""

    def __init__(self) -> None:
        self._tracer = TracerProvider().get_tracer("test")
        self.ids: dict[str, bytes] = {}

    def begin(self, name: str) -> trace.Span:
        span = self._tracer.start_span(name)
        self.ids[name] = span.get_span_context().trace_id.to_bytes(16, "big")
        return span


async def edit(address: str, clip: Path, traces: Traces) -> None:
    """Creates, starts and changes the prompt midway, each in a trace of its own."""
    async with Client(address) as client:
        with trace.use_span(traces.begin("create"), end_on_exit=True):
            session = await client.create_session("simulated")
        async with session:
            await session.ready(20)
            await session.set_mode("file")
            await session.set_video(await session.upload(clip))
            await session.wait_for(lambda state: state.has_video, 20)
            await session.set_prompt("first")
            complete = asyncio.Event()
            shown = asyncio.Event()
            session.on("generation_complete", lambda _: complete.set())
            session.on("chunk_complete", lambda _: shown.set())
            watching = asyncio.create_task(_drain(session))
            with trace.use_span(traces.begin("start"), end_on_exit=True):
                await session.start()
            async with asyncio.timeout(60):
                await shown.wait()
                with trace.use_span(traces.begin("prompt"), end_on_exit=True):
                    await session.set_prompt(SECRET)
                await complete.wait()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _drain(session: object) -> None:
    async for _ in session.watch("vp8"):  # type: ignore[attr-defined]
        pass


@pytest.fixture(scope="module")
def recorded(
    traced: Stack, receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Traces, list[Received]]:
    """All spans of one edited clip."""
    clip = make(tmp_path_factory.mktemp("clips") / "clip.mp4", Recipe(frames=96))
    traces = Traces()
    asyncio.run(edit(traced.grpc_address, clip, traces))

    def complete(spans: list[Received]) -> bool:
        def names(key: str) -> set[str]:
            return {span.name for span in spans if span.trace == traces.ids[key]}

        return names("create") >= CREATE and names("start") >= START and names("prompt") >= PROMPT

    receiver.wait(complete)
    return traces, receiver.spans()


def of(recorded: tuple[Traces, list[Received]], name: str) -> dict[str, Received]:
    traces, spans = recorded
    return {span.name: span for span in reversed(spans) if span.trace == traces.ids[name]}


def test_create_is_one_trace_from_client_to_actor(
    recorded: tuple[Traces, list[Received]],
) -> None:
    spans = of(recorded, "create")
    assert (
        spans["scheduler.place"].span.parent_span_id == spans["gateway.create_session"].span.span_id
    )
    assert spans["actor.admit"].span.parent_span_id == spans["scheduler.place"].span.span_id
    services = [spans[name].service for name in sorted(CREATE)]
    assert len(set(services)) == 3, "three processes took part"


def test_start_is_one_trace_through_the_booking_to_the_first_packet(
    recorded: tuple[Traces, list[Received]],
) -> None:
    spans = of(recorded, "start")
    chain = ["gateway.command", "actor.command", "actor.chunk", "gateway.first_packet"]
    for parent, child in itertools.pairwise(chain):
        assert spans[child].span.parent_span_id == spans[parent].span.span_id, child
    assert spans["scheduler.book"].span.parent_span_id == spans["actor.command"].span.span_id


def test_a_prompt_is_one_trace_to_the_chunk_it_took_effect_in(
    recorded: tuple[Traces, list[Received]],
) -> None:
    spans = of(recorded, "prompt")
    assert spans["gateway.first_packet"].span.parent_span_id == spans["actor.chunk"].span.span_id
    chunk = spans["actor.chunk"].attribute("chunk.index")
    assert isinstance(chunk, int)
    assert chunk >= 2


def test_commands_and_chunks_link_to_the_placement(
    recorded: tuple[Traces, list[Received]],
) -> None:
    traces, spans = recorded
    linked = [span for span in spans if span.name in ("actor.command", "actor.chunk")]
    assert linked
    assert all(traces.ids["create"] in span.links for span in linked)


def test_every_chunk_has_queue_stages_encode_and_send(
    recorded: tuple[Traces, list[Received]],
) -> None:
    _, spans = recorded
    chunks = [span for span in spans if span.name == "actor.chunk"]
    assert {span.attribute("chunk.index") for span in chunks} >= {0, 1, 2, 3}
    for chunk in chunks:
        inside = {span.name for span in spans if span.span.parent_span_id == chunk.span.span_id}
        assert inside >= PARTS, chunk.attribute("chunk.index")


def test_no_prompt_is_in_any_span_or_log(
    recorded: tuple[Traces, list[Received]], traced: Stack
) -> None:
    _, spans = recorded
    assert not [span.name for span in spans if SECRET in str(span.span)]
    assert SECRET not in traced.log.read_text(errors="replace")
