"""The connection to a gateway."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

import grpc

from sana_gateway import tracing
from sana_gateway.errors import CallError, from_rpc_error, rejected
from sana_gateway.pool import describe_pool, drain_actor
from sana_gateway.retry import RetryPolicy, calling
from sana_gateway.session import Session
from sana_gateway.v1 import command_pb2, pool_pb2, session_pb2, session_pb2_grpc

_OPTIONS = (
    # A connection that died without a word is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # What gRPC really waits for, a minute by default.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # gRPC's own waits between tries to connect; the default grows to two minutes. A gateway
    # that is back is to be noticed within two seconds, with what a client asks of it then.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class Client:
    """A gateway, and the caller's sessions on it.

    Use it with `async with`, or call `close` in the end.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        api_key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        policy: RetryPolicy | None = None,
        command_timeout: float = 30.0,
    ) -> None:
        """Connects when the first call is made. Make it inside a running event loop.

        Args:
            address: `host:port` of the gateway's gRPC.
            token: Bearer token; only over TLS, or on one's own machine.
            api_key: API key, for servers: it needs no token. The same holds for it.
            credentials: TLS of the connection; without them it is in the clear.
            policy: How long to try again when the gateway cannot be reached.
            command_timeout: Seconds a command may take.
        """
        self.policy = policy or RetryPolicy()
        """How long to try again."""
        self.command_timeout = command_timeout
        """Seconds a command may take."""
        self._token, self._api_key = token, api_key
        self.channel: grpc.aio.Channel = (
            grpc.aio.insecure_channel(address, options=_OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options=_OPTIONS)
        )
        """The connection."""
        self.stub: session_pb2_grpc.SessionServiceAsyncStub = session_pb2_grpc.SessionServiceStub(
            self.channel
        )
        """The bare calls, for what this class does not cover."""
        self._sessions: set[Session] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Detaches from all sessions and closes the connection."""
        while self._sessions:
            await self._sessions.pop().detach()
        await self.channel.close(None)

    def metadata(self) -> tracing.Metadata:
        """Returns the metadata of a call made now: token or key, and trace."""
        return tracing.metadata(self._token, self._api_key)

    async def create_session(
        self,
        model: str,
        *,
        request_id: str | None = None,
        wait: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - what callers expect
        on_queue: Callable[[session_pb2.QueueUpdate], None] | None = None,
        journal_content: bool = False,
    ) -> Session:
        """Creates a session and waits for its place.

        Args:
            model: Name of the model.
            request_id: Repeating it returns the session already made; by default a new one.
            wait: Whether to wait until the session is ready; else see `Session.ready`.
            timeout: Seconds to wait at most; the session is closed when they are over.
            on_queue: Called when its place in the queue changes.
            journal_content: Keep prompts and reference pictures in the session's journal, where
                the service keeps journals: for a bug report that replays by itself.

        Returns:
            The session; leaving its `async with` closes it.

        Raises:
            UnknownModelError: The model is not served.
            NoCapacityError: The queue is full.
            TimeoutError: Its turn did not come in time.
        """
        request = session_pb2.CreateSessionRequest(
            model=model,
            request_id=request_id or uuid.uuid4().hex,
            journal_content=journal_content,
        )
        response = await calling(
            self.policy, lambda: self.stub.CreateSession(request, metadata=self.metadata())
        )
        session = self._opened(response.session.session_id, owned=True)
        if on_queue is not None:
            session.on("queue", on_queue)
        if wait:
            try:
                await session.ready(timeout)
            except BaseException:
                await asyncio.shield(session.close())
                raise
        return session

    async def attach(self, session_id: str) -> Session:
        """Attaches to a session that exists; leaving its `async with` only detaches.

        Raises:
            UnknownSessionError: No such session, or not one of the caller's.
        """
        await self.get_session(session_id)
        return self._opened(session_id, owned=False)

    async def get_session(self, session_id: str) -> session_pb2.Session:
        """Returns a session as it is now.

        Raises:
            UnknownSessionError: No such session, or not one of the caller's.
        """
        request = session_pb2.GetSessionRequest(session_id=session_id)
        response = await calling(
            self.policy, lambda: self.stub.GetSession(request, metadata=self.metadata())
        )
        return response.session

    async def fork(
        self, session_id: str, copies: int, *, request_id: str | None = None
    ) -> list[Session]:
        """Copies a session as it is now: the same shot, to be edited differently.

        Each copy is a session of its own, which goes on with the next window and may have to
        wait for a place: see `Session.ready`.

        Args:
            session_id: Which.
            copies: How many, 1 to 16.
            request_id: Repeating it returns the copies already made; by default a new one.

        Returns:
            The copies; leaving their `async with` closes them.

        Raises:
            CommandRejected: The session cannot be copied as it is.
            NotReadyError: It is on no actor just now; `retry_after` says when to try again.
            NoCapacityError: The queue is full.
            UnknownSessionError: No such session, or not one of the caller's.
        """
        request = session_pb2.ForkSessionRequest(
            session_id=session_id, copies=copies, request_id=request_id or uuid.uuid4().hex
        )
        try:
            response = await calling(
                self.policy, lambda: self.stub.ForkSession(request, metadata=self.metadata())
            )
        except CallError as error:
            # A refusal with a class of its own says more about a call than about a command.
            refusal = rejected(error, "fork") if type(error) is CallError else None
            if refusal is None:
                raise
            raise refusal from error
        return [self._opened(each.session_id, owned=True) for each in response.sessions]

    async def close_session(self, session_id: str) -> None:
        """Ends a session. Ending an ended one is no error.

        Raises:
            UnknownSessionError: No such session, or not one of the caller's.
        """
        request = session_pb2.CloseSessionRequest(session_id=session_id)
        await calling(
            self.policy, lambda: self.stub.CloseSession(request, metadata=self.metadata())
        )

    async def execute(
        self, session_id: str, command: command_pb2.Command
    ) -> session_pb2.ExecuteResponse:
        """Sends one command without attaching: for scripts.

        The session needs to be ready, and is kept for a while after the call. What becomes
        known only after the command was accepted does not reach this caller.

        Args:
            session_id: Whom to send it to.
            command: What to do; it gets an id when it has none. Repeating one is safe.

        Returns:
            What the command was answered with, and the snapshot after it.

        Raises:
            CommandRejected: The session refused it.
            NotReadyError: The session still waits for its place.
            UnknownSessionError: No such session, or not one of the caller's.
            TimeoutError: There was no answer within `command_timeout`.
        """
        request = session_pb2.ExecuteRequest(session_id=session_id, command=command)
        request.command.command_id = command.command_id or uuid.uuid4().hex
        limit = self.command_timeout
        try:
            async with asyncio.timeout(limit):
                return await calling(
                    self.policy,
                    lambda: self.stub.Execute(request, metadata=self.metadata(), timeout=limit),
                )
        except CallError as error:
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError(str(error)) from error
            refusal = rejected(error, command.WhichOneof("command") or "")
            if refusal is None:
                raise
            raise refusal from error

    async def signal(self, request: session_pb2.SignalRequest) -> session_pb2.SignalResponse:
        """Signals for a WebRTC peer; never repeated, as a new offer makes a new peer."""
        return await calling(
            self.policy,
            lambda: self.stub.Signal(request, metadata=self.metadata()),
            retry=False,
        )

    async def describe_pool(self) -> pool_pb2.DescribePoolResponse:
        """Returns the actors and the queue. Needs the scope `operator`."""
        return await calling(
            self.policy, lambda: describe_pool(self.channel, metadata=self.metadata())
        )

    async def drain_actor(
        self, actor_id: str, *, grace: timedelta | None = None, cancel: bool = False
    ) -> AsyncIterator[pool_pb2.DrainActorResponse]:
        """Empties an actor; see `sana_gateway.pool.drain_actor`. Needs the scope `operator`.

        Raises:
            CallError: The call failed; the drain may go on.
        """
        told = drain_actor(
            self.channel, actor_id, grace=grace, cancel=cancel, metadata=self.metadata()
        )
        try:
            async for progress in told:
                yield progress
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    def _opened(self, session_id: str, *, owned: bool) -> Session:
        session = Session(self, session_id, owned=owned)
        self._sessions.add(session)
        session.on("ended", lambda _: self._sessions.discard(session))
        return session
