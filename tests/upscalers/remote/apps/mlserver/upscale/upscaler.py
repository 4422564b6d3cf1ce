"""An MLServer model: JSON tensors only."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from model import upscale


class Upscaler(MLModel):
    async def predict(self, payload):
        tensors = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        seed = int(tensors["seed"].ravel()[0])
        if seed == 13:
            raise RuntimeError("boom")
        sample = upscale(tensors["image"].astype(np.uint8), seed)
        output = NumpyCodec.encode_output("samples", sample)
        output.datatype = "UINT8"
        return InferenceResponse(model_name=self.name, outputs=[output])
