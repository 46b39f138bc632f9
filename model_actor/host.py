"""One model actor: model, engine, data plane, enrolment. Knows nothing of Ray."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import grpc
import structlog

from model_actor.engine.compute import Compute
from model_actor.engine.encoder_pool import EncoderPool
from model_actor.engine.live_session import EngineServices, LiveSession, Placement
from model_actor.enrolment import Enrolment
from model_actor.media.encoding.choice import choose
from model_actor.media.workers import DecodeWorkers
from model_actor.plugin import Model, SessionOptions
from model_actor.settings import ActorSettings
from model_actor.stream_server import StreamServicer
from sana_gateway.v1 import session_pb2
from sana_gateway_internal.v1 import placement_pb2, stream_pb2_grpc
from scheduler import wire
from scheduler.process import plugins
from scheduler.process.storage import Storage
from scheduler.process.telemetry import span
from scheduler.process.tokens import LeaseTokens

log = structlog.get_logger(__name__)

REAL_MODEL = "sana-streaming"
"""While a model speaks its command surface and it is not served itself, the model also
answers to its names."""
STAND_IN_NAMES = (REAL_MODEL, f"reactor/{REAL_MODEL}")
SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


class ModelHost:
    """Runs one model for many sessions."""

    def __init__(self, settings: ActorSettings) -> None:
        """Finds the plugins; nothing is loaded or opened yet.

        Raises:
            PluginError: The model or the storage is missing or broken.
        """
        self._settings = settings
        self._model: Model = settings.configured_model()
        options = dict(settings.storage)
        storage_class = plugins.load("sana_gateway.storage", options.pop("plugin", "filesystem"))
        self._storage: Storage = storage_class(**options)
        self._sessions: dict[str, LiveSession] = {}
        self._ends = contextlib.AsyncExitStack()
        self._starting: asyncio.Task[object] | None = None
        self._log = log.bind(actor_id=settings.actor_id)

    async def start(self) -> str:
        """Loads the model, serves the data plane, enrols.

        Returns:
            The address of the data plane.
        """
        self._starting = asyncio.current_task()
        try:
            return await self._start()
        finally:
            self._starting = None

    async def _start(self) -> str:
        # Commands are answered while the model computes in Python code.
        sys.setswitchinterval(0.0005)
        settings, ends = self._settings, self._ends
        ends.push_async_callback(self._storage.close)
        self._compute = Compute(self._model)
        ends.push_async_callback(self._compute.close)
        await self._compute.load()
        workers = DecodeWorkers(spare=settings.spare_decoders, limits=settings.decode_limits)
        ends.push_async_callback(workers.close)
        await workers.start()
        libraries = await asyncio.to_thread(choose, settings.encoder)
        encoders = EncoderPool(settings.encoder_threads or os.cpu_count() or 1, libraries)
        ends.push_async_callback(asyncio.to_thread, encoders.close)
        enrolment = Enrolment(
            settings.placement_address,
            self._register,
            self._measured_chunk_ms,
            self._admit,
            self._evict,
        )
        ends.push_async_callback(enrolment.close)
        self._services = EngineServices(
            info=self._model.info,
            workers=workers,
            storage=self._storage,
            encoders=encoders,
            ledger=enrolment,
            wake_compute=self._compute.wake,
            bitrate=settings.bitrate,
            start_wait_s=settings.start_wait_s,
        )
        await self._serve()
        ends.push_async_callback(self._close_all)
        tasks = [
            asyncio.create_task(self._compute.run(self.all), name="compute"),
            asyncio.create_task(enrolment.run(), name="enrolment"),
        ]
        ends.push_async_callback(_cancel, tasks)
        for task in tasks:
            task.add_done_callback(self._task_ended)
        self._log.info("actor.serving", model=settings.model, address=self._address)
        return self._address

    async def stop(self) -> None:
        """Ends all sessions and releases everything, in the reverse order of its making.

        A start under way is given up first: what it makes later, nobody would release.
        """
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        await self._ends.aclose()
        self._log.info("actor.stopped")

    async def _serve(self) -> None:
        settings = self._settings
        server = grpc.aio.server(options=SERVER_OPTIONS)
        servicer = StreamServicer(self, LeaseTokens(settings.lease_secret))
        stream_pb2_grpc.add_StreamServicer_to_server(servicer, server)
        port = server.add_insecure_port(settings.listen)
        self._address = (
            settings.listen
            if settings.listen.startswith("unix:")
            else f"{settings.listen.rpartition(':')[0]}:{port}"
        )
        await server.start()
        self._ends.push_async_callback(server.stop, 0.2)

    async def _close_all(self) -> None:
        for session in list(self._sessions.values()):
            await self._close(session, "the service is shutting down")

    def get(self, session_id: str) -> LiveSession | None:
        """Returns a session; None when it is not here."""
        return self._sessions.get(session_id)

    def all(self) -> list[LiveSession]:
        """Returns all sessions."""
        return list(self._sessions.values())

    def _names(self) -> list[str]:
        info = self._model.info
        stand_in = STAND_IN_NAMES if info.speaks_sana_streaming else ()
        return list(dict.fromkeys([info.name, *stand_in]))

    def _register(self) -> placement_pb2.Register:
        info = self._model.info
        return placement_pb2.Register(
            actor_id=self._settings.actor_id,
            models=self._names(),
            address=self._address,
            capabilities=session_pb2.Capabilities(
                tracks=[
                    session_pb2.Track(name="camera", direction=session_pb2.TRACK_DIRECTION_SEND),
                    session_pb2.Track(
                        name="main_video", direction=session_pb2.TRACK_DIRECTION_RECEIVE
                    ),
                ],
                commands=info.commands,
                frame_rate=info.frame_rate,
                width=info.width,
                height=info.height,
                minimum_frames=info.geometry.first_window,
            ),
            resident_slots=info.resident_slots,
            chunk_ms=info.chunk_ms,
            period_ms=info.geometry.window / info.frame_rate * 1e3,
            sessions=[
                placement_pb2.HeldSession(
                    session_id=session.placement.session_id,
                    epoch=session.placement.epoch,
                    computing=session.computing,
                    principal=wire.principal_out(session.placement.principal),
                    model=session.placement.model,
                )
                for session in self._sessions.values()
            ],
        )

    def _measured_chunk_ms(self) -> float:
        return self._compute.cost.typical_s * 1e3 if self._compute.windows > 1 else 0.0

    async def _admit(self, placement: Placement) -> str:
        with span(
            "actor.admit",
            parent=placement.context,
            attributes={"session.id": placement.session_id, "session.epoch": placement.epoch},
        ):
            old = self._sessions.get(placement.session_id)
            if old is not None and old.placement.epoch >= placement.epoch:
                return ""
            if old is not None:
                await self._close(old, "the session was placed anew")
            options = SessionOptions(session_id=placement.session_id)
            try:
                state = await self._compute.call(self._model.open, options)
            except Exception as error:
                self._log.warning("session.refused", error=type(error).__name__)
                return "the model could not open a session"
            self._sessions[placement.session_id] = LiveSession(placement, self._services, state)
            self._log.info("session.opened", session_id=placement.session_id)
            return ""

    async def _evict(self, session_id: str, epoch: int, reason: str) -> None:
        session = self._sessions.get(session_id)
        if session is not None and session.placement.epoch <= epoch:
            await self._close(session, reason)

    async def _close(self, session: LiveSession, reason: str) -> None:
        if self._sessions.pop(session.placement.session_id, None) is None:
            return
        await session.close(reason)
        with contextlib.suppress(Exception):
            await self._compute.call(self._model.close, session.state)
        self._log.info("session.closed", session_id=session.placement.session_id)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """A standing task of the actor never ends by itself: when one does, the actor is
        broken, and dies so that its supervisor replaces it.
        """
        if not task.cancelled():
            self._log.critical("actor.broken", task=task.get_name(), exc_info=task.exception())
            os._exit(70)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
