"""One editing session, as a client sees it."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from sana_gateway import tracing
from sana_gateway.attachment import Attachment
from sana_gateway.errors import SessionClosedError, UnknownSessionError
from sana_gateway.events import Subscribe
from sana_gateway.extras import needing
from sana_gateway.media import CodecName, Watch, publish
from sana_gateway.observed import Messages, Observed
from sana_gateway.uploads import Progress, Uploader, described, opened
from sana_gateway.v1 import command_pb2, media_pb2, message_pb2, session_pb2

if TYPE_CHECKING:
    from aiortc import RTCIceServer

    from sana_gateway.camera import Camera
    from sana_gateway.client import Client
    from sana_gateway.pictures import Pictures
    from sana_gateway.webrtc import Peer

ModeName = Literal["live", "file"]
_MODES: dict[str, command_pb2.Mode.ValueType] = {
    "live": command_pb2.MODE_LIVE,
    "file": command_pb2.MODE_FILE,
}


class Session:
    """A session: its commands, its messages and its media. Made by `Client`.

    Every command returns once the session has accepted it, and raises `CommandRejected`
    when it is refused. A lost connection is taken up again behind the scenes.
    """

    def __init__(self, client: Client, session_id: str, *, owned: bool) -> None:
        self.session_id = session_id
        """Id of the session."""
        self._client = client
        self._owned = owned
        self._observed = Observed()
        self.on: Subscribe = self._observed.on
        """Calls back whenever something of a kind happens: `on("chunk_complete", print)`; see
        `Subscribe` for the kinds. Returns what stops calling."""
        self._attachment = Attachment(
            stub=client.stub,
            session_id=session_id,
            listener=self._observed,
            policy=client.policy,
            metadata=client.metadata,
        )
        self._attachment.start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._owned:
            await self.close()
        else:
            await self.detach()

    @property
    def state(self) -> message_pb2.State | None:
        """Latest snapshot; the single source of truth. None until the session is ready."""
        return self._observed.state

    @property
    def queue_position(self) -> int:
        """Place in the queue while the session waits, else 0."""
        return self._observed.queue_position

    @property
    def gaps(self) -> int:
        """Reconnects after which messages were missing; the snapshot made up for them."""
        return self._observed.gaps

    @property
    def end_reason(self) -> str | None:
        """Why the session ended, for people; None until then."""
        return self._observed.end_reason

    @property
    def revision(self) -> int:
        """Highest revision seen."""
        return self._attachment.revision or 0

    async def close(self) -> None:
        """Ends the session and frees what it held. Ending an ended one is no error."""
        linger = 0.0
        try:
            with suppress(UnknownSessionError, SessionClosedError):
                await self._client.close_session(self.session_id)
                linger = 1.0
        finally:
            await self._attachment.stop(linger=linger)

    async def detach(self) -> None:
        """Leaves the session running; the service keeps it for a while."""
        await self._attachment.stop()

    async def describe(self) -> session_pb2.Session:
        """Returns the session as the service sees it, with what its model can do."""
        return await self._client.get_session(self.session_id)

    async def ready(self, timeout: float | None = None) -> message_pb2.State:  # noqa: ASYNC109
        """Waits until the session has its place, and returns its first snapshot.

        Raises:
            TimeoutError: It still waits.
            GatewayError: It ended, or cannot be reached.
        """
        return await self.wait_for(lambda _: True, timeout)

    async def wait_for(
        self,
        condition: Callable[[message_pb2.State], object],
        timeout: float | None = None,  # noqa: ASYNC109 - what callers expect
    ) -> message_pb2.State:
        """Waits until a snapshot satisfies a condition, and returns it.

        Args:
            condition: Judges a snapshot.
            timeout: Seconds to wait at most; None waits for ever.

        Raises:
            TimeoutError: No such snapshot came in time.
            GatewayError: The session ended, or cannot be reached.
        """
        async with asyncio.timeout(timeout):
            return await self._observed.wait_for(condition)

    def messages(self) -> Messages:
        """Returns the messages from now on, for `async for`."""
        return self._observed.messages()

    async def set_mode(self, mode: ModeName) -> None:
        """Chooses the source of video: `live` or `file`."""
        await self._command(set_mode=command_pb2.SetMode(mode=_MODES[mode]))

    async def set_video(self, video: command_pb2.FileRef) -> None:
        """Stages an uploaded clip."""
        await self._command(set_video=command_pb2.SetVideo(video=video))

    async def set_prompt(self, prompt: str, *, transition_chunks: int | None = None) -> None:
        """Sets or changes the prompt; it takes effect at the next chunk.

        Args:
            prompt: What to make of the video.
            transition_chunks: Chunks over which the prompt before becomes this one, 0 to 16,
                while a run goes on; None: at once. A model whose
                `capabilities.prompt_transitions` is false refuses it.
        """
        await self._command(
            set_prompt=command_pb2.SetPrompt(prompt=prompt, transition_chunks=transition_chunks)
        )

    async def set_seed(self, seed: int) -> None:
        """Sets the noise seed of the next start, 0 to 2**53-1."""
        await self._command(set_seed=command_pb2.SetSeed(seed=seed))

    async def start(self) -> None:
        """Begins a run. Needs a prompt and a source for the present mode."""
        await self._command(start=command_pb2.Start())

    async def pause(self) -> None:
        """Halts after the chunk under way."""
        await self._command(pause=command_pb2.Pause())

    async def resume(self) -> None:
        """Goes on after a pause."""
        await self._command(resume=command_pb2.Resume())

    async def reset(self) -> None:
        """Aborts the run and drops clip, prompt and progress; keeps mode and seed."""
        await self._command(reset=command_pb2.Reset())

    async def fork(self, copies: int) -> list[Session]:
        """Copies the session as it is now; see `Client.fork`."""
        return await self._client.fork(self.session_id, copies)

    async def upload(
        self,
        source: bytes | str | os.PathLike[str],
        *,
        name: str | None = None,
        mime_type: str | None = None,
        progress: Progress | None = None,
    ) -> command_pb2.FileRef:
        """Uploads a clip; goes on after interruptions.

        Args:
            source: The clip itself, or the path of its file.
            name: Name to give along.
            mime_type: MIME type to give along; guessed from the name.
            progress: Called with the bytes sent and the whole size.

        Returns:
            The reference for `set_video`.

        Raises:
            CallError: The upload was refused.
            OSError: The file cannot be read.
        """
        file, size = await opened(source)
        try:
            chosen, kind = described(source, name, mime_type)
            start = session_pb2.UploadStart(
                session_id=self.session_id, name=chosen, mime_type=kind, size=size
            )
            client = self._client
            uploader = Uploader(client.stub, client.policy, client.metadata, start, file, progress)
            return await uploader.run()
        finally:
            await asyncio.to_thread(file.close)

    def watch(
        self,
        codec: CodecName | None = None,
        *,
        on_stats: Callable[[media_pb2.ViewerStats], None] | None = None,
    ) -> Watch:
        """Watches main_video over gRPC: encoded frames, each when it is due.

        Args:
            codec: `h264` or `vp8`; None lets the service choose.
            on_stats: Called after the first frame of every chunk with what the picture has
                been through: the service's shares of glass to glass and prompt to pixels.
                Must return at once.
        """
        client = self._client
        return Watch(client.stub, client.metadata(), self.session_id, codec, on_stats)

    def pictures(self, codec: CodecName | None = None) -> Pictures:
        """Watches main_video over gRPC: pictures as arrays, each when it is due.

        A lost connection is taken up again. Needs the extra `video`.

        Args:
            codec: `h264` or `vp8`; None lets the service choose.
        """
        with needing("video"):
            from sana_gateway.pictures import Pictures

        return Pictures(lambda: self.watch(codec), self._client.policy)

    async def publish_camera(self, camera: Camera, codec: CodecName = "h264") -> None:
        """Publishes a camera made of arrays over gRPC until it is closed.

        Args:
            camera: Gives the pictures; see `sana_gateway.camera`.
            codec: What to encode them in.

        Raises:
            PublisherTakenError: Another connection publishes.
            CallError: The call failed.
        """
        await self.publish(camera.encoded(codec), codec, on_keyframe=camera.request_keyframe)

    def peer(
        self,
        *,
        camera: Camera | None = None,
        codec: CodecName | None = None,
        ice_servers: Sequence[RTCIceServer] = (),
    ) -> Peer:
        """Makes a WebRTC peer for this session's media; `async with` connects it.

        Needs the extra `webrtc`.

        Args:
            camera: What to publish; None: nothing.
            codec: What to receive main_video in; None: what the service prefers.
            ice_servers: STUN and TURN servers, where the gateway cannot be reached directly.
        """
        with needing("webrtc"):
            from sana_gateway.webrtc import Peer

        return Peer(self, camera=camera, codec=codec, ice_servers=ice_servers)

    async def publish(
        self,
        frames: AsyncIterable[media_pb2.CameraFrame],
        codec: CodecName,
        *,
        on_keyframe: Callable[[], None] | None = None,
    ) -> None:
        """Publishes the camera over gRPC until the frames end.

        Args:
            frames: Encoded frames in order; `timestamp_us` never falls.
            codec: What they are encoded in.
            on_keyframe: Called when the service needs a keyframe.

        Raises:
            PublisherTakenError: Another connection publishes.
            CallError: The call failed.
        """
        client = self._client
        await publish(client.stub, client.metadata(), self.session_id, frames, codec, on_keyframe)

    async def offer(
        self, sdp: str, tracks: Mapping[str, str], *, connection_id: int = 0
    ) -> tuple[int, str]:
        """Offers a WebRTC peer connection for this session's media.

        Args:
            sdp: The offer.
            tracks: Name of the track (`main_video`, `camera`) by the mid of its section.
            connection_id: The peer to replace; 0 makes a new one.

        Returns:
            The peer's number, and the SDP answer with all of the service's candidates.

        Raises:
            BadOfferError: The offer has no video, or no codec that the service speaks.
        """
        mapped = [session_pb2.TrackMapping(mid=mid, name=name) for mid, name in tracks.items()]
        response = await self._client.signal(
            session_pb2.SignalRequest(
                session_id=self.session_id,
                connection_id=connection_id,
                offer=session_pb2.Offer(sdp=sdp, tracks=mapped),
            )
        )
        return response.connection_id, response.sdp_answer

    async def candidates(
        self, connection_id: int, candidates: Iterable[session_pb2.IceCandidate]
    ) -> None:
        """Trickles ICE candidates of a peer."""
        await self._client.signal(
            session_pb2.SignalRequest(
                session_id=self.session_id,
                connection_id=connection_id,
                candidates=session_pb2.IceCandidates(candidates=candidates),
            )
        )

    async def hangup(self, connection_id: int) -> None:
        """Ends a peer; ending one that is gone is no error."""
        await self._client.signal(
            session_pb2.SignalRequest(
                session_id=self.session_id,
                connection_id=connection_id,
                hangup=session_pb2.Hangup(),
            )
        )

    async def _command(self, **command: Any) -> None:  # noqa: ANN401 - one field of Command
        made = command_pb2.Command(
            command_id=uuid.uuid4().hex, traceparent=tracing.traceparent(), **command
        )
        async with asyncio.timeout(self._client.command_timeout):
            await self._attachment.command(made)
