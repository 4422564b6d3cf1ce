"""Other servers of the Open Inference Protocol: Triton, KServe, MLServer, OpenVINO.

Tensor names, axes and types are settings, because several servers describe their models with empty
lists. The protocol has no seeds; a model that takes them has an input tensor for them.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trustscale_server.platform.errors import ProtocolError, UpscalerUnavailable
from trustscale_server.upscalers.base import RGB, Source
from trustscale_server.upscalers.config import OneAddress
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.pointers import find_all, first
from trustscale_server.upscalers.remote.adapter import Adapter
from trustscale_server.upscalers.remote.inference import encode_request, output_of, understood
from trustscale_server.upscalers.remote.replies import explanation
from trustscale_server.upscalers.remote.upstream import Upstream
from trustscale_server.upscalers.tensors import Tensor


class OipConfig(OneAddress):
    """A foreign Open Inference Protocol server: Triton, KServe, MLServer, OpenVINO."""

    HOW_TO_CALL = OneAddress.HOW_TO_CALL | {"tensor_format"}

    kind: Literal["oip"] = "oip"
    model: str = Field(description="The name of the model on the server.")
    version: str | None = Field(
        None, description="The version of the model. Without one the server chooses."
    )
    tensor_format: Literal["auto", "binary", "json"] = Field(
        "auto",
        description="How tensors are sent: `binary` or `json`. `auto` takes binary if the server "
        "announces it.",
    )
    image_input: str = Field("image", description="The name of the input tensor.")
    image_layout: Literal["HWC", "NHWC", "CHW", "NCHW", "PNG"] = Field(
        "HWC", description="The axes of the image tensor. `PNG` sends an encoded file as BYTES."
    )
    image_datatype: Literal["UINT8", "FP32"] = Field(
        "UINT8", description="The data type of the image tensor. FP32 values lie in 0..1."
    )
    seed_input: str | None = Field(
        None, description="The name of the INT64 tensor of seeds, if the model takes seeds."
    )
    seed_shape: tuple[int, ...] = Field(
        (1,), description="The shape of the seed tensor, which holds one seed; -1 is a free side."
    )
    output: str = Field("samples", description="The name of the output tensor.")
    output_layout: Literal["HWC", "NHWC", "CHW", "NCHW", "PNG"] = Field(
        "NHWC", description="The axes of the output tensor. `PNG` expects encoded files as BYTES."
    )


class OipUpscaler(Adapter[OipConfig]):
    """An upscaler behind the Open Inference Protocol.

    `binary`: whether tensors are sent raw; with the format "auto" `probe` finds out.
    """

    def __init__(self, config: OipConfig, upstream: Upstream) -> None:
        super().__init__(config, upstream)
        self._path = f"/v2/models/{quote(config.model, safe='')}"
        if config.version is not None:
            self._path += f"/versions/{quote(config.version, safe='')}"
        self.binary = config.tensor_format == "binary"

    # Three numbers as JSON writes them.
    _bytes_per_pixel = 78

    def _takes_seeds(self) -> bool:
        return self._config.seed_input is not None

    async def _identify(self) -> dict[str, Any]:
        # Metadata first: of an unknown model Triton only says "not ready".
        metadata = await self._upstream.call("GET", self._path)
        ready = await self._upstream.request("GET", f"{self._path}/ready")
        if not ready.ok:
            raise UpscalerUnavailable(
                f"The model of {self.name!r} is not ready: {explanation(ready) or ready.status}"
            )
        if self._config.tensor_format == "auto":
            server = await self._upstream.request("GET", "/v2")
            extensions = find_all(server.json(), "/extensions/*") if server.ok else []
            self.binary = "binary_tensor_data" in extensions
        document = metadata.json()
        return {key: first(document, f"/{key}") for key in ("name", "versions", "platform")}

    async def _sample(self, source: Source, seed: int, permit: MemoryPermit) -> RGB:
        if self._identified is None:
            await self.probe()
        config = self._config
        inputs = {config.image_input: _image(config, source)}
        if config.seed_input is not None:
            inputs[config.seed_input] = np.array([seed], np.int64).reshape(config.seed_shape)
        chunks, headers = await asyncio.to_thread(
            encode_request, config.output, inputs, binary=self.binary
        )
        reply = await self._upstream.call(
            "POST", f"{self._path}/infer", content=chunks, headers=headers, permit=permit
        )
        await permit.take()
        numbers = 4 * self._reader.max_pixels(source)  # three a pixel, and perhaps brackets around
        answer, _ = await self._reader.in_thread(output_of, reply, config.output, numbers)
        if answer.datatype == "BYTES":
            return await self._reader.read(understood(answer.file), source, permit)
        sample = await self._reader.in_thread(_to_rgb, answer, config.output_layout)
        return await self._reader.examine(sample, source)


def _image(config: OipConfig, source: Source) -> NDArray[Any] | bytes:
    if config.image_layout == "PNG":
        return source.png
    array: NDArray[Any] = source.rgb
    if config.image_datatype == "FP32":
        array = array.astype(np.float32) / np.float32(255)
    if config.image_layout.endswith("CHW"):
        array = np.ascontiguousarray(array.transpose(2, 0, 1))
    if config.image_layout.startswith("N"):
        array = array[None]
    return array


def _to_rgb(tensor: Tensor, layout: str) -> RGB:
    """A sample, uint8 [h, w, 3], from a tensor of uint8 or of floating-point values 0..1.

    Raises:
        ProtocolError: another type or rank; a batch axis of 1 is optional.
    """
    array = understood(tensor.numbers)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3:
        raise ProtocolError(f"The upscaler sent a tensor of shape {list(array.shape)}, no sample.")
    if layout.endswith("CHW"):
        array = array.transpose(1, 2, 0)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ProtocolError("The upscaler sent values that are not finite.")
        array = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise ProtocolError(f"The upscaler sent samples of type {array.dtype}, not UINT8.")
    return np.ascontiguousarray(array)
