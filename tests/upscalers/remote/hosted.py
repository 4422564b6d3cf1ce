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

from tests.factories import encoded
from tests.upscalers.remote.pictures import TOKEN, decoded, from_uri, sample, uri


@dataclass
class State:
    base: str = "http://127.0.0.1"
    polls: int = 1
    fail: str | None = None
    filtered: set[int] = field(default_factory=set)
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


def problem(status, title, detail):
    body = {"title": title, "detail": detail, "status": status}
    return JSONResponse(body, status, media_type="application/problem+json")


def openai_error(status, message, kind, code):
    error = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, status)


def stability_error(status, name, text):
    return JSONResponse({"id": "1", "name": name, "errors": [text]}, status)


def base64_of(picture):
    return uri(encoded(picture)).partition(",")[2]


async def image_of(request, name="image"):
    async with request.form() as form:
        return await form[name].read(), dict(form)


def hosted(state: State) -> Starlette:  # noqa: C901 - one closure for each endpoint
    routes = []

    def at(path, method="GET", refusal=None, scheme="Bearer"):
        """An endpoint, which answers so where the token is not sent; None: it takes none."""

        def wrap(endpoint):
            async def guarded(request):
                state.headers.append(dict(request.headers))
                told = request.headers.get("authorization")
                if refusal is not None and told != f"{scheme} {TOKEN}":
                    return refusal
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

    unauthenticated = problem(401, "Unauthenticated", "You did not pass a valid token")

    @at("/v1/models/{owner}/{name}", refusal=unauthenticated)
    @at("/v1/models/{owner}/{name}/versions/{version}", refusal=unauthenticated)
    async def replicate_model(request):
        name = request.path_params["name"]
        if name == "missing":
            return problem(404, "Not found", "The requested resource could not be found.")
        version = {"id": "f" * 64, "openapi_schema": SCHEMA}
        return JSONResponse({"is_official": name == "official", "latest_version": version})

    @at("/v1/models/{owner}/{name}/predictions", "POST", unauthenticated)
    @at("/v1/predictions", "POST", unauthenticated)
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
        if seed in state.filtered:
            done = {**document, "status": "failed", "error": "NSFW content detected."}
        state.predictions[identifier] = {"now": document, "done": done, "polls": state.polls}
        return JSONResponse(document if state.polls else done, 201)

    @at("/v1/predictions", refusal=unauthenticated)
    async def replicate_list(request):
        newest = reversed([one["now"] for one in state.predictions.values()])
        return JSONResponse({"results": [*newest]})

    @at("/v1/predictions/{id}", refusal=unauthenticated)
    async def replicate_get(request):
        if state.fail == "polls":
            return problem(500, "Internal server error", "")
        prediction, runs = polled(request)
        # A finished prediction may still be called "processing".
        still = {"status": "processing"} if runs else {}
        return JSONResponse({**prediction["done"], **still})

    @at("/v1/predictions/{id}/cancel", "POST")
    async def replicate_cancel(request):
        state.cancelled.append(request.path_params["id"])
        prediction = state.predictions[request.path_params["id"]]
        return JSONResponse({**prediction["now"], "status": "canceled"})

    @at("/v1/files", "POST", unauthenticated)
    async def replicate_upload(request):
        state.uploads += 1
        name = f"f{next(state.numbers)}"
        state.files[name], _ = await image_of(request, "content")
        return JSONResponse({"id": name, "urls": {"get": f"{state.base}/v1/files/{name}"}}, 201)

    # OpenAI

    wrong_key = openai_error(401, "Incorrect API key", "invalid_request_error", "invalid_api_key")

    @at("/v1/images/edits", "POST", wrong_key)
    async def openai_edits(request):
        if state.fail == "quota":
            kind = "insufficient_quota"
            return openai_error(429, "You exceeded your current quota", kind, kind)
        png, _ = await image_of(request)
        image = base64_of(sample(decoded(png), next(state.numbers), 1))
        return JSONResponse({"data": [{"b64_json": image}]})

    # Hugging Face

    @at("/hf", "POST", JSONResponse({"error": "Invalid credentials"}, 401))
    async def hf(request):
        if state.fail == "loading":
            error = {"error": "Model m is currently loading", "estimated_time": 7.5}
            return JSONResponse(error, 503)
        png = from_uri((await request.json())["inputs"])
        return Response(encoded(sample(decoded(png), next(state.numbers))), media_type="image/png")

    # Stability

    bad_key = stability_error(401, "unauthorized", "bad key")

    @at("/v2beta/stable-image/upscale/{kind}", "POST", bad_key)
    async def stability(request):
        png, fields = await image_of(request)
        seed = int(fields["seed"]) if "seed" in fields else None
        state.seeds.append(seed)
        if state.fail == "moderation":
            return stability_error(403, "content_moderation", "Your request was flagged.")
        if state.fail == "rate":
            return stability_error(429, "rate_limit_exceeded", "slow")
        picture = sample(decoded(png), seed or next(state.numbers), 4)
        kind = request.path_params["kind"]
        if kind == "conservative":  # always the same number of pixels
            picture = np.asarray(Image.fromarray(picture).resize((640, 640)))
        reason = "CONTENT_FILTERED" if seed in state.filtered else "SUCCESS"
        headers = {"finish-reason": reason}
        answer = Response(encoded(picture), media_type="image/png", headers=headers)
        if kind != "creative":
            return answer
        identifier = f"s{next(state.numbers)}"
        state.predictions[identifier] = {"polls": state.polls, "answer": answer}
        return JSONResponse({"id": identifier})

    @at("/v2beta/results/{id}", refusal=bad_key)
    async def stability_result(request):
        prediction, runs = polled(request)
        if runs:
            return JSONResponse({"id": request.path_params["id"], "status": "in-progress"}, 202)
        return prediction["answer"]

    # fal

    @at(
        "/fal-ai/seedvr/upscale/image", "POST",
        JSONResponse({"detail": "Cannot access application"}, 401), "Key",
    )  # fmt: skip
    async def fal_submit(request):
        body = await request.json()
        state.seeds.append(body.get("seed"))
        identifier = f"r{next(state.numbers)}"
        png = encoded(sample(decoded(from_uri(body["image_url"])), body.get("seed")))
        state.predictions[identifier] = {"polls": state.polls, "png": png}
        base = f"{state.base}/fal-ai/seedvr/requests/{identifier}"
        links = {"status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}
        return JSONResponse({"status": "IN_QUEUE", "response_url": base, **links})

    @at("/fal-ai/seedvr/requests/{id}/status")
    async def fal_status(request):
        if state.fail == "polls":
            return JSONResponse({"detail": "Internal server error"}, 500)
        if polled(request)[1]:
            return JSONResponse({"status": "IN_PROGRESS"}, 202)
        return JSONResponse({"status": "COMPLETED"})

    @at("/fal-ai/seedvr/requests/{id}")
    async def fal_result(request):
        if state.fail == "model":
            detail = [{"loc": ["body", "image_url"], "msg": "too small", "type": "value_error"}]
            return JSONResponse({"detail": detail}, 422)
        url = uri(state.predictions[request.path_params["id"]]["png"])
        return JSONResponse({"image": {"url": url}})

    @at("/fal-ai/seedvr/requests/{id}/cancel", "PUT")
    async def fal_cancel(request):
        state.cancelled.append(request.path_params["id"])
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    # AUTOMATIC1111

    @at("/sdapi/v1/upscalers")
    async def a1111_upscalers(request):
        return JSONResponse([{"name": "R-ESRGAN 4x+", "scale": 4}])

    @at("/sdapi/v1/extra-single-image", "POST")
    async def a1111_extras(request):
        body = await request.json()
        picture = decoded(from_uri(body["image"]))
        if state.fail != "unchanged":  # Forge answers so when its upscaler is missing
            picture = sample(picture, 0, int(body["upscaling_resize"]))
        return JSONResponse({"image": base64_of(picture)})

    @at("/sdapi/v1/img2img", "POST")
    async def a1111_img2img(request):
        body = await request.json()
        if body["script_name"] != "SD upscale":
            return JSONResponse({"error": "HTTPException", "detail": "Script not found"}, 422)
        state.seeds.append(body["seed"])
        scale = int(body["script_args"][3])
        picture = sample(decoded(from_uri(body["init_images"][0])), body["seed"], scale)
        return JSONResponse({"images": [base64_of(picture)]})

    return Starlette(routes=routes)
