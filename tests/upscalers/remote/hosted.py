"""Fakes of hosted APIs, in one Starlette application, with the wire facts of their descriptions.

They compute bicubic plus noise, and `state` lets a test choose what goes wrong.
"""

from dataclasses import dataclass, field
from itertools import count

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from harness.factories import encoded
from harness.pictures import TOKEN, decoded, from_uri, sample, uri


@dataclass
class State:
    base: str = "http://127.0.0.1"
    polls: int = 1
    fail: str | None = None
    seeds: list[int | None] = field(default_factory=list)
    uploads: int = 0
    cancelled: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    predictions: dict[str, dict] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    numbers: count = field(default_factory=count)


SCHEMA = {"components": {"schemas": {
    "Input": {"type": "object", "required": ["image"], "properties": {
        "image": {"type": "string", "format": "uri"}, "seed": {"type": "integer", "default": 1337},
        "output_format": {"allOf": [{"$ref": "#/components/schemas/output_format"}]},
        "scale_factor": {"type": "number", "default": 2}, "mask": {"type": "string"},
    }},
    "output_format": {"type": "string", "enum": ["jpg", "png"]},
}}}  # fmt: skip


def base64_of(picture):
    return uri(encoded(picture)).partition(",")[2]


async def image_of(request, name="image"):
    async with request.form() as form:
        return await form[name].read(), dict(form)


def hosted(state: State) -> Starlette:  # noqa: C901 - one closure for each endpoint
    routes = []

    def at(path, method="GET", scheme="Bearer"):
        """An endpoint, which refuses whoever does not send the token so; None: it takes none."""

        def wrap(endpoint):
            async def guarded(request):
                state.headers.append(dict(request.headers))
                told = request.headers.get("authorization")
                if scheme is not None and told != f"{scheme} {TOKEN}":
                    return JSONResponse({"detail": "You did not pass a valid token"}, 401)
                return await endpoint(request)

            routes.append(Route(path, guarded, methods=[method]))
            return endpoint

        return wrap

    def polled(request):
        """The prediction that is asked for, and whether it still runs."""
        prediction = state.predictions[request.path_params["id"]]
        prediction["polls"] -= 1
        return prediction, prediction["polls"] >= 0

    # Replicate

    @at("/v1/models/{owner}/{name}")
    async def replicate_model(request):
        version = {"id": "f" * 64, "openapi_schema": SCHEMA}
        is_official = request.path_params["name"] == "official"
        return JSONResponse({"is_official": is_official, "latest_version": version})

    @at("/v1/models/{owner}/{name}/predictions", "POST")
    @at("/v1/predictions", "POST")
    async def replicate_create(request):
        body = await request.json()
        identifier = f"p{next(state.numbers)}"
        given, seed = body["input"]["image"], body["input"].get("seed")
        png = state.files[given.rpartition("/")[2]] if "/files/" in given else from_uri(given)
        state.seeds.append(seed)
        link = f"{state.base}/v1/predictions/{identifier}"
        document = {
            "id": identifier, "version": body.get("version", "hidden"), "input": body["input"],
            "error": None, "status": "starting", "urls": {"get": link, "cancel": f"{link}/cancel"},
        }  # fmt: skip
        output = uri(encoded(sample(decoded(png), seed)))
        done = {**document, "status": "succeeded", "output": output}
        state.predictions[identifier] = {"now": document, "done": done, "polls": state.polls}
        return JSONResponse(document if state.polls else done, 201)

    @at("/v1/predictions")
    async def replicate_list(request):
        newest = reversed([one["now"] for one in state.predictions.values()])
        return JSONResponse({"results": [*newest]})

    @at("/v1/predictions/{id}")
    async def replicate_get(request):
        if state.fail == "polls":
            return Response(status_code=500)
        prediction, runs = polled(request)
        # A finished prediction may still be called "processing".
        still = {"status": "processing"} if runs else {}
        return JSONResponse({**prediction["done"], **still})

    @at("/v1/predictions/{id}/cancel", "POST", None)
    async def replicate_cancel(request):
        state.cancelled.append(request.path_params["id"])
        prediction = state.predictions[request.path_params["id"]]
        return JSONResponse({**prediction["now"], "status": "canceled"})

    @at("/v1/files", "POST")
    async def replicate_upload(request):
        state.uploads += 1
        name = f"f{next(state.numbers)}"
        state.files[name], _ = await image_of(request, "content")
        return JSONResponse({"id": name, "urls": {"get": f"{state.base}/v1/files/{name}"}}, 201)

    # OpenAI and Hugging Face

    @at("/v1/images/edits", "POST")
    async def openai_edits(request):
        png, _ = await image_of(request)
        image = base64_of(sample(decoded(png), next(state.numbers), 1))
        return JSONResponse({"data": [{"b64_json": image}]})

    @at("/hf", "POST")
    async def hf(request):
        png = from_uri((await request.json())["inputs"])
        return Response(encoded(sample(decoded(png), next(state.numbers))))

    # Stability

    @at("/v2beta/stable-image/upscale/{kind}", "POST")
    async def stability(request):
        png, fields = await image_of(request)
        seed = int(fields["seed"]) if "seed" in fields else None
        state.seeds.append(seed)
        picture = sample(decoded(png), seed or next(state.numbers), 4)
        kind = request.path_params["kind"]
        if kind == "conservative":  # always the same number of pixels
            picture = np.asarray(Image.fromarray(picture).resize((640, 640)))
        # A withheld sample is a blurred image with status 200.
        headers = {"finish-reason": "CONTENT_FILTERED" if state.fail == "filter" else "SUCCESS"}
        answer = Response(encoded(picture), headers=headers)
        if kind != "creative":
            return answer
        identifier = f"s{next(state.numbers)}"
        state.predictions[identifier] = {"polls": state.polls, "answer": answer}
        return JSONResponse({"id": identifier})

    @at("/v2beta/results/{id}")
    async def stability_result(request):
        prediction, runs = polled(request)
        return JSONResponse({"status": "in-progress"}, 202) if runs else prediction["answer"]

    # fal

    @at("/fal-ai/seedvr/upscale/image", "POST", "Key")
    async def fal_submit(request):
        body = await request.json()
        state.seeds.append(body.get("seed"))
        identifier = f"r{next(state.numbers)}"
        png = encoded(sample(decoded(from_uri(body["image_url"])), body.get("seed")))
        state.predictions[identifier] = {"polls": state.polls, "png": png}
        base = f"{state.base}/fal-ai/seedvr/requests/{identifier}"
        links = {"status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}
        return JSONResponse({"status": "IN_QUEUE", "response_url": base, **links})

    @at("/fal-ai/seedvr/requests/{id}/status", scheme=None)
    async def fal_status(request):
        if state.fail == "polls":
            return Response(status_code=500)
        if polled(request)[1]:
            return JSONResponse({"status": "IN_PROGRESS"}, 202)
        return JSONResponse({"status": "COMPLETED"})

    @at("/fal-ai/seedvr/requests/{id}", scheme=None)
    async def fal_result(request):
        if state.fail == "model":  # a failed request is COMPLETED too
            detail = [{"loc": ["body", "image_url"], "msg": "too small", "type": "value_error"}]
            return JSONResponse({"detail": detail}, 422)
        url = uri(state.predictions[request.path_params["id"]]["png"])
        return JSONResponse({"image": {"url": url}})

    @at("/fal-ai/seedvr/requests/{id}/cancel", "PUT", None)
    async def fal_cancel(request):
        state.cancelled.append(request.path_params["id"])
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    # AUTOMATIC1111

    @at("/sdapi/v1/upscalers", scheme=None)
    async def a1111_upscalers(request):
        return JSONResponse([{"name": "R-ESRGAN 4x+", "scale": 4}])

    @at("/sdapi/v1/extra-single-image", "POST", None)
    async def a1111_extras(request):
        body = await request.json()
        picture = sample(decoded(from_uri(body["image"])), 0, int(body["upscaling_resize"]))
        return JSONResponse({"image": base64_of(picture)})

    @at("/sdapi/v1/img2img", "POST", None)
    async def a1111_img2img(request):
        body = await request.json()
        assert body["script_name"] == "SD upscale"
        state.seeds.append(body["seed"])
        scale = int(body["script_args"][3])
        picture = sample(decoded(from_uri(body["init_images"][0])), body["seed"], scale)
        return JSONResponse({"images": [base64_of(picture)]})

    return Starlette(routes=routes)
