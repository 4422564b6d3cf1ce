"""`--server URL`: the client library, with errors of one line.

The key comes from an environment variable only: on the command line every user of the machine
could read it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import typer

from app.calibration.intake import find_in, folder_files
from app.calibration.naming import Naming
from app.cli.local import interruptible, progress_bars
from app.errors import ConfigError, TrustscaleError, reason_of
from trustscale import Job, Problem, Tar, Trustscale

AWAY: Final = "away"
"""Of a RemoteError, where others have the type of the problem: no server answers."""

# While a job is watched, or a folder upscaled, the server may be restarted: some 50 s. Other calls
# are told at once.
PATIENT: Final = 8


class RemoteError(TrustscaleError):
    """The server refused, failed, or cannot be reached; `members["type"]` says how."""


@contextmanager
def remote(server: str, key_env: str, *, retries: int = 0) -> Iterator[Trustscale]:
    """A service, with the key of an environment variable.

    Raises:
        ConfigError: the variable is not set or holds no key, or the URL is none.
        RemoteError: what the service refuses.
    """
    with refusals(server), Trustscale(*connection(server, key_env), retries=retries) as service:
        yield service


def connection(server: str, key_env: str, *, needs_key: bool = True) -> tuple[str, str | None]:
    """The URL of a server, and the key of an environment variable.

    Raises:
        ConfigError: as `remote`.
    """
    if not server.startswith(("http://", "https://")):
        raise ConfigError("--server starts with http:// or https://.")
    try:
        httpx.URL(server)
    except httpx.InvalidURL as error:
        raise ConfigError(f"--server {server!r} is not a URL: {error}.") from None
    key = os.environ.get(key_env, "").strip()
    if needs_key and not key:
        raise ConfigError(
            f"The environment variable {key_env} is not set; it must hold an admin key of {server}."
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"The environment variable {key_env} holds no key: it has letters that a header "
            "cannot carry."
        )
    return server, key or None


@contextmanager
def refusals(server: str) -> Iterator[None]:
    """What a service refuses as RemoteError; pairs that it names are told on standard error."""
    try:
        yield
    except Problem as problem:
        for item in problem.members.get("items") or []:
            typer.echo(f"{item['name']}: {item['reason']}", err=True)
        raise RemoteError(problem.detail, type=problem.type) from None
    except httpx.RequestError as error:
        raise RemoteError(f"Cannot reach {server}: {_reason(error)}.", type=AWAY) from error


def _reason(error: Exception) -> str:
    """What the system says of a connection that failed: asyncio hides it behind a common word."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):  # one for each address of a name
            cause = cause.exceptions[0]
        if isinstance(cause, OSError) and cause.errno is not None:
            return reason_of(cause)
        cause = cause.__cause__ or cause.__context__
    return reason_of(error)


def made_remotely(
    folder: Path,
    begin: Callable[..., Job],
    server: str,
    key_env: str,
    naming: Naming,
) -> dict[str, Any] | None:
    """What a job makes of the pairs of a folder, which `begin` sends; None if it awaits labels.

    Raises:
        RemoteError: the upload was refused, or the job failed or was cancelled.
        BadPairs: the folder holds no pairs.
    """
    used = {path for pair in find_in(folder, naming) for path in pair.by_role.values()}
    members = {
        file.path: path
        for file in folder_files(folder)
        if str(path := folder / file.path) in used or file.is_table or file.is_predictions
    }
    with remote(server, key_env) as service, progress_bars(is_bytes=True) as bars:
        tar = Tar(members, functools.partial(bars, "uploading"))
        job = begin(service, tar, group_by=naming.group_by, scene_by=naming.scene_by)
    typer.echo(f"{job.id} is queued on {server}", err=True)
    look = f"trustscale calibrations show {job.id} --server {server}"
    with (
        interruptible(f"The job goes on. Look: {look}"),
        remote(server, key_env, retries=PATIENT) as service,
    ):
        job = service.job(job.id)
        with progress_bars() as bars:
            measuring = functools.partial(bars, "measuring pairs")
            measuring(0, None)  # it may wait for its turn
            job.watch(measuring)
        if job.state == "awaiting_labels":
            typer.echo(
                f"{job.id} awaits labels: {server}/v1/admin/calibrations/{job.id}/pairs", err=True
            )
            return None
        made: dict[str, Any] = job.wait()
        return made
