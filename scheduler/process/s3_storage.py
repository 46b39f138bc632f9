"""A storage in a bucket of Amazon S3 or of whatever speaks its protocol: `--storage s3`.

Keys are those of every storage below one prefix of the bucket. An object appears when its last
byte was added: it is sent in parts as it grows, and the parts are made one at the end. Parts of an
upload that was given up stay in the bucket, unseen, until its lifecycle rule removes them
(`AbortIncompleteMultipartUpload`; docs/storage.md).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Any, Final, ParamSpec, TypeVar

from scheduler.core.errors import ConfigurationError
from scheduler.process.storage import SMALL, StorageError, segments_of

_P = ParamSpec("_P")
_R = TypeVar("_R")

THREADS: Final = 8
"""Threads of one storage, which wait for the network; further calls wait for one."""
PART: Final = 8 << 20
"""Bytes of a part: what one growing object holds in memory, twice while it is sent."""
PIECE: Final = 1 << 20
"""Bytes that are fetched at once, at least."""
PATIENCE: Final = timedelta(seconds=30)
"""How long a call tries again before it fails."""
_ANSWER: Final = timedelta(seconds=20)


class _NoObjectError(StorageError):
    """There is no object of the key."""


@dataclass(slots=True)
class _Growing:
    """An object being written; `lock` is held while a thread writes."""

    size: int
    lock: Lock
    writer: Any
    written: int = 0
    broken: bool = False


class S3Storage:
    """Objects of one bucket; see `scheduler.process.storage.Storage`.

    Credentials come from the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), from the
    role of the machine or of the Kubernetes service account, and never from options.
    """

    def __init__(
        self, bucket: str, prefix: str = "", endpoint: str = "", region: str = "us-east-1"
    ) -> None:
        """Connects to nothing yet.

        Args:
            bucket: Name of the bucket, which exists.
            prefix: What all keys begin with there, without the slash.
            endpoint: URL of the service where it is not Amazon's.
            region: Region of the bucket.

        Raises:
            ConfigurationError: The library is missing, or an option makes no sense.
        """
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import S3Store
        except ImportError as error:
            raise ConfigurationError(
                "--storage s3 needs its library: pip install 'sana-gateway[s3]'"
            ) from error
        if not bucket:
            raise ConfigurationError("--storage s3 needs storage_options.bucket")
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise ConfigurationError("storage_options.endpoint begins with http:// or https://")
        self._api, self._errors = obstore, BaseError
        # The asynchronous half of the library calls Python from threads of its own, which aborts a
        # process that ends meanwhile; the blocking half on our threads does not.
        self._store = S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            region=region,
            endpoint=endpoint or None,
            virtual_hosted_style_request=not endpoint,
            client_options={"allow_http": endpoint.startswith("http://"), "timeout": _ANSWER},
            retry_config={"max_retries": 5, "retry_timeout": PATIENCE},
        )
        self._growing: dict[str, _Growing] = {}
        self._closed = False
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="storage")

    async def create(self, key: str, size: int) -> None:
        """Begins an object; see `Storage`."""
        segments_of(key)
        if size < 1:
            raise StorageError("an object has at least one byte")
        if key in self._growing:
            raise StorageError("the object is being written already")
        growing = _Growing(size, Lock(), None)
        self._growing[key] = growing
        try:
            await self._run(self._create, key, growing)
        except BaseException:
            self._growing.pop(key, None)
            raise

    async def append(self, key: str, offset: int, data: bytes) -> None:
        """Adds bytes to an object; see `Storage`. After a failure the object has to be begun
        anew.
        """
        segments_of(key)
        growing = self._growing.get(key)
        if growing is None:
            raise StorageError("the object is not being written here")
        await self._run(self._append, growing, offset, data)
        if growing.written == growing.size:
            self._growing.pop(key, None)

    async def fetch(self, key: str, into: int) -> int:
        """Copies an object into a file; see `Storage`."""
        segments_of(key)
        self._refuse_closed()
        # The thread goes on when the caller is cancelled, and has a descriptor of its own.
        own = os.dup(into)
        copying = self._threads.submit(self._fetch, key, own)
        copying.add_done_callback(lambda _: os.close(own))
        return await asyncio.wrap_future(copying)

    async def exists(self, key: str) -> bool:
        """Tells whether an object is complete; see `Storage`."""
        segments_of(key)
        return await self._run(self._exists, key)

    async def link(self, key: str, to: str) -> None:
        """Makes an object appear under another key: the service copies it; see `Storage`."""
        segments_of(key)
        segments_of(to)
        await self._run(self._link, key, to)

    async def delete(self, prefix: str) -> None:
        """Removes objects; see `Storage`."""
        segments_of(prefix)
        below = prefix + "/"
        for key in [key for key in self._growing if key == prefix or key.startswith(below)]:
            self._growing.pop(key).broken = True
        await self._run(self._delete, prefix)

    async def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Lists what lies below a prefix; see `Storage`."""
        if prefix:
            segments_of(prefix)
        return await self._run(self._names, prefix, after, limit)

    async def newest(self, prefix: str) -> float | None:
        """Tells when something below a prefix was last written; see `Storage`."""
        segments_of(prefix)
        return await self._run(self._newest, prefix)

    async def put(self, key: str, data: bytes) -> None:
        """Writes a small object; see `Storage`."""
        segments_of(key)
        if len(data) > SMALL:
            raise StorageError(f"an object written at once has at most {SMALL} bytes")
        await self._run(self._put, key, data)

    async def get(self, key: str) -> bytes:
        """Returns a small object; see `Storage`."""
        segments_of(key)
        return await self._run(self._get, key)

    async def close(self) -> None:
        """Ends the threads; see `Storage`."""
        self._closed = True
        for growing in self._growing.values():
            growing.broken = True
        self._growing.clear()
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Waits for the network on a thread."""
        self._refuse_closed()
        return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StorageError("the storage is closed")

    def _create(self, key: str, growing: _Growing) -> None:
        if self._exists(key):
            raise StorageError("the object exists already")
        with self._worded():
            growing.writer = self._api.open_writer(
                self._store, key, buffer_size=PART, max_concurrency=1
            )

    def _append(self, growing: _Growing, offset: int, data: bytes) -> None:
        with growing.lock:
            if growing.broken:
                raise StorageError("the object was deleted, or a part of it was lost")
            if offset != growing.written:
                raise StorageError(f"{growing.written} bytes are there, not {offset}")
            if len(data) > growing.size - growing.written:
                raise StorageError(f"the object has only {growing.size} bytes")
            try:
                with self._worded():
                    growing.writer.write(data)
                    if offset + len(data) == growing.size:
                        growing.writer.close()
            except BaseException:
                growing.broken = True
                raise
            growing.written += len(data)

    def _fetch(self, key: str, into: int) -> int:
        copied = 0
        with self._worded():
            for piece in self._api.get(self._store, key).stream(min_chunk_size=PIECE):
                rest = memoryview(piece)
                copied += len(rest)
                while rest:
                    rest = rest[os.write(into, rest) :]
        return copied

    def _exists(self, key: str) -> bool:
        try:
            with self._worded():
                self._api.head(self._store, key)
        except _NoObjectError:
            return False
        return True

    def _link(self, key: str, to: str) -> None:
        if not self._exists(to):
            with self._worded():
                self._api.copy(self._store, key, to)

    def _delete(self, prefix: str) -> None:
        with self._worded():
            for page in self._api.list(self._store, prefix):
                self._api.delete(self._store, [each["path"] for each in page])
            self._api.delete(self._store, prefix)

    def _names(self, prefix: str, after: str, limit: int) -> list[str]:
        with self._worded():
            found = self._api.list_with_delimiter(self._store, prefix or None)
        # A folder is an object of some services, and of what consoles make: the prefix itself.
        below = f"{prefix}/" if prefix else ""
        paths = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        names = {path.removeprefix(below) for path in paths if path.startswith(below)}
        return sorted(name for name in names if name > after)[:limit]

    def _newest(self, prefix: str) -> float | None:
        newest: float | None = None
        with self._worded():
            for page in self._api.list(self._store, prefix):
                written = max(each["last_modified"].timestamp() for each in page)
                newest = written if newest is None else max(newest, written)
        return newest

    def _put(self, key: str, data: bytes) -> None:
        with self._worded():
            self._api.put(self._store, key, data, use_multipart=False)

    def _get(self, key: str) -> bytes:
        with self._worded():
            found = self._api.get(self._store, key)
            if found.meta["size"] > SMALL:
                raise StorageError(f"the object has more than {SMALL} bytes")
            return bytes(found.bytes())

    @contextmanager
    def _worded(self) -> Iterator[None]:
        """Words errors of the service: its own texts quote keys and addresses."""
        try:
            yield
        except FileNotFoundError:
            raise _NoObjectError("there is no such object") from None
        except OSError as error:
            raise StorageError(f"the storage failed: {error.strerror}") from None
        except self._errors as error:
            raise StorageError(f"the storage failed: {type(error).__name__}") from None
