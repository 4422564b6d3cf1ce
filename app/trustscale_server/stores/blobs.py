"""Blobs: bytes by folder and name, in a local folder, on S3, Google Cloud Storage or Azure.

obstore guarantees that a file appears whole or not at all, and that `create` is one conditional
write. Folders and names come from outside: each is percent-encoded into one path component, so no
name can leave its folder, hide, or mean something to a file system.
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import quote, unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from trustscale_server.platform.errors import BadRequest, ConfigError, ImageTooLarge, NotFound
from trustscale_server.stores.blob_errors import blob_failure
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.files import PRIVATE, SCRATCH_LIFE_S, sync, usable_folder
from trustscale_server.stores.spool import spooled_parts

_TIMES: Final[dict[str, Any]] = {
    "retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
    # The operator's URL says whether it is http; these options would forbid it.
    "client_options": {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=5),
        "timeout": timedelta(seconds=60),
    },
}

# A file that proves that the store takes writes, and tells its time.
CHECK_FOLDER: Final = "check"
_CHECK: Final = (CHECK_FOLDER, "written")

Blob: TypeAlias = bytes | memoryview | IO[bytes]
"""A file to store, read from its present position."""


class UploadLink(NamedTuple):
    """A PUT that stores a file without passing the gateway, with the headers that it needs."""

    url: str
    headers: dict[str, str]


def component(name: str) -> str:
    """Return the path component of a name: letters, digits, `_`, `-`, `.` and %XX.

    Raises BadRequest for an empty or too long name.
    """
    encoded = quote(name, safe="", errors="surrogatepass").replace("~", "%7E")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if not encoded:
        raise BadRequest(f"A name is empty: {name!r}.")
    # File systems allow 255 bytes; obstore's temporary files have longer names.
    if len(encoded) > 253:
        raise BadRequest(f"A name is too long: {name[:40]!r}.")
    return encoded


def _named(encoded: str) -> str:
    return unquote(encoded, errors="surrogatepass")


class Blobs:
    """Bytes by folder and name, shared by all processes.

    `root` is the folder of a local one.

    Errors and logs omit the messages of an object store, which may quote credentials.
    """

    def __init__(self, store: ObjectStore, root: Path | None = None) -> None:
        self.store = store
        self.root = root

    async def put(self, folder: str, name: str, data: Blob) -> None:
        """Store a file, whole or not at all; an existing one is replaced."""
        with self._errors():
            await obstore.put_async(
                self.store,
                _path(folder, name),
                data,
                max_concurrency=4,  # parts of five megabytes each, of a file on the disk
                **self._type(name),
            )
            await self._sync(folder, name)

    async def create(self, folder: str, name: str, data: Blob) -> bool:
        """Store a file, whole, unless the name is taken: True for exactly one caller."""
        with self._errors():
            try:
                await obstore.put_async(
                    self.store, _path(folder, name), data, mode="create", **self._type(name)
                )
            except AlreadyExistsError:
                return False
            await self._sync(folder, name)
            return True

    async def get(self, folder: str, name: str, *, most: int | None = None) -> bytes:
        """Read a file. Raises NotFound, or ImageTooLarge before more than `most` bytes are read."""
        with self._errors():
            try:
                answer = await obstore.get_async(self.store, _path(folder, name))
                if most is not None and answer.meta["size"] > most:
                    raise ImageTooLarge(
                        f"The file has {answer.meta['size']:,} bytes; {most:,} are accepted.",
                        limit="max_bytes",
                        maximum=most,
                        actual=answer.meta["size"],
                    )
                return bytes(await answer.bytes_async())
            except FileNotFoundError:
                raise NotFound(f"There is no file {name!r} of {folder}.") from None

    async def has(self, folder: str, name: str) -> bool:
        """Return whether there is a file, without reading it."""
        with self._errors():
            try:
                await obstore.head_async(self.store, _path(folder, name))
            except FileNotFoundError:
                return False
            return True

    async def file(self, folder: str, name: str) -> IO[bytes]:
        """Open a file to read in parts, even if it is deleted before its end. Raises NotFound."""
        path = _path(folder, name)
        with self._errors():
            try:
                if self.root is not None:
                    return await asyncio.to_thread((self.root / path).open, "rb")
                answer = await obstore.get_async(self.store, path)
            except FileNotFoundError:
                raise NotFound(f"There is no file {name!r} of {folder}.") from None
            # A slow reader would exceed the time for one answer of the store.
            return await spooled_parts(answer.stream())

    async def names(self, folder: str) -> list[str]:
        """Return the names of all files of a folder, sorted."""
        return sorted([_named(path.rpartition("/")[2]) for path, _ in await self._listed(folder)])

    async def sizes(self) -> dict[tuple[str, str], int]:
        """Return the bytes of every file by folder and name."""
        with self._errors():
            batches: AsyncIterator[Any] = obstore.list(self.store)
            listed = [item async for batch in batches for item in batch]
        paths = ((item["path"].partition("/"), item["size"]) for item in listed)
        return {(_named(folder), _named(name)): size for (folder, _, name), size in paths}

    async def delete(self, folder: str, beginning: str = "") -> None:
        """Remove the files of a folder, all or those whose name begins so."""
        start = quote(beginning, safe="")
        # A file that another process removes ends a call, so there are a few.
        for _ in range(10):
            listed = [path for path, _ in await self._listed(folder)]
            paths = [path for path in listed if path.rpartition("/")[2].startswith(start)]
            if not paths:
                return
            with self._errors(), suppress(FileNotFoundError):
                await obstore.delete_async(self.store, paths)

    async def untouched(self, age: timedelta) -> list[str]:
        """Return the folders without a file stored within this time, sorted."""
        await self.put(*_CHECK, b"")
        newest: dict[str, datetime] = {}
        for path, stored in await self._listed():
            folder = path.rpartition("/")[0]
            newest[folder] = max(newest.get(folder, stored), stored)
        now = newest.pop(_CHECK[0])
        if self.root is not None:
            await asyncio.to_thread(_remove_scratch, self.root, now)
        return sorted(_named(folder) for folder, stored in newest.items() if stored < now - age)

    async def link(self, folder: str, name: str, *, seconds: float) -> str | None:
        """Return a URL that gives the file to anybody for `seconds`; None without links."""
        return await self._signed("GET", folder, name, seconds)

    async def upload_link(self, folder: str, name: str, *, seconds: float) -> UploadLink | None:
        """Return a URL that stores a file of any size, for `seconds`; None without links."""
        url = await self._signed("PUT", folder, name, seconds)
        is_azure = isinstance(self.store, AzureStore)
        headers = {"x-ms-blob-type": "BlockBlob"} if is_azure else {}
        return None if url is None else UploadLink(url, headers)

    async def _signed(
        self, method: Literal["GET", "PUT"], folder: str, name: str, seconds: float
    ) -> str | None:
        if not isinstance(self.store, S3Store | GCSStore | AzureStore):
            return None
        with self._errors():
            return await obstore.sign_async(
                self.store, method, _path(folder, name), timedelta(seconds=seconds)
            )

    async def probe(self) -> None:
        await self.put(*_CHECK, b"")
        await self.get(*_CHECK)

    async def identity(self) -> bytes:
        """Return a secret that only processes with these bytes know."""
        await self.create(CHECK_FOLDER, "identity", secrets.token_hex(16).encode())
        return await self.get(CHECK_FOLDER, "identity")

    async def _listed(self, folder: str | None = None) -> list[tuple[str, datetime]]:
        prefix = None if folder is None else component(folder)
        with self._errors():
            batches: AsyncIterator[Any] = obstore.list(self.store, prefix)
            return [
                (item["path"], item["last_modified"]) async for batch in batches for item in batch
            ]

    async def _sync(self, folder: str, name: str) -> None:
        """Sync a file and its name to the disk, which obstore does not do."""
        if self.root is not None:
            await asyncio.to_thread(_sync, self.root / component(folder) / component(name))

    def _type(self, name: str) -> dict[str, Any]:
        """The media type, for browsers that follow a link."""
        kind, _ = mimetypes.guess_type(name)
        signs = isinstance(self.store, S3Store | GCSStore | AzureStore)
        return {"attributes": {"Content-Type": kind}} if kind and signs else {}

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise StoreUnavailable for a full disk, a lost folder, a store that is away."""
        try:
            yield
        except (BaseError, OSError) as error:
            place = "The blob store" if self.root is None else f"The folder {self.root}"
            reason = blob_failure(error, is_local=self.root is not None)
            raise StoreUnavailable(f"{place} cannot be used now: {reason}.") from error


def _path(folder: str, name: str) -> str:
    return f"{component(folder)}/{component(name)}"


def _sync(path: Path) -> None:
    for place in (path, path.parent, path.parent.parent):
        with suppress(FileNotFoundError):  # another process removed it
            sync(place)


def _remove_scratch(root: Path, now: datetime) -> None:
    """Remove the partial files of killed processes."""
    limit = now.timestamp() - SCRATCH_LIFE_S
    for path in root.glob("*/*#*"):
        with suppress(OSError):
            is_scratch = re.fullmatch(r".+#\d+", path.name) is not None  # as obstore names them
            if is_scratch and path.stat().st_mtime < limit:
                path.unlink()


def open_blobs(url: str | None, data_dir: Path) -> Blobs:
    """Open the blob store behind a URL; None is the folder `blobs` in the data folder.

    `file:///PATH`, or `s3://BUCKET/PREFIX`, `gs://…`, `az://CONTAINER/…`, with credentials from the
    vendors' variables (`AWS_…`, `GOOGLE_…`, `AZURE_…`).

    Raises ConfigError without secrets.
    """
    place = check_blobs_url(url)
    if place is None:
        return _in_folder(usable_folder(data_dir, mode=PRIVATE) / "blobs")
    if isinstance(place, Path):
        return _in_folder(place)
    try:
        return Blobs(from_url(place, **_TIMES))
    except Exception as error:
        # The library's message may quote credentials.
        scheme = place.partition(":")[0]
        raise ConfigError(
            f"The blobs URL ({scheme}://…) cannot be opened: {type(error).__name__}."
        ) from error


def _in_folder(folder: Path) -> Blobs:
    root = usable_folder(folder, mode=PRIVATE).resolve()
    _check_links(root)
    return Blobs(LocalStore(root, automatic_cleanup=True), root)


def check_blobs_url(url: str | None) -> str | Path | None:
    """Return the folder, or the URL of an object store; opens nothing. Raises ConfigError."""
    if url is None:
        return None
    try:
        split = urlsplit(url)
    except ValueError as error:
        raise ConfigError("The blobs URL cannot be read.") from error
    if split.scheme == "file":
        if split.netloc not in {"", "localhost"} or not split.path.startswith("/"):
            raise ConfigError("A folder of blobs is file:///PATH, with three slashes.")
        if split.query or split.fragment:
            raise ConfigError("The URL of a folder of blobs takes no parameters.")
        return Path(unquote(split.path))
    is_bucket = split.scheme in {"s3", "gs", "az"} and bool(split.netloc)
    if not is_bucket or "@" in split.netloc or split.query:
        raise ConfigError(
            "blobs is file:///PATH, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or "
            "az://CONTAINER/PREFIX; credentials belong into the variables of the vendor."
        )
    return url


def _check_links(root: Path) -> None:
    """Raise ConfigError for a share without hard links, where `create` cannot work."""
    first, second = (root / f".tmp-{secrets.token_hex(8)}" for _ in range(2))
    try:
        first.touch()
        second.hardlink_to(first)
    except OSError as error:
        raise ConfigError(
            f"The folder {root} has no hard links ({error.strerror}): choose another file system "
            "or an object store."
        ) from error
    finally:
        for path in (first, second):
            path.unlink(missing_ok=True)
