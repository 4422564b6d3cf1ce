"""`trustscale stores copy`: from one machine with SQLite to several with Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated

import typer

from trustscale_server.bootstrap.settings import Settings, load_settings
from trustscale_server.bootstrap.sources import filled
from trustscale_server.cli import options
from trustscale_server.cli.output import output
from trustscale_server.platform.errors import ConfigError
from trustscale_server.stores.blobs import open_blobs
from trustscale_server.stores.copying import Copied, copy_stores
from trustscale_server.stores.files import held
from trustscale_server.stores.opened import sqlite_path
from trustscale_server.stores.redis import check_url, redis_client
from trustscale_server.stores.sqlite import SqliteDocuments

app = typer.Typer(help="The database and the files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `copy` a sub-command although it is the only one."""


@app.command()
def copy(
    target: Annotated[
        str, typer.Argument(metavar="REDIS", help="URL; `${NAME}` is that variable's value.")
    ],
    blobs: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where the files go; by default they stay where they are."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Copy the SQLite store of this configuration to an empty Redis, while the service is stopped.

    Copies calibrations, jobs (waiting ones, too), results and canaries.
    After an interruption the same command continues.
    """
    settings = load_settings()
    if not settings.store.startswith("sqlite:"):
        raise ConfigError(
            "Only an SQLite store can be copied, and the setting `store` names another one."
        )
    url = filled(target)
    if not url.startswith(("redis://", "rediss://")):
        raise ConfigError("The target must be redis://… or rediss://….")
    check_url(url, "target")
    done = asyncio.run(_copied(settings, url, blobs))
    output(done._asdict(), _text, as_json=as_json)


def _text(done: dict[str, int]) -> str:
    return (
        f"{done['documents']} documents ({done['written']} written now) and {done['files']} files "
        f"({done['sent']} sent now) are in Redis. Set TRUSTSCALE_STORE and TRUSTSCALE_QUEUE to its "
        "URL, TRUSTSCALE_BLOBS to where the files are, and TRUSTSCALE_ADMIN_KEYS to the key in "
        "admin.key; then start gateways, and `trustscale jobs`."
    )


async def _copied(settings: Settings, url: str, blobs_url: str | None) -> Copied:
    path = sqlite_path(settings.store, settings.data_dir)
    if not path.exists():
        raise ConfigError(f"There is no database {path}.")
    running = f"A gateway runs on {settings.data_dir}: stop it first."
    async with AsyncExitStack() as stack:
        stack.enter_context(held(settings.data_dir / "gateway.lock", running))
        source = SqliteDocuments(path)
        stack.push_async_callback(source.close)
        source_blobs = target_blobs = open_blobs(settings.blobs, settings.data_dir)
        if blobs_url is not None:
            target_blobs = open_blobs(blobs_url, settings.data_dir)
        client = redis_client(url)
        stack.push_async_callback(client.aclose)
        return await copy_stores(source, source_blobs, client, target_blobs)
