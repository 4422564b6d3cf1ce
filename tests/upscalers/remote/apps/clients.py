"""What the vendors' own clients make of the fakes: one line of JSON per client."""

import json
import sys
from pathlib import Path

import openai
import replicate
from huggingface_hub import InferenceClient

base, token, png = sys.argv[1], sys.argv[2], Path(sys.argv[3])
answers = {}

client = replicate.Client(api_token=token, base_url=base)
with png.open("rb") as image:
    prediction = client.models.predictions.create(("o", "m"), input={"image": image, "seed": 7})
answers["replicate_first"] = prediction.status
prediction.wait()
answers["replicate"] = [prediction.status, str(prediction.output)[:22]]
prediction.cancel()
answers["replicate_model"] = client.models.get("o/m").latest_version.id
with png.open("rb") as image:
    answers["replicate_file"] = client.files.create(image).urls["get"].startswith(base)
try:
    replicate.Client(api_token="wrong", base_url=base).models.get("o/m")
except replicate.exceptions.ReplicateError as error:
    answers["replicate_error"] = [error.status, error.title]

client = openai.OpenAI(api_key=token, base_url=f"{base}/v1", max_retries=0)
with png.open("rb") as image:
    result = client.images.edit(image=image, prompt="x", model="gpt-image-1", n=2)
answers["openai"] = [len(result.data), result.data[0].b64_json[:10]]
try:
    with png.open("rb") as image:
        openai.OpenAI(api_key="wrong", base_url=f"{base}/v1", max_retries=0).images.edit(
            image=image, prompt="x"
        )
except openai.AuthenticationError as error:
    answers["openai_error"] = error.code

client = InferenceClient(f"{base}/hf", token=token)
answers["hf"] = client.image_to_image(str(png)).size
sys.stdout.write(json.dumps(answers))
