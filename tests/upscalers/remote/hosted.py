"""Fakes of hosted APIs, in one Starlette application; the vendors' own clients judge them.

Each keeps the wire facts that matter: status codes, headers, shapes of answers and errors. What a
fake computes is bicubic plus noise, and `state` lets a test choose what goes wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.upscalers.remote.pictures import TOKEN, decoded, encoded, from_uri, sample, uri


@dataclass
class State:
    """What the fakes have seen, and what they shall do."""

    base: str = "http://fake"
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


def hosted(state: State) -> Starlette:  # noqa: C901 - one closure for each endpoint
    """The application."""

    def authorised(request, scheme="Bearer"):
        state.headers.append(dict(request.headers))
        return request.headers.get("authorization") == f"{scheme} {TOKEN}"

    # Replicate ---------------------------------------------------------------------------

    def problem(status, title, detail):
        return JSONResponse(
            {"title": title, "detail": detail, "status": status},
            status,
            media_type="application/problem+json",
        )

    def unauthenticated():
        return problem(401, "Unauthenticated", "You did not pass a valid authentication token")

    async def replicate_model(request):
        if not authorised(request):
            return unauthenticated()
        if request.path_params["name"] == "missing":
            return problem(404, "Not found", "The requested resource could not be found.")
        official = request.path_params["name"] == "official"
        return JSONResponse(
            {
                "owner": "o",
                "name": request.path_params["name"],
                "url": "https://replicate.com/o/m",
                "visibility": "public",
                "run_count": 1,
                "is_official": official,
                "latest_version": {
                    "id": "f" * 64,
                    "created_at": "2026-01-01T00:00:00Z",
                    "cog_version": "0.9",
                    "openapi_schema": {},
                },
            }
        )

    async def replicate_create(request):
        if not authorised(request):
            return unauthenticated()
        body = await request.json()
        identifier = f"p{next(state.numbers)}"
        if state.fail == "quota":
            return problem(402, "Insufficient credit", "You have insufficient credit.")
        given = body["input"]["image"]
        png = state.files[given.rpartition("/")[2]] if "/files/" in given else from_uri(given)
        seed = body["input"].get("seed")
        state.seeds.append(seed)
        links = {
            "get": f"{state.base}/v1/predictions/{identifier}",
            "cancel": f"{state.base}/v1/predictions/{identifier}/cancel",
        }
        document = {
            "id": identifier,
            "model": "o/m",
            "version": body.get("version", "hidden"),
            "input": body["input"],
            "logs": "",
            "error": None,
            "status": "starting",
            "created_at": "2026-01-01T00:00:00.000Z",
            "urls": links,
            "polls": state.polls,
        }
        done = {
            **document,
            "status": "succeeded",
            "output": uri(encoded(sample(decoded(png), seed))),
        }
        if state.fail == "model":
            done = {**document, "status": "failed", "error": "CUDA out of memory"}
        if seed in state.filtered:
            done = {**document, "status": "failed", "error": "NSFW content detected."}
        state.predictions[identifier] = {"now": document, "done": done, "polls": state.polls}
        first = done if state.polls == 0 else document
        return JSONResponse(first, 201, {"preference-applied": "wait=10"})

    async def replicate_get(request):
        if not authorised(request):
            return unauthenticated()
        prediction = state.predictions[request.path_params["id"]]
        prediction["polls"] -= 1
        if prediction["polls"] > 0:
            # A finished prediction may still be called "processing".
            return JSONResponse({**prediction["done"], "status": "processing"})
        return JSONResponse(prediction["done"])

    async def replicate_cancel(request):
        state.cancelled.append(request.path_params["id"])
        prediction = state.predictions[request.path_params["id"]]
        return JSONResponse({**prediction["now"], "status": "canceled"})

    async def replicate_upload(request):
        if not authorised(request):
            return unauthenticated()
        form = await request.form()
        state.uploads += 1
        name = f"f{next(state.numbers)}"
        state.files[name] = await form["content"].read()
        await form.close()
        url = f"{state.base}/v1/files/{name}"
        file = {
            "id": name, "name": "in.png", "content_type": "image/png", "etag": "e",
            "size": len(state.files[name]), "checksums": {}, "metadata": {},
            "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z",
            "urls": {"get": url},
        }  # fmt: skip
        return JSONResponse(file, 201)

    # OpenAI --------------------------------------------------------------------------------

    async def openai_edits(request):
        if not authorised(request):
            error = {"message": "Incorrect API key", "type": "invalid_request_error",
                     "param": None, "code": "invalid_api_key"}  # fmt: skip
            return JSONResponse({"error": error}, 401)
        if state.fail == "quota":
            error = {"message": "You exceeded your current quota", "type": "insufficient_quota",
                     "param": None, "code": "insufficient_quota"}  # fmt: skip
            return JSONResponse({"error": error}, 429)
        form = await request.form()
        png = await form["image"].read()
        number = int(form.get("n", 1))
        await form.close()
        data = [
            {
                "b64_json": uri(encoded(sample(decoded(png), next(state.numbers), 1))).partition(
                    ","
                )[2]
            }
            for _ in range(number)
        ]
        return JSONResponse({"created": 1, "data": data})

    # Hugging Face ---------------------------------------------------------------------------

    async def hf(request):
        if not authorised(request):
            return JSONResponse({"error": "Invalid credentials in Authorization header"}, 401)
        if state.fail == "loading":
            return JSONResponse(
                {"error": "Model m is currently loading", "estimated_time": 7.5}, 503
            )
        body = await request.body()
        kind = request.headers.get("content-type", "")
        png = from_uri((await request.json())["inputs"]) if "json" in kind else body
        return Response(encoded(sample(decoded(png), next(state.numbers))), media_type="image/png")

    # Stability -------------------------------------------------------------------------------

    async def stability(request):
        if not authorised(request):
            return JSONResponse({"id": "1", "name": "unauthorized", "errors": ["bad key"]}, 401)
        form = await request.form()
        png = await form["image"].read()
        seed = int(form["seed"]) if "seed" in form else None
        await form.close()
        state.seeds.append(seed)
        if state.fail == "moderation":
            body = {
                "id": "1",
                "name": "content_moderation",
                "errors": ["Your request was flagged."],
            }
            return JSONResponse(body, 403)
        if state.fail == "rate":
            return JSONResponse({"id": "1", "name": "rate_limit_exceeded", "errors": ["slow"]}, 429)
        picture = sample(decoded(png), seed or next(state.numbers), 4)
        kind = request.url.path.rpartition("/")[2]
        if kind == "conservative":  # always the same number of pixels
            picture = np.asarray(Image.fromarray(picture).resize((640, 640)))
        if kind == "creative":
            identifier = f"s{next(state.numbers)}"
            state.predictions[identifier] = {"polls": state.polls, "png": encoded(picture),
                                             "seed": seed}  # fmt: skip
            return JSONResponse({"id": identifier})
        return _stability_image(encoded(picture), seed)

    def _stability_image(png, seed):
        withheld = seed in state.filtered
        reason = "CONTENT_FILTERED" if withheld else "SUCCESS"
        headers = {"finish-reason": reason, "seed": str(seed), "x-request-id": "1"}
        return Response(png, media_type="image/png", headers=headers)

    async def stability_result(request):
        prediction = state.predictions.get(request.path_params["id"])
        if prediction is None or not authorised(request):
            return JSONResponse({"id": "1", "name": "not_found", "errors": ["no"]}, 404)
        prediction["polls"] -= 1
        if prediction["polls"] >= 0:
            return JSONResponse({"id": request.path_params["id"], "status": "in-progress"}, 202)
        return _stability_image(prediction["png"], prediction["seed"])

    # fal -------------------------------------------------------------------------------------

    async def fal_submit(request):
        if not authorised(request, "Key"):
            return JSONResponse({"detail": "Cannot access application"}, 401)
        body = await request.json()
        state.seeds.append(body.get("seed"))
        identifier = f"r{next(state.numbers)}"
        png = encoded(sample(decoded(from_uri(body["image_url"])), body.get("seed")))
        state.predictions[identifier] = {"polls": state.polls, "png": png}
        base = f"{state.base}/fal-ai/seedvr/requests/{identifier}"
        return JSONResponse(
            {
                "request_id": identifier,
                "status": "IN_QUEUE",
                "queue_position": 0,
                "response_url": base,
                "status_url": f"{base}/status",
                "cancel_url": f"{base}/cancel",
            }
        )

    async def fal_status(request):
        prediction = state.predictions[request.path_params["id"]]
        prediction["polls"] -= 1
        if prediction["polls"] >= 0:
            return JSONResponse({"status": "IN_PROGRESS"}, 202)
        return JSONResponse({"status": "COMPLETED", "metrics": {"inference_time": 1.0}})

    async def fal_result(request):
        if state.fail == "model":
            detail = [{"loc": ["body", "image_url"], "msg": "too small", "type": "value_error"}]
            return JSONResponse({"detail": detail}, 422)
        image = {"url": uri(state.predictions[request.path_params["id"]]["png"]), "width": 1}
        return JSONResponse({"image": image, "seed": 1})

    async def fal_cancel(request):
        state.cancelled.append(request.path_params["id"])
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    # AUTOMATIC1111 ---------------------------------------------------------------------------

    async def a1111_upscalers(request):
        return JSONResponse([{"name": "R-ESRGAN 4x+", "scale": 4}])

    async def a1111_extras(request):
        body = await request.json()
        rgb = decoded(from_uri(body["image"]))
        if state.fail == "unchanged":  # Forge answers so when its upscaler is missing
            picture = rgb
        else:
            picture = sample(rgb, 0, int(body["upscaling_resize"]))
        text = uri(encoded(picture)).partition(",")[2]
        return JSONResponse({"html_info": "", "image": text})

    async def a1111_img2img(request):
        body = await request.json()
        if body["script_name"] != "SD upscale":
            return JSONResponse({"error": "HTTPException", "detail": "Script not found"}, 422)
        state.seeds.append(body["seed"])
        scale = int(body["script_args"][3])
        picture = sample(decoded(from_uri(body["init_images"][0])), body["seed"], scale)
        text = uri(encoded(picture)).partition(",")[2]
        return JSONResponse({"images": [text], "parameters": {}, "info": "{}"})

    return Starlette(
        routes=[
            Route("/v1/models/{owner}/{name}", replicate_model),
            Route("/v1/models/{owner}/{name}/predictions", replicate_create, methods=["POST"]),
            Route("/v1/models/{owner}/{name}/versions/{version}", replicate_model),
            Route("/v1/predictions", replicate_create, methods=["POST"]),
            Route("/v1/predictions/{id}", replicate_get),
            Route("/v1/predictions/{id}/cancel", replicate_cancel, methods=["POST"]),
            Route("/v1/files", replicate_upload, methods=["POST"]),
            Route("/v1/images/edits", openai_edits, methods=["POST"]),
            Route("/hf", hf, methods=["POST"]),
            Route("/v2beta/stable-image/upscale/{kind}", stability, methods=["POST"]),
            Route("/v2beta/results/{id}", stability_result),
            Route("/fal-ai/seedvr/upscale/image", fal_submit, methods=["POST"]),
            Route("/fal-ai/seedvr/requests/{id}/status", fal_status),
            Route("/fal-ai/seedvr/requests/{id}/cancel", fal_cancel, methods=["PUT"]),
            Route("/fal-ai/seedvr/requests/{id}", fal_result),
            Route("/sdapi/v1/upscalers", a1111_upscalers),
            Route("/sdapi/v1/extra-single-image", a1111_extras, methods=["POST"]),
            Route("/sdapi/v1/img2img", a1111_img2img, methods=["POST"]),
        ]
    )
