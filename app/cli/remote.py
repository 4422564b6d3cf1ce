"""A server's admin API, as the command line uses it: `--server URL` on the calibration commands.

The key comes from an environment variable only: on the command line every user of the machine
could read it.
"""

from __future__ import annotations

import json
import os
import secrets
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Final, NamedTuple, Self

import httpx
import typer
from httpx import codes

from app.calibration.config import CalibrationConfig
from app.calibration.folder import PairFiles, find_pairs
from app.calibration.layout import PREDICTIONS
from app.cli.local import progress_bar
from app.errors import BadRequest, ConfigError, TrustscaleError

ServerOption = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="Do it on this server, not here.")
]
KeyOption = Annotated[
    str,
    typer.Option(
        "--key-env",
        metavar="NAME",
        help="With --server: the environment variable that holds the admin's key.",
    ),
]

INTERRUPTED: Final = 130

_BASE: Final = "/v1/admin/calibrations"
_CHUNK: Final = 1024 * 1024
_BLOCK: Final = tarfile.BLOCKSIZE

# A server says nothing while it spools and checks an upload of gigabytes.
_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
_UPLOAD_TIMEOUT: Final = httpx.Timeout(600.0, connect=10.0, read=None)

# Waits before a lost connection to a job's events is made again; the job does not notice.
_RECONNECT_WAITS: Final = (0.5, 2.0, 5.0, 15.0)

# Waits after a stream that ended early although its job goes on; the last one for ever.
_EARLY_END_WAITS: Final = (1.0, 2.0, 5.0, 10.0)

# What a proxy answers while the server behind it is restarted.
_AWAY: Final = frozenset({codes.BAD_GATEWAY, codes.SERVICE_UNAVAILABLE, codes.GATEWAY_TIMEOUT})


class RemoteError(TrustscaleError):
    """The server refused, failed, or cannot be reached."""


class _AwayError(RemoteError):
    """A proxy answers that the server is away; it may be back soon."""


class Remote:
    """The admin API of one server."""

    def __init__(self, server: str, key: str) -> None:
        self._client = httpx.Client(
            base_url=server, headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT
        )

    @classmethod
    def open(cls, server: str, key_env: str) -> Self:
        """A connection with the key of an environment variable.

        Raises:
            ConfigError: the variable is not set or holds no key, or the URL is none.
        """
        if not server.startswith(("http://", "https://")):
            raise typer.BadParameter("--server starts with http:// or https://.")
        key = os.environ.get(key_env, "").strip()
        if not key:
            raise ConfigError(
                f"The environment variable {key_env} is not set; it must hold an admin key of "
                f"{server}."
            )
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(
                f"The environment variable {key_env} holds no key: it has letters that a header "
                "cannot carry."
            )
        try:
            return cls(server.rstrip("/"), key)
        except httpx.InvalidURL as error:
            raise ConfigError(f"--server {server!r} is not a URL: {error}.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def rows(self) -> list[dict[str, Any]]:
        """All finished calibrations, the newest first."""
        rows = self._json("GET", _BASE)
        if not isinstance(rows, list):
            raise self._stranger()
        return rows

    def show(self, calibration: str, group: str | None = None) -> dict[str, Any]:
        """A calibration, or the job that makes it, as the server describes it."""
        params = {} if group is None else {"group": group}
        return self._document("GET", f"{_BASE}/{calibration}", member="id", params=params)

    def activate(self, calibration: str) -> dict[str, Any]:
        """Make it the active one; the answer names the one that is replaced."""
        return self._document("POST", f"{_BASE}/{calibration}/activate", member="previous")

    def export(self, calibration: str) -> bytes:
        """The one-file form."""
        return self._send("GET", f"{_BASE}/{calibration}/export").content

    def import_file(self, data: bytes, *, activate: bool) -> dict[str, Any]:
        """Store a calibration file."""
        path = f"{_BASE}/import"
        return self._document(
            "POST", path, member="id", content=data, params={"activate": activate}
        )

    def create(
        self,
        folder: Path,
        config: CalibrationConfig,
        on_sent: Callable[[int, int], None],
        *,
        named_by: tuple[str | None, str | None] = (None, None),
    ) -> str:
        """Upload a folder of pairs; the id of the job. `on_sent` is told (bytes sent, all bytes).

        Raises:
            BadPairs: the folder holds no pairs, or the server cannot use some.
        """
        # Without a name the server's own default is meant.
        document = config.model_dump_json(exclude=None if config.upscaler else {"upscaler"})
        pairs = find_pairs(folder, *named_by)
        fields = {"config": document}
        if groups := {pair.name: pair.group for pair in pairs if pair.group}:
            fields["groups"] = json.dumps(groups)
        if scenes := {pair.name: pair.scene for pair in pairs if pair.scene}:
            fields["scenes"] = json.dumps(scenes)
        upload = _Upload(_files(folder, pairs), fields)

        def body() -> Iterator[bytes]:
            sent = 0
            for chunk in upload:
                yield chunk
                sent += len(chunk)
                on_sent(sent, len(upload))

        job = self._document(
            "POST",
            _BASE,
            member="id",
            content=body(),
            headers=upload.headers,
            timeout=_UPLOAD_TIMEOUT,
        )
        return str(job["id"])

    def derive(self, calibration: str, asked: dict[str, Any]) -> dict[str, Any]:
        """The same pairs under another guarantee."""
        return self._document("POST", f"{_BASE}/{calibration}/derive", member="id", json=asked)

    def watch(self, job: str) -> Iterator[dict[str, Any]]:
        """The job now and after every change, up to its last state; lost connections are mended."""
        waits, pauses = iter(_RECONNECT_WAITS), iter(_EARLY_END_WAITS)
        last: dict[str, Any] | None = None
        while True:
            failure: RemoteError = self._stranger()  # if it ends without having said anything
            heard = False
            try:
                for present in self._events(job):
                    yield present
                    if present["state"] not in {"queued", "running"}:
                        return
                    heard, waits = True, iter(_RECONNECT_WAITS)
                    if present != last:
                        last, pauses = present, iter(_EARLY_END_WAITS)
            except httpx.TransportError as error:
                failure, heard = self._unreachable(error), False
            except _AwayError as error:
                failure = error
            wait = next(pauses, _EARLY_END_WAITS[-1]) if heard else next(waits, None)
            if wait is None:
                raise failure
            time.sleep(wait)

    def _events(self, job: str) -> Iterator[dict[str, Any]]:
        with self._client.stream("GET", f"/v1/jobs/{job}/events") as response:
            if response.is_error:
                response.read()
                refusal = _refused(response)
                if response.status_code in _AWAY:
                    raise _AwayError(refusal.detail)
                raise refusal
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def _document(self, method: str, path: str, *, member: str, **options: Any) -> dict[str, Any]:
        answer = self._json(method, path, **options)
        if not isinstance(answer, dict) or member not in answer:
            raise self._stranger()
        return answer

    def _json(self, method: str, path: str, **options: Any) -> Any:
        response = self._send(method, path, **options)
        try:
            return response.json()
        except ValueError:
            raise self._stranger() from None

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._client.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise _refused(response)
        return response

    def _stranger(self) -> RemoteError:
        return RemoteError(f"{self._client.base_url} does not answer as Trustscale.")

    def _unreachable(self, error: httpx.TransportError) -> RemoteError:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        return RemoteError(f"Cannot reach {self._client.base_url}: {reason}.")


def calibrate_remotely(
    remote: Remote,
    folder: Path,
    config: CalibrationConfig,
    *,
    server: str,
    named_by: tuple[str | None, str | None] = (None, None),
) -> dict[str, Any] | None:
    """Upload, watch the job to its end, and return the calibration; None if it awaits labels.

    Raises:
        RemoteError: the upload was refused, or the job failed or was cancelled. Pairs that cannot
            be used are named on standard error before.
    """
    with progress_bar(is_bytes=True) as progress:
        uploading = progress.add_task("uploading", total=None)
        try:
            job = remote.create(
                folder,
                config,
                lambda sent, total: progress.update(uploading, completed=sent, total=total),
                named_by=named_by,
            )
        except RemoteError as error:
            _name(error.members.get("items", []))
            raise
    typer.echo(f"{job} is queued on {server}", err=True)
    last = _watched(remote, job, server)
    state = last["state"]
    if state == "awaiting_labels":
        typer.echo(f"{job} awaits labels: {server}{_BASE}/{job}/pairs", err=True)
        return None
    if state != "succeeded":
        problem = last["error"] or {"detail": f"The job was {state}."}
        _name(problem.get("items", []))
        raise RemoteError(problem["detail"])
    return remote.show(str(last["result"]).rsplit("/", 1)[-1])


def _name(items: list[dict[str, Any]]) -> None:
    for item in items:
        typer.echo(f"{item['name']}: {item['reason']}", err=True)


def _watched(remote: Remote, job: str, server: str) -> dict[str, Any]:
    last: dict[str, Any] = {}
    try:
        with progress_bar() as progress:
            measuring = progress.add_task("measuring pairs", total=None)
            for last in remote.watch(job):
                done = last["progress"]
                progress.update(measuring, completed=done["done"], total=done["total"])
    except KeyboardInterrupt:
        typer.echo(
            f"The job goes on. Look: trustscale calibrations show {job} --server {server}", err=True
        )
        raise typer.Exit(INTERRUPTED) from None
    return last


def _refused(response: httpx.Response) -> RemoteError:
    """The problem document of an answer as an error."""
    try:
        problem = response.json()
        return RemoteError(str(problem["detail"]), items=problem.get("items", []))
    except (ValueError, KeyError, TypeError):
        return RemoteError(
            f"{response.url.host} answered {response.status_code} {response.reason_phrase}."
        )


class _File(NamedTuple):
    name: str  # in the archive
    path: Path


def _files(folder: Path, pairs: Sequence[PairFiles]) -> list[_File]:
    """The files of the pairs, and the digests of the predictions that labels were drawn on."""
    files = [
        _File(f"{role}/{pair.name}{path.suffix}", path)
        for pair in pairs
        for role, path in (("x", pair.x), ("y", pair.y), ("labels", pair.label))
        if path is not None
    ]
    predictions = folder / "labels" / PREDICTIONS
    return [*files, _File(f"labels/{PREDICTIONS}", predictions)] if predictions.is_file() else files


class _Upload:
    """A form with fields and one tar archive, made while it is sent: files stay on the disk."""

    def __init__(self, files: list[_File], fields: Mapping[str, str]) -> None:
        boundary = secrets.token_hex(16)
        self._members = [(self._header(file), file) for file in files]
        texts = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
            for name, text in fields.items()
        )
        self._head = (
            f'{texts}--{boundary}\r\nContent-Disposition: form-data; name="archive"; '
            'filename="pairs.tar"\r\nContent-Type: application/x-tar\r\n\r\n'
        ).encode()
        self._tail = bytes(2 * _BLOCK) + f"\r\n--{boundary}--\r\n".encode()
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(self)),
        }

    def __len__(self) -> int:
        inside = sum(len(info.tobuf()) + _padded(info.size) for info, _ in self._members)
        return len(self._head) + inside + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        for info, file in self._members:
            yield info.tobuf()
            yield from _content(file, info.size)
            yield bytes(_padded(info.size) - info.size)
        yield self._tail

    def _header(self, file: _File) -> tarfile.TarInfo:
        info = tarfile.TarInfo(file.name)
        info.size = file.path.stat().st_size
        return info


def _content(file: _File, size: int) -> Iterator[bytes]:
    left = size
    with file.path.open("rb") as source:
        while left and (chunk := source.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk
    if left:
        raise BadRequest(f"{file.path} became shorter while it was sent.")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
