"""Inputs and honest samples for fakes, and short ways to build upscalers."""

import base64
import io

import httpx
import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.outbound.guard import NetworkAccess, system_resolver
from trustscale_server.upscalers.pattern import pattern
from trustscale_server.upscalers.registry import UpscalerConfig, build_bare, build_upscaler

ADAPTER = TypeAdapter(UpscalerConfig)
TOKEN = "secret-token-123"


def source(side=48):
    return Source(np.ascontiguousarray(pattern()[:side, :side]))


def sample(rgb, seed=0, scale=2):
    """What the test servers compute: bicubic plus noise."""
    height, width = rgb.shape[:2]
    large = Image.fromarray(rgb).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).normal(0, 4, (height * scale, width * scale, 3))
    return np.clip(np.asarray(large) + noise, 0, 255).astype(np.uint8)


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def uri(data, kind="png"):
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


def from_uri(text):
    return base64.b64decode(text.partition(",")[2] or text)


def config(**settings):
    return ADAPTER.validate_python({"name": "up", **settings})


ENVIRON = dict.fromkeys(
    ["TOKEN", "REPLICATE_API_TOKEN", "STABILITY_API_KEY", "HF_TOKEN", "FAL_KEY", "OPENAI_API_KEY"],
    TOKEN,
)


def adapter(handler=None, **settings):
    return build_bare(config(**settings), ENVIRON, network=patient(handler))


def patiently(settings, environ):
    """Build an upscaler as the service does, for servers on this machine."""
    return build_upscaler(settings, environ, network=patient())


def resilient(handler=None, **settings):
    return build_upscaler(config(**settings), ENVIRON, network=patient(handler))


def patient(handler=None, resolve=system_resolver):
    """A network with time for servers on this machine, which may be slow."""
    if handler is not None and not isinstance(handler, httpx.AsyncBaseTransport):
        handler = httpx.MockTransport(handler)
    return NetworkAccess(handler, resolve, connect_s=60, pool_s=60, write_s=60, cancel_timeout_s=60)


def resolving(*addresses):
    """A resolver that knows these of every host, or no host."""

    async def resolve(host, port):
        if not addresses:
            raise OSError("no such host")
        return addresses

    return resolve
