"""The HTTP API: its routes inside its middleware, over whatever opens its state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Any, Final, TypedDict

from fastapi import APIRouter, FastAPI
from starlette.formparsers import MultiPartParser
from starlette.types import ASGIApp

from trustscale_server import __version__
from trustscale_server.http import problems
from trustscale_server.http.middleware import OwnSite, RequestContext
from trustscale_server.http.openapi import ABOUT, add_docs_page, for_client_generators, operation_id
from trustscale_server.http.reading import BoundedFields
from trustscale_server.http.state import State
from trustscale_server.platform.errors import ConfigError
from trustscale_server.platform.telemetry.metrics import Metrics

_MAX_FIELDS = 32

# Bytes of a form's file in memory before it goes to the disk; there may be hundreds of files.
MultiPartParser.spool_max_size = 128 * 1024


class LifespanState(TypedDict):
    """The state of every request."""

    trustscale: State


OpenState = Callable[[AsyncExitStack, Metrics], Awaitable[State]]
"""Opens what an application needs; the stack closes it."""


ROUTES: Final = (
    "health", "upscalers", "upscale", "uploads", "batches", "cards", "results", "truth", "shared",
    "verify", "check", "jobs", "calibrate", "choices", "calibrations", "pairs", "connect",
)  # fmt: skip
"""The modules of `http.routes` with a router, imported on demand."""


def application(
    open_state: OpenState,
    *,
    max_upload_bytes: int,
    routes: Sequence[str] = ROUTES,
    is_local: bool = False,
    is_open: bool = True,
    path_prefix: str = "",
) -> FastAPI:
    """Make the HTTP API, or these routes of it, over what `open_state` opens.

    is_open: whether its document says that clients need no key. path_prefix: below which a proxy
    offers it; paths are understood with it and without.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[LifespanState]:
        async with AsyncExitStack() as stack:
            yield {"trustscale": await open_state(stack, metrics)}

    app = _Gateway(
        metrics,
        is_local=is_local,
        is_open=is_open,
        path_prefix=path_prefix,
        title="Trustscale",
        version=__version__,
        summary="Upscale an image, and say where its colours are right, on average by a theorem.",
        description=ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would name the request's `Host`
        generate_unique_id_function=operation_id,
        # With multipart boundaries and small fields of a form, on top of the image itself.
        max_body_size=max_upload_bytes + 64 * 1024,
        form_limits={"max_part_size": 4096, "max_fields": _MAX_FIELDS, "max_files": 1},
    )
    problems.add_problem_handlers(app)
    add_docs_page(app)
    for name in routes:
        router = import_module(f"trustscale_server.http.routes.{name}").router
        include(app, router, path_prefix)
    return app


class _Gateway(FastAPI):
    """FastAPI inside our request context, which its own 413 and 500 answers get too."""

    def __init__(
        self, metrics: Metrics, *, is_local: bool, is_open: bool, path_prefix: str, **options: Any
    ) -> None:
        super().__init__(**options)
        self._metrics, self._path_prefix = metrics, path_prefix
        self._is_local, self._is_open = is_local, is_open

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            self.openapi_schema = for_client_generators(document, is_open=self._is_open)
        return self.openapi_schema

    def build_middleware_stack(self) -> ASGIApp:
        bounded = BoundedFields(super().build_middleware_stack(), _MAX_FIELDS)
        guarded = OwnSite(bounded, is_local=self._is_local)
        return RequestContext(guarded, self._metrics, self._path_prefix)


def include(app: FastAPI, router: APIRouter, prefix: str) -> None:
    """Add a router.

    Raises:
        ConfigError: a path begins with the prefix, so nobody could tell whether a proxy strips it.
    """
    paths = [f"{getattr(route, 'path', '')}/" for route in (*app.routes, *router.routes)]
    if prefix and any(path.startswith(f"{prefix}/") for path in paths):
        raise ConfigError(f"path_prefix {prefix} is a path of the service: choose another one.")
    app.include_router(router)
