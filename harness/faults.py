"""A server on loopback that answers as badly as it is told."""

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


Behaviour = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]
"""Writes an answer, and closes the connection if that is what the test is about."""


def head(status, length, headers=None):
    lines = [f"HTTP/1.1 {status} X", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(status=200, body=b"", headers=None, json=None):
    content = jsonlib.dumps(json).encode() if json is not None else body

    async def behave(asked, writer):
        writer.write(head(status, len(content), headers) + content)

    return behave


async def silent(asked, writer):
    await asyncio.Event().wait()


async def reset(asked, writer):
    writer.transport.abort()


async def truncated(asked, writer):
    writer.write(head(200, 1000) + b"x" * 500)
    writer.close()


async def slow(asked, writer):
    """A body that comes byte by byte, often enough for whoever counts the pauses only."""
    writer.write(head(200, 10**6))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def endless(asked, writer):
    writer.write(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


@dataclass
class FaultServer:
    """Answers with one behaviour after the other; the last one stays."""

    behaviours: list[Behaviour]
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    async def __aenter__(self):
        self._tasks = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        try:
            while not writer.is_closing():
                self.asked.append(await self._read(reader))
                last = len(self.behaviours) == 1
                behave = self.behaviours[0] if last else self.behaviours.pop(0)
                await behave(self.asked[-1], writer)
                await writer.drain()
        except (EOFError, ConnectionError, asyncio.CancelledError):
            pass  # the client or the test has gone
        finally:
            writer.close()

    async def _read(self, reader):
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        pairs = (line.partition(": ") for line in filter(None, lines))
        headers = {name.lower(): value for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Asked(method, path, headers, body)
