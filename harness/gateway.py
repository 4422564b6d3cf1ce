"""A gateway in this process with its own folder and upscalers that need no model."""

from __future__ import annotations

import asyncio
import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import httpx
import numpy as np
from PIL import Image
from starlette.types import ASGIApp

from harness.factories import encoded, upload
from harness.fakes import FakeUpscaler
from harness.waiting import PATIENCE_S
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.calibration.active import Calibrations
from trustscale_server.http.app import TIMINGS, create_app
from trustscale_server.http.state import State
from trustscale_server.platform.problems import PROBLEMS
from trustscale_server.stores.opened import open_stores

Value = TypeVar("Value")

ADMIN_KEY = "admin-key"
AS_ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}

# A machine that sleeps makes nothing unready.
PATIENT = TIMINGS._replace(answer_s=PATIENCE_S, probe_s=0)

# As large, once doubled, as the calibration images.
IMAGE = encoded(upload(1000))


def gateway(data_dir, *upscalers, calibrations=(), timings=PATIENT, is_local=False, **settings):
    """The application, with these calibrations active; nothing runs before its lifespan."""
    by_name = {upscaler.name: upscaler for upscaler in upscalers or (FakeUpscaler(),)}
    effective = Settings(
        data_dir=data_dir,
        **{
            "upscalers": [{"name": name, "kind": "embedded"} for name in by_name],
            "admin_keys": [ADMIN_KEY],
            **settings,
        },
    )
    aside(_install(effective, calibrations))
    return create_app(
        effective, build=lambda config, _: by_name[config.name], timings=timings, is_local=is_local
    )


def aside(work):
    """The outcome of a coroutine, run in its own event loop, also inside another one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _install(settings, calibrations):
    stores = open_stores(settings.store, settings.data_dir, result_ttl_s=1, max_result_bytes=10**9)
    for calibration in calibrations:
        await Calibrations(stores.calibrations).add(calibration, activate=True)
    await stores.close()


class Served(NamedTuple):
    """An application inside its lifespan, in this event loop, with a client of it."""

    app: ASGIApp
    state: State
    client: httpx.AsyncClient

    async def post(self, image=IMAGE, *, headers=None, **fields):
        return await self.client.post(
            "/v1/upscale?detail=full", **form(image, **fields), headers=dict(headers or {})
        )

    def hanging(self, method="POST", path="/v1/upscale?detail=full", **options):
        """A request whose client will hang up; an upload unless it says something else."""
        sent = form() if method == "POST" else {}
        return Hanging(self.app, method, path, **(sent | options))

    async def events(self, job):
        """The whole stream of a job at this path."""
        return (await self.client.get(f"{job}/events")).text


@asynccontextmanager
async def running(app):
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope, receive, send):
            await app({**scope, "state": dict(state)}, receive, send)

        async with client_of(with_state) as client:
            yield Served(with_state, state["trustscale"], client)


class Hanging:
    """A request whose client hangs up when the test says so."""

    def __init__(self, served, *request, **options):
        self._served = served
        self._hung_up = asyncio.Event()
        self.answered = asyncio.create_task(self._ask(*request, **options))

    async def _ask(self, *request, **options):
        async with client_of(self._left) as client:
            return (await client.request(*request, **options)).status_code

    async def _left(self, scope, receive, send):
        is_read = False

        async def hear():
            nonlocal is_read
            if is_read:
                await self._hung_up.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            is_read = not message["more_body"]
            return message

        await self._served(scope, hear, send)

    def leave(self):
        self._hung_up.set()

    async def hang_up(self):
        """What would have come, when the application has ended without an error to log."""
        self._hung_up.set()
        return await asyncio.wait_for(self.answered, PATIENCE_S)


def client_of(app, address=("127.0.0.1", 123)):
    transport = httpx.ASGITransport(app=app, client=address)
    return httpx.AsyncClient(transport=transport, base_url="http://testserver")


async def shown(client, *lines):
    """Return when /metrics has all of these lines."""
    async with asyncio.timeout(60):
        while True:
            if {*lines} <= {*(await client.get("/metrics")).text.splitlines()}:
                return
            await asyncio.sleep(0.01)


def form(image=IMAGE, **fields):
    return {
        "files": {"image": ("photo.png", image, "image/png")},
        "data": {name: str(value) for name, value in fields.items()},
    }


def post(client, image=IMAGE, *, headers=None, **fields):
    return client.post(
        "/v1/upscale?detail=full", **form(image, **fields), headers=dict(headers or {})
    )


def ended(client, job):
    """The job at this path, after its end or where it waits for labels."""
    with client.stream("GET", f"{job}/events") as events:
        lines = [line for line in events.iter_lines() if line.startswith("data:")]
    last: dict[str, Any] = json.loads(lines[-1].removeprefix("data:"))
    return last


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def text_chunks(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return dict(image.text)


def check_problem(response, slug, status=None):
    """The problem document of an answer, after checking what all of them promise.

    status: where it is not the usual one of the type.
    """
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"/problems/{slug}", problem
    assert problem["title"] == PROBLEMS[slug].title
    assert problem["status"] == response.status_code == (status or PROBLEMS[slug].status)
    assert problem["detail"].endswith((".", "?"))
    assert "\n" not in problem["detail"]
    return problem
