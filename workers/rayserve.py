"""The worker as a Ray Serve application; `worker export --ray` names this module."""

import importlib
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp

from workers.models.engine import EngineSpec
from workers.models.registry import load_engine
from workers.service import create_app


def application(settings: Mapping[str, str]) -> Any:
    """What Ray Serve deploys; `settings` as of `EngineSpec.of`."""
    serve: Any = importlib.import_module("ray.serve")
    chosen = dict(settings)

    def replica() -> ASGIApp:
        return create_app(load_engine(EngineSpec.of(chosen)))

    return serve.deployment(serve.ingress(replica)(), name="worker").bind()
