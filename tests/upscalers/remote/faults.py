"""A server on loopback that answers as badly as it is told."""

from __future__ import annotations

import asyncio
import json as jsonlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return jsonlib.loads(self.body)


Behaviour = Callable[[Asked, asyncio.StreamWriter], Awaitable[bool]]
"""Writes an answer; whether the connection stays open."""


def head(status, length, headers=None):
    lines = [f"HTTP/1.1 {status} X", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(status=200, body=b"", headers=None, json=None, close=False) -> Behaviour:
    """An ordinary answer; `close` closes the connection after it without saying so."""
    content = jsonlib.dumps(json).encode() if json is not None else body

    async def behave(asked, writer):
        writer.write(head(status, len(content), headers) + content)
        return not close

    return behave


def slow(seconds, then=None) -> Behaviour:
    """Nothing for a while."""

    async def behave(asked, writer):
        await asyncio.sleep(seconds)
        return await (then or answer())(asked, writer)

    return behave


async def reset(asked, writer):
    """The connection is reset without an answer."""
    writer.transport.abort()
    return False


async def truncated(asked, writer):
    """Half of the promised body, then the end."""
    writer.write(head(200, 1000) + b"x" * 500)
    return False


async def endless(asked, writer):
    """A chunked body without end."""
    writer.write(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(10_000):
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()
    return False


@dataclass
class FaultServer:
    """Answers with one behaviour after the other; the last one stays."""

    behaviours: list[Behaviour] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    aborted: int = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._tasks = set()
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            while (asked := await self._read(reader)) is not None:
                self.asked.append(asked)
                behave = self.behaviours[0]
                if len(self.behaviours) > 1:
                    self.behaviours.pop(0)
                if not await behave(asked, writer):
                    break
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            self.aborted += 1
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _read(self, reader):
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = raw.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {}
        for line in filter(None, lines):
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Asked(method, path, headers, body)
