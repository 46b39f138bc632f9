"""One model actor: model, engine, data plane, enrolment. Knows nothing of Ray."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sys
from pathlib import Path

import grpc
import structlog

from model_actor.chunk_watch import ChunkWatch, now_by_the_clock
from model_actor.engine.compute import Compute
from model_actor.engine.encoder_pool import EncoderPool
from model_actor.engine.journal import JournalRules, Journals
from model_actor.engine.live_session import LiveSession
from model_actor.engine.services import EngineServices, ModelStates, Placement
from model_actor.engine.shells import Shell
from model_actor.enrolment import Enrolment
from model_actor.media.encoding.choice import choose
from model_actor.media.workers import DecodeWorkers
from model_actor.metered import MeteredSessions
from model_actor.metrics import ACTORS, Use
from model_actor.plugin import Model
from model_actor.settings import ActorSettings
from model_actor.snapshots.host_tier import HostTier, HostTierError
from model_actor.snapshots.states import KeptStates
from model_actor.snapshots.storage_tier import StorageTier
from model_actor.stream_server import StreamServicer
from model_actor.vitals import DECLARED_ENCODE_MS, DECLARED_PIXELS, Vitals
from model_actor.warm_up import warm_up
from sana_gateway.v1 import session_pb2
from sana_gateway_internal.v1 import placement_pb2, stream_pb2_grpc
from scheduler import wire
from scheduler.core.quality import Quality
from scheduler.metrics import tell_process
from scheduler.process import plugins
from scheduler.process.footprint import Footprint, LoopLag
from scheduler.process.keepalive import ACCEPTED_PINGS, KEEPALIVE
from scheduler.process.storage import Storage, StorageError
from scheduler.process.telemetry import span
from scheduler.process.tls import Wires
from scheduler.process.tokens import LeaseTokens
from scheduler.process.vital_signs import VitalSigns

log = structlog.get_logger(__name__)

REAL_MODEL = "sana-streaming"
"""While a model speaks its command surface and it is not served itself, the model also
answers to its names."""
STAND_IN_NAMES = (REAL_MODEL, f"reactor/{REAL_MODEL}")
DRAINING = "it is being emptied"
"""Why an actor is not ready that takes no more sessions."""
SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.so_reuseport", 0),
    *KEEPALIVE,
    ACCEPTED_PINGS,
)


class ModelHost:
    """Runs one model for many sessions."""

    def __init__(self, settings: ActorSettings) -> None:
        """Finds the plugins; nothing is loaded or opened yet.

        Raises:
            PluginError: The model or the storage is missing or broken.
            ConfigurationError: The folder of its certificate cannot be used.
        """
        self._settings = settings
        self._wires = Wires(settings.tls)
        self._model: Model = settings.configured_model()
        options = dict(settings.storage)
        storage_class = plugins.load("sana_gateway.storage", options.pop("plugin", "filesystem"))
        self._storage: Storage = storage_class(**options)
        self._sessions: dict[str, LiveSession | Shell] = {}
        self._metered = MeteredSessions()
        self._signs = VitalSigns("actor", settings.actor_id)
        self._chunks = ChunkWatch(self._model.info.name)
        self._ends = contextlib.AsyncExitStack()
        self._starting: asyncio.Task[object] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._ends_at: float | None = None
        self._retiring = False
        self._told_to_drain = False
        self._drain_ends_at: float | None = None
        """When the process ends, by the word of whoever drains it."""
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
        tell_process("actor")
        await self._signs.start()
        ends.push_async_callback(self._signs.close)
        ends.push_async_callback(self._storage.close)
        self._compute = Compute(self._model)
        ends.push_async_callback(self._compute.close)
        await self._compute.load()
        self._brings_packets = await self._compute.call(warm_up, self._model)
        self._kept = self._open_kept()
        ends.push_async_callback(self._kept.close)
        self._workers = workers = DecodeWorkers(
            spare=settings.spare_decoders, limits=settings.decode_limits
        )
        ends.push_async_callback(workers.close)
        await workers.start()
        libraries = await asyncio.to_thread(choose, settings.encoder)
        self._encoders = EncoderPool(settings.encoder_threads or os.cpu_count() or 1, libraries)
        ends.push_async_callback(asyncio.to_thread, self._encoders.close)
        self._vitals = Vitals(self._encoders)
        lag = LoopLag()
        self._footprint = Footprint(lag)
        self._enrolment = enrolment = Enrolment(settings.placement_address, self, self._wires)
        ends.push_async_callback(enrolment.close)
        self._states = ModelStates(self._model, self._compute)
        self._services = EngineServices(
            info=self._model.info,
            workers=workers,
            storage=self._storage,
            encoders=self._encoders,
            ledger=enrolment,
            states=self._states,
            kept=self._kept,
            bitrate=settings.bitrate,
            start_wait_s=settings.start_wait_s,
            snapshot_every=settings.snapshot_every,
            departed=self._departed,
            journals=self._open_journals(),
            chunks=self._chunks,
        )
        await self._serve()
        ACTORS.add(settings.actor_id, self)
        ends.callback(ACTORS.remove, settings.actor_id)
        ends.push_async_callback(self._close_all)
        tasks = [
            asyncio.create_task(self._compute.run(self._live), name="compute"),
            asyncio.create_task(self._compute.watch(), name="watch over the model"),
            asyncio.create_task(self._kept.sweep(), name="sweep"),
            asyncio.create_task(enrolment.run(), name="enrolment"),
            asyncio.create_task(lag.run(), name="loop lag"),
        ]
        ends.push_async_callback(_cancel, tasks)
        for task in tasks:
            task.add_done_callback(self._task_ended)
        self._signs.why_not_ready = ""
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
        port = self._wires.listen(server, settings.listen)
        self._address = (
            settings.listen
            if settings.listen.startswith("unix:")
            else f"{settings.listen.rpartition(':')[0]}:{port}"
        )
        await server.start()
        self._ends.push_async_callback(server.stop, 0.2)

    def _open_journals(self) -> Journals | None:
        """Opens the journals of sessions, where they are kept."""
        settings = self._settings
        if not settings.journal:
            return None
        rules = JournalRules(**settings.journal)
        journals = Journals(self._storage, rules, settings.model_options)
        self._ends.push_async_callback(journals.close)
        sweeping = asyncio.create_task(journals.sweep(), name="journals")
        self._ends.push_async_callback(_cancel, [sweeping])
        return journals

    def _open_kept(self) -> KeptStates:
        """Opens what is kept of sessions; a host where nothing can be kept is no hindrance."""
        settings, host = self._settings, None
        if settings.snapshot_root:
            try:
                folder = Path(settings.snapshot_root)
                kept_for_s = settings.kept_for_s
                host = HostTier(folder, settings.snapshot_bytes, kept_for_s=kept_for_s)
            except HostTierError as error:
                self._log.warning("snapshots.no_host_tier", error=str(error))
        storage = StorageTier(self._storage, kept_for_s=settings.kept_for_s)
        after_s = settings.store_after_s
        return KeptStates(host, storage, self._host_name, store_after_s=after_s)

    @property
    def _host_name(self) -> str:
        return self._settings.host or platform.node()

    async def _close_all(self) -> None:
        for session in list(self._sessions.values()):
            # What is kept of it stays, and it goes on elsewhere, if there is such a place.
            await self._close(session, "the actor ends", goes_on=True)
        if self._leaving:
            await asyncio.wait(self._leaving)

    def begin_drain(self, grace_s: float) -> None:
        """The process is to end in `grace_s` seconds: its sessions go elsewhere meanwhile."""
        self._ends_at = asyncio.get_running_loop().time() + grace_s
        self._signs.why_not_ready = DRAINING
        self._log.info("actor.draining", grace_s=grace_s)

    def get(self, session_id: str) -> LiveSession | Shell | None:
        """Returns a session; None when it is not here."""
        return self._sessions.get(session_id)

    def all(self) -> list[LiveSession | Shell]:
        """Returns all sessions, those that wait to go on among them."""
        return list(self._sessions.values())

    def _live(self) -> list[LiveSession]:
        return [each for each in self._sessions.values() if isinstance(each, LiveSession)]

    def _names(self) -> list[str]:
        info = self._model.info
        stand_in = STAND_IN_NAMES if info.speaks_sana_streaming else ()
        return list(dict.fromkeys([info.name, *stand_in]))

    def use(self) -> Use:
        """Returns what it has and what is used of it; see `model_actor.metrics.Used`."""
        info, workers, encoders = self._model.info, self._workers, self._encoders
        live = self._live()
        return Use(
            model=info.name,
            sessions=len(self._sessions),
            slots=info.resident_slots,
            computing=sum(each.computing for each in live),
            real_time_factor=self._compute.cost.typical_s * info.frame_rate / info.geometry.window,
            encoder_threads=encoders.threads,
            encoder_jobs=encoders.waiting,
            encoder_busy_s=encoders.busy_s,
            decoders_used=workers.used,
            decoders_spare=workers.spare,
            decoders_limit=workers.most,
            decoder_crashes=workers.crashes,
        )

    def register(self) -> placement_pb2.Register:
        """Describes the actor as it is now."""
        self._metered.again()
        info = self._model.info
        pixels = info.width * info.height * info.frame_rate
        encodes = not self._brings_packets
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
                prompt_transitions=info.prompt_transitions,
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
                    rate_share=session.quality.rate,
                    steps=session.quality.steps,
                    awaits_room=session.awaiting_room,
                )
                for session in self._sessions.values()
                # One that was handed over is another actor's already.
                if not (isinstance(session, LiveSession) and session.over)
            ],
            host=self._host_name,
            resident_bytes=info.resident_bytes,
            session_bytes=info.session_bytes,
            encode_capacity_ms=self._encoders.threads * 1e3 if encodes else 0.0,
            encode_ms=DECLARED_ENCODE_MS * pixels / DECLARED_PIXELS if encodes else 0.0,
            degraded_rates=info.degraded_rates,
            degraded_steps=[
                placement_pb2.FewerSteps(steps=each.steps, chunk_ms=each.chunk_ms)
                for each in info.degraded_steps
            ],
            draining=self._retiring or self._ends_at is not None,
            drain=self._drain(),
            gpus=os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        )

    def _drain(self) -> placement_pb2.Drain | None:
        """Returns what it was told of its drain, as it is now."""
        if not self._told_to_drain:
            return None
        ends_in_us = 0
        if self._drain_ends_at is not None:
            left_s = self._drain_ends_at - asyncio.get_running_loop().time()
            ends_in_us = max(1, round(left_s * 1e6))
        return placement_pb2.Drain(draining=True, ends_in_us=ends_in_us)

    def heartbeat(self) -> placement_pb2.Heartbeat:
        """Tells what was measured since the last one."""
        ends_in_s = None
        if self._ends_at is not None:
            ends_in_s = self._ends_at - asyncio.get_running_loop().time()
        chunk_ms = self._compute.cost.typical_s * 1e3 if self._compute.windows > 1 else 0.0
        compute = self._compute
        beat = self._vitals.heartbeat(
            self._live(),
            chunk_ms=chunk_ms,
            computed=(compute.windows, compute.batches),
            ends_in_s=ends_in_s,
        )
        beat.process.CopyFrom(self._footprint.figures())
        if told := self._chunks.take():
            beat.chunk_events.extend(told)
            beat.time.CopyFrom(now_by_the_clock())
        for size, gain in compute.cost.sure_gains.items():
            beat.batch_gains.add(size=size, gain=gain)
        for steps, measured_s in compute.cost.fewer_s.items():
            beat.degraded_steps.add(steps=steps, chunk_ms=measured_s * 1e3)
        if not self._model.info.session_bytes:
            beat.session_bytes = self._vitals.kept_size
        self._metered.tell(self._live(), beat)
        return beat

    async def admit(self, placement: Placement) -> str:
        """Takes a session in, or waits for what it is to go on from; see `Enrolled`."""
        session_id = placement.session_id
        with span(
            "actor.admit",
            parent=placement.context,
            attributes={"session.id": session_id, "session.epoch": placement.epoch},
        ):
            old = self._sessions.get(session_id)
            if old is not None and old.placement.epoch >= placement.epoch:
                return ""
            if self._retiring:
                return "the actor is about to end"
            if old is not None:
                await self._close(old, "the session was placed anew", tell=False)
            self._kept.hold(session_id)
            if placement.restore:
                await self._kept.claim(session_id, placement.epoch)
                self._sessions[session_id] = Shell(placement, self._services, self._went_on)
                return ""
            try:
                state = await self._states.open(session_id)
            except Exception as error:
                self._log.warning("session.refused", error=type(error).__name__)
                return "the model could not open a session"
            session = LiveSession(placement, self._services, state)
            self._sessions[session_id] = session
            session.go_on([])
            self._log.info("session.opened", session_id=session_id)
            return ""

    async def evict(
        self, session_id: str, epoch: int, reason: str, *, goes_on: bool = False
    ) -> None:
        """Gives a session up and, unless it goes on, what is kept of it; see `Enrolled`."""
        session = self._sessions.get(session_id)
        if session is not None and session.placement.epoch > epoch:
            return
        over = isinstance(session, LiveSession) and session.over
        if session is not None:
            await self._close(session, reason, tell=not over)
        # What is kept of one that was handed over, another actor may be about to read.
        if over:
            await self._kept.expire(session_id, epoch)
        elif not goes_on:
            await self._kept.drop(session_id, epoch)
        if not goes_on:
            await self._drop_uploads(session_id)

    async def park(self, session_id: str, epoch: int, *, store: bool) -> placement_pb2.Parked:
        """Keeps a session and gives it up, or stores one that was kept; see `Enrolled`."""
        parked = placement_pb2.Parked(session_id=session_id, epoch=epoch)
        kept_on: str | None = None
        session = self._sessions.get(session_id)
        if isinstance(session, LiveSession) and session.placement.epoch == epoch:
            parked.failure = await session.park(store=store)
            if not parked.failure:
                await self._close(session, "parked", tell=False)
                if store:
                    await self._kept.drop_on_host(session_id, epoch)
        elif store:
            stored = await self._kept.put_away(session_id, epoch)
            parked.failure = "" if stored else "its state could not be stored"
        else:
            kept_on = await self._kept.renew(session_id, epoch)
            parked.failure = "" if kept_on is not None else "nothing is kept of it"
        shell = isinstance(session, Shell) and session.placement.epoch == epoch
        if session is not None and shell and not parked.failure:
            if self._sessions.get(session_id) is not session:
                # It has gone on meanwhile.
                return await self.park(session_id, epoch, store=store)
            await self._close(session, "parked", tell=False)
        if not parked.failure and not store:
            parked.host = self._host_name if kept_on is None else kept_on
        return parked

    async def awaits_room(self, session_id: str, epoch: int, *, awaits: bool) -> None:
        """There is no room elsewhere for a session, or there is again; see `Enrolled`."""
        session = self._sessions.get(session_id)
        if isinstance(session, LiveSession) and session.placement.epoch == epoch:
            session.awaits_room(awaits)

    async def pace(self, session_id: str, epoch: int, quality: Quality) -> None:
        """A session is to run in another quality; see `Enrolled`."""
        session = self._sessions.get(session_id)
        if session is not None and session.placement.epoch == epoch:
            session.pace(quality)

    async def told_to_drain(self, drain: placement_pb2.Drain) -> None:
        """It is being emptied, or no longer is; see `Enrolled`."""
        self._told_to_drain, self._drain_ends_at = drain.draining, None
        leaving = drain.draining or self._retiring or self._ends_at is not None
        self._signs.why_not_ready = DRAINING if leaving else ""
        if drain.ends_in_us > 0:
            now = asyncio.get_running_loop().time()
            self._drain_ends_at = now + drain.ends_in_us / 1e6

    async def usage_kept(self, number: int) -> None:
        """What was told of usage is written down; see `Enrolled`."""
        self._metered.kept(number)

    async def watch_chunks(self, *, watched: bool) -> None:
        """Heartbeats are to tell of chunks, or no longer; see `Enrolled`."""
        self._chunks.watch(watched=watched)

    async def retire(self) -> None:
        """It takes no more sessions; see `Enrolled`."""
        self._retiring = True
        self._signs.why_not_ready = DRAINING

    def _went_on(self, shell: Shell, session: LiveSession) -> None:
        """A shell has become a session."""
        placement = shell.placement
        self._sessions[placement.session_id] = session
        self._enrolment.restored(placement.session_id, placement.epoch)

    def _departed(self, session_id: str, epoch: int) -> None:
        """A session that was handed over has shown all it made."""
        session = self._sessions.get(session_id)
        if session is not None and session.placement.epoch == epoch:
            task = asyncio.create_task(self._depart(session))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _depart(self, session: LiveSession | Shell) -> None:
        placement = session.placement
        await self._close(session, "moved", tell=False)
        await self._kept.expire(placement.session_id, placement.epoch)
        self._enrolment.departed(placement.session_id, placement.epoch)

    async def _close(
        self,
        session: LiveSession | Shell,
        reason: str,
        *,
        tell: bool = True,
        goes_on: bool = False,
    ) -> None:
        session_id = session.placement.session_id
        if self._sessions.get(session_id) is not session:
            return
        del self._sessions[session_id]
        self._kept.leave(session_id)
        await session.close(reason, tell=tell, goes_on=goes_on)
        if isinstance(session, LiveSession):
            self._metered.note(session)
            with contextlib.suppress(Exception):
                await self._states.close(session.state)
        self._log.info("session.closed", session_id=session_id)

    async def _drop_uploads(self, session_id: str) -> None:
        """A session has ended. The gateway that took its uploads may have ended before."""
        try:
            await self._storage.delete(session_id)
        except StorageError as error:
            self._log.warning("uploads.not_dropped", session_id=session_id, error=str(error))

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
