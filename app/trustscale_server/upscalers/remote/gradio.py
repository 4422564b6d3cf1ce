"""Gradio apps, such as Hugging Face Spaces: upload, call, event stream, fetch.

Only `event: complete` is success; errors come inside HTTP 200, often without text. A result's
address is built from its path, since its URL may name a proxy's host. Sources: the guide "Querying
Gradio apps with curl", routes.py of Gradio 6.
"""

from __future__ import annotations

import json
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field

from trustscale_server.platform.errors import ProtocolError
from trustscale_server.upscalers.base import RGB, Source
from trustscale_server.upscalers.bounded_json import TooManyValues, parse
from trustscale_server.upscalers.config import OneAddress
from trustscale_server.upscalers.failures import (
    GenerationFailed,
    Misconfigured,
    NoImage,
    OutOfBounds,
    QuotaSpent,
)
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.pointers import Pointer, first
from trustscale_server.upscalers.remote.adapter import Adapter
from trustscale_server.upscalers.remote.placeholders import fill
from trustscale_server.upscalers.remote.upstream import Upstream

_FILE = {"_type": "gradio.FileData"}


class GradioConfig(OneAddress):
    """A Gradio app, such as a Hugging Face Space."""

    kind: Literal["gradio"] = "gradio"
    api_name: str = Field(
        description="The endpoint of the app, such as `upscale`.", pattern=r"^/?[\w-]+$"
    )
    inputs: tuple[Any, ...] = Field(
        ("{image}", "{seed}"),
        description='The arguments in order. "{image}" and "{seed}" are filled in.',
    )
    output_pointer: Pointer = Field(
        "/0", description="The JSON pointer to the image in the answer."
    )


class GradioUpscaler(Adapter[GradioConfig]):
    """An upscaler behind one endpoint of a Gradio app."""

    def __init__(self, config: GradioConfig, upstream: Upstream) -> None:
        super().__init__(config, upstream)
        self._prefix = ""
        self._call = f"/call/{config.api_name.lstrip('/')}"

    def _takes_seeds(self) -> bool:
        return "{seed}" in json.dumps(self._config.inputs)

    async def _identify(self) -> dict[str, Any]:
        reply = await self._upstream.call("GET", "/config")
        config = reply.json()
        # Gradio 4 and older have no prefix.
        self._prefix = str(first(config, "/api_prefix") or "").rstrip("/")
        info = await self._upstream.call("GET", f"{self._prefix}/info")
        endpoint = f"/{self._config.api_name.lstrip('/')}"
        described = first(info.json(), "/named_endpoints")
        endpoints = described if isinstance(described, dict) else {}
        if endpoint not in endpoints:
            names = ", ".join(sorted(endpoints)) or "none"
            raise Misconfigured(f"{self.name!r} has no endpoint {endpoint}; it has: {names}.")
        return {"version": first(config, "/version")}

    async def _sample(self, source: Source, seed: int, permit: MemoryPermit) -> RGB:
        if self._identified is None:
            await self.probe()
        path = await self._uploaded(source, f"{self._prefix}/upload", "files", "/0")
        values = {"image": {"path": path, "meta": _FILE}, "seed": seed}
        body = {"data": fill(list(self._config.inputs), values)}
        reply = await self._upstream.call("POST", self._prefix + self._call, json=body)
        event = self._place(first(reply.json(), "/event_id"))
        answer = await self._result(
            f"{self._prefix}{self._call}/{quote(event, safe='', errors='replace')}", permit
        )
        image = first(answer, self._config.output_pointer)
        path, url = first(image, "/path"), first(image, "/url")
        if isinstance(path, str) and not path.startswith(("http://", "https://")):
            fetched = await self._upstream.call(
                "GET", f"{self._prefix}/file={quote(path, errors='replace')}", permit=permit
            )
            return await self._reader.read(fetched.body, source, permit)
        place = url or path or image
        if not isinstance(place, str):
            document = [] if answer is None else answer  # the event itself is JSON
            raise NoImage(
                self.name, self._config.output_pointer, document, setting="output_pointer"
            )
        return await self._reader.read_text(place, source, permit)

    async def _result(self, path: str, permit: MemoryPermit) -> Any:
        async for event, data in self._upstream.events(path, permit):
            if event == "complete":
                try:
                    return await self._reader.in_thread(parse, data)
                except TooManyValues as error:
                    raise OutOfBounds(f"{self.name!r} sent a result of {error}.") from error
                except ValueError as error:
                    raise ProtocolError(f"{self.name!r} sent a result that is no JSON.") from error
            if event == "error":
                raise self._failed(data)
        raise ProtocolError(f"{self.name!r} ended its events without a result.")

    def _failed(self, data: str) -> Exception:
        try:
            message = first(parse(data), "/error")
        except ValueError:
            message = data
        if not message:
            return GenerationFailed(f"{self.name!r} failed without saying why.")
        text = self._upstream.redact(str(message))[:300]
        if "quota" in text.lower():
            return QuotaSpent(f"{self.name!r} has no GPU quota left: {text}")
        return GenerationFailed(f"{self.name!r} failed: {text}")
