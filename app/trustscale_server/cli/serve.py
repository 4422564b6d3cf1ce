"""`trustscale serve`, and `openapi`, which prints what is served."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from contextlib import ExitStack
from typing import Annotated

import typer

from trustscale_server.bootstrap.checks import check_start
from trustscale_server.bootstrap.settings import Settings, load_settings
from trustscale_server.cli.main import STARTED_AT
from trustscale_server.http.app import create_app
from trustscale_server.http.middleware import is_local
from trustscale_server.http.server import (
    KEEP_ALIVE_S,
    GatewayServer,
    raise_descriptors,
    server_config,
)
from trustscale_server.platform.errors import ConfigError
from trustscale_server.platform.telemetry.logs import configure_logs


def _bound(host: str, port: int, opened: ExitStack) -> list[socket.socket]:
    """Take the port before anything is opened; nobody can connect before the service is ready.

    `::` is every address of both versions of IP, with a socket each: else the addresses of IPv4
    clients would not look like those in networks and limits. Raises ConfigError.
    """
    sockets: list[socket.socket] = []
    try:
        addresses = [
            (family, address)
            for name in (("0.0.0.0", "::") if host == "::" else (host,))  # noqa: S104 - asked for
            for family, _, _, _, address in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        ]
        for family, address in dict.fromkeys(addresses):
            try:
                listener = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind((address[0], port, *address[2:]))
            except OSError as error:
                # A system without IPv6, or with none on this interface.
                if sockets and error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                    continue
                raise
            port = listener.getsockname()[1]  # the same for all, where 0 was asked for
            sockets.append(listener)
    except OSError as error:
        raise ConfigError(f"Cannot listen on {host}:{port}: {error.strerror}.") from None
    return sockets


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; `::` is all, of IPv4 and of IPv6.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, envvar="PORT", help="Port; 0 takes a free one. `PORT` sets it, too."
        ),
    ] = 8000,
) -> None:
    """Serve the HTTP API."""
    settings = load_settings()
    with ExitStack() as opened:
        sockets = _bound(host, port, opened)
        configure_logs(settings.log_level)
        asyncio.run(check_start(settings))
        is_behind_proxy = bool(os.environ.get("FORWARDED_ALLOW_IPS"))
        config = server_config(
            create_app(settings, is_local=is_local(host) and not is_behind_proxy),
            # Otherwise local clients could claim other addresses, with fresh limits.
            proxy_headers=is_behind_proxy,
            timeout_keep_alive=KEEP_ALIVE_S,
            # Requests in progress may finish (streams of events end); a second signal ends them.
            timeout_graceful_shutdown=int(settings.request_timeout_s),
        )
        raise_descriptors()
        server = GatewayServer(config, STARTED_AT)
        asyncio.run(server.serve(sockets))
    if not server.started:
        raise typer.Exit(1)


def openapi() -> None:
    """Print the OpenAPI document of the HTTP API, as /openapi.json serves it."""
    typer.echo(json.dumps(create_app(Settings()).openapi(), indent=1, ensure_ascii=False))
