"""From an address to an entry: what descriptions say, what one call adds, and what is refused."""

import asyncio
import json
import tomllib
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from harness.factories import encoded
from harness.pictures import TOKEN, decoded, from_uri, patient, resolving, sample, uri
from tests.upscalers.remote.hosted import State, base64_of, hosted
from trustscale_server.platform.errors import (
    BadRequest,
    ProtocolError,
    UpscalerError,
    UpscalerUnavailable,
)
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.connect.descriptions import of_openapi, of_predictions
from trustscale_server.upscalers.connect.request import ConnectRequest, upscaler_config_of
from trustscale_server.upscalers.connect.suggest import suggest
from trustscale_server.upscalers.connect.trial import attempt
from trustscale_server.upscalers.entries import toml_of
from trustscale_server.upscalers.failures import BadCredentials, WrongSample
from trustscale_server.upscalers.registry import build_bare

BASE, PUBLIC = "http://127.0.0.1", resolving("93.184.216.34")


def openapi(content, *, path="/enhance", answers="application/json", more=()):
    """An OpenAPI document with one operation, and others."""
    operation = {
        "requestBody": {"content": content},
        "responses": {"200": {"content": {answers: {"schema": {}}}}},
    }
    return {"openapi": "3.1.0", "paths": {path: {"post": operation}, **dict(more)}}


def schema(**properties):
    return {"schema": {"type": "object", "properties": properties, "required": [*properties]}}


TEXT, NUMBER, FILE = {"type": "string"}, {"type": "integer"}, {"type": "string", "format": "binary"}
OPTIONAL = {"anyOf": [{"type": "null"}, {"type": "integer", "maximum": 99}]}


@pytest.mark.parametrize(
    ("found", "entry", "needs"),
    [
        (
            of_predictions(
                {"components": {"schemas": {"Input": {
                    "required": ["photo", "prompt"],
                    "properties": {
                        "mask_image": TEXT, "photo": TEXT, "seed": OPTIONAL, "prompt": TEXT,
                        "upscale": {"type": "number"}, "scale": {"type": "number", "default": 4},
                        "output_format": {"$ref": "#/components/schemas/Formats"},
                    },
                }, "Formats": {"enum": ["webp", "png"]}}}}, {"kind": "cog"}, "",
            ),
            {"kind": "cog", "image_field": "photo", "seed_field": "seed", "seed_max": 99,
             "input": {"scale": 4, "output_format": "png"}},
            ["input.prompt"],
        ),
        (
            of_openapi(
                openapi(
                    {"multipart/form-data": schema(file=FILE, seed=NUMBER, style=TEXT)},
                    answers="image/png", more={"/face": {"post": {"requestBody": {"content": {
                        "image/*": {}}}}}}.items(),
                ), {}, None,
            ),
            {"request": {"path": "/enhance", "form": "multipart", "image_field": "file",
                         "fields": {"seed": "{seed}"}},
             "seed": {"min": 1, "max": 2**31 - 1}, "answer": {"image": "body"}},
            ["request.fields.style"],
        ),
        (
            of_openapi(openapi({"application/json": schema(image_url=TEXT)}), {}, None),
            {"request": {"path": "/enhance", "form": "json",
                         "json": {"image_url": "{image_data_uri}"}}, "answer": {"image": "json"}},
            [],
        ),
        (
            of_openapi(
                {**openapi({"application/octet-stream": {}}), "servers": [{"url": "/api/v3/"}]},
                {}, "/api/v3/enhance",
            ),
            {"request": {"path": "/api/v3/enhance", "form": "raw"}, "answer": {"image": "json"}},
            [],
        ),
        (
            of_openapi(
                {"paths": {"/up": {
                    "parameters": [{"$ref": "#/components/parameters/Tenant"}],
                    "post": {
                        "requestBody": {"content": {"image/*": {}}},
                        "parameters": [{"in": "header", "name": "X-API-Key", "required": True},
                                       {"in": "query", "name": "token", "required": True},
                                       {"in": "header", "name": "X-Trace"}],
                    }}},
                 "components": {"parameters": {
                     "Tenant": {"in": "header", "name": "X-Tenant", "required": True}}}}, {}, None,
            ),
            {"token_header": "X-API-Key", "token_scheme": "", "request":
             {"path": "/up", "form": "raw"}, "answer": {"image": "json"}},
            ["headers.X-Tenant"],
        ),
        (
            of_openapi(
                {**openapi({"image/png": {}}), "components": {"securitySchemes": {
                    "key": {"type": "apiKey", "in": "header", "name": "api-secret"},
                    "other": {"type": "apiKey", "in": "cookie", "name": "token"}}}}, {}, None,
            ),
            {"token_header": "api-secret", "token_scheme": "", "request":
             {"path": "/enhance", "form": "raw"}, "answer": {"image": "json"}},
            [],
        ),
    ],
)  # fmt: skip
def test_descriptions(found, entry, needs):
    """Which field is the picture and which the seed, what is fixed, and what people must give."""
    assert (found.entry, found.needs) == (entry, needs)


@pytest.mark.parametrize(
    "more", [{"\ud800": TEXT}, {"scale": {"type": "number", "default": float("nan")}}]
)
async def test_descriptions_that_no_answer_can_hold(more):
    """Half a character, or no number, in a server's description is refused in one sentence."""
    text = json.dumps(openapi({"application/json": schema(image=TEXT, **more)}))
    with pytest.raises(BadRequest, match="cannot be read"):
        await suggest(connected(lambda _: httpx.Response(200, text=text)))


class Api:
    """An API with an OpenAPI description and one operation."""

    def __init__(self, answer, **more):
        self.calls = 0
        self.answer = answer
        self.image = None
        self.document = document = openapi(
            {"application/json": schema(image=TEXT, seed=NUMBER, **more)}
        )

        async def describe(_):
            return JSONResponse(document)

        routes = [
            Route("/openapi.json", describe),
            Route("/enhance", self.enhance, methods=["POST"]),
            Route("/result.png", self.result),
        ]
        self.app = Starlette(routes=routes)
        self.transport = httpx.ASGITransport(self.app)

    async def enhance(self, request):
        self.calls += 1
        body = await request.json()
        self.image = decoded(from_uri(body["image"]))
        return self.answer(self.image, body["seed"])

    async def result(self, _):
        return Response(encoded(sample(self.image, 0, 4)))


def answering(**more):
    """An application that upscales by 2, for tests of the ways to it; `more` fields are wanted."""
    return Api(lambda rgb, seed: JSONResponse({"b": base64_of(sample(rgb, seed))}), **more).app


def connected(transport, address=BASE, *, private=True, resolve=None, **settings):
    network = patient(transport) if resolve is None else patient(transport, resolve)
    return ConnectRequest(address, settings=settings, allow_private=private, network=network)


@pytest.mark.parametrize(
    ("answer", "entry", "words"),
    [
        # Where the picture is, however much of the answer looks like one.
        (
            lambda rgb, seed: JSONResponse(
                {"status": "https://127.0.0.1/x", "was": base64_of(rgb),
                 "out": [{"b64": base64_of(sample(rgb, seed, 3))}]}
            ),
            {"scale": 3, "answer": {"image": "json", "pointer": "/out/0/b64"}},
            "",
        ),
        (lambda rgb, seed: Response(encoded(sample(rgb, seed))),
         {"scale": 2, "answer": {"image": "body"}}, ""),
        (lambda rgb, seed: JSONResponse({"url": f"{BASE}/result.png"}),
         {"scale": 4, "answer": {"image": "json", "pointer": "/url"}}, ""),
        (lambda rgb, seed: JSONResponse({"url": "http://localhost/result.png"}),
         {"scale": 4, "answer": {"image": "json", "pointer": "/url"}, "allow_private": True,
          "allowed_hosts": ["localhost"]}, "Results are on localhost"),
        (lambda rgb, seed: JSONResponse({"uri": uri(encoded(sample(rgb, seed, 16)))}),
         {"scale": 16, "answer": {"image": "json", "pointer": "/uri"}}, ""),
    ],
)  # fmt: skip
async def test_one_call(answer, entry, words):
    api = Api(answer)
    wish = connected(api.transport, name="up", allow_private=True)
    tried = await attempt((await suggest(wish)).entry, wish)
    assert api.calls == 1
    assert {name: tried.entry[name] for name in entry} == entry
    assert words in "".join(tried.notes)
    assert tried.entry["scale"] == tried.scale
    (written,) = tomllib.loads(toml_of(tried.entry))["upscalers"]
    assert written == tried.entry


class Queue(Api):
    """An API that answers with a ticket, and later, under another address, with the picture."""

    def __init__(
        self, ticket, status, *, described=True, steps=("RUNNING", "RUNNING", "COMPLETED")
    ):
        super().__init__(lambda rgb, seed: JSONResponse(ticket, 202))
        self.status, self.steps = status, list(steps)
        routes = [Route("/enhance/{job}/state", self.asked)]
        self.app.router.routes += routes
        self.reads = 0
        if described:
            paths = self.document["paths"]
            paths["/enhance/{job_id}/state"] = {"get": {"responses": {"200": {}}}}
            paths["/users/{name}"] = {"get": {"responses": {"200": {}}}}

    async def asked(self, request):
        assert request.path_params["job"] == "j7"
        self.reads += 1
        state = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        picture = {"output": {"data": base64_of(sample(self.image, 1))}}
        return JSONResponse({self.status: state, **(picture if state == "COMPLETED" else {})})


class TestQueues:
    """An API that answers later is found out within the one call that is paid for."""

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        sleep = asyncio.sleep
        monkeypatch.setattr(asyncio, "sleep", lambda _: sleep(0))  # between polls

    @pytest.mark.parametrize(
        ("ticket", "described", "way"),
        [
            ({"job_id": "j7", "state": "QUEUED"}, True,
             {"path": "/enhance/{id}/state", "id_pointer": "/job_id"}),
            ({"data": {"id": "j7"}, "urls": {"status": f"{BASE}/enhance/j7/state"}}, False,
             {"url_pointer": "/urls/status"}),
        ],
    )  # fmt: skip
    async def test_are_polled(self, ticket, described, way):
        """The address comes from the description or the answer; so does the word for "done"."""
        api = Queue(ticket, "state", described=described)
        wish = connected(api.transport, name="up")
        found = await suggest(wish)
        tried = await attempt(found.entry, wish, found.polls)
        assert (api.calls, tried.scale) == (1, 2)
        done = [{"pointer": "/state", "in": ["COMPLETED"]}]
        assert tried.entry["poll"].items() >= {**way, "done": done}.items()
        assert tried.entry["answer"]["pointer"] == "/output/data"
        (written,) = tomllib.loads(toml_of(tried.entry))["upscalers"]
        assert written == tried.entry
        api.steps = ["RUNNING", "COMPLETED"]  # the entry serves
        (again,) = await served(tried.entry, api)
        assert again.shape == (2 * api.image.shape[0], 2 * api.image.shape[1], 3)
        assert api.calls == 2

    async def test_that_fail(self):
        """A failed generation ends the trial, and is not paid for again."""
        api = Queue({"id": "j7"}, "status", steps=["RUNNING", "FAILED"])
        wish = connected(api.transport)
        found = await suggest(wish)
        with pytest.raises(UpscalerError):
            await attempt(found.entry, wish, found.polls)
        assert api.calls == 1

    async def test_of_another_kind(self):
        """Where no guess helps, the settings to make are named."""
        api = Api(lambda rgb, seed: JSONResponse({"task_id": 5, "status": "queued"}))
        wish = connected(api.transport)
        with pytest.raises(ProtocolError, match=r"--set poll.path=/enhance/\{id\} --set poll.id"):
            await attempt((await suggest(wish)).entry, wish)
        assert api.calls == 1


async def served(entry, api):
    """What the adapter of an entry makes of a picture."""
    config = upscaler_config_of(entry)
    upscaler = build_bare(config, {}, network=patient(api.transport))
    try:
        return await upscaler.generate(Source(api.image), [1])
    finally:
        await upscaler.close()


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda rgb, seed: JSONResponse({"error": "no GPU"}, 500), UpscalerError, "no GPU"),
        (lambda rgb, seed: JSONResponse({"done": True}), ProtocolError, "/done"),
        (lambda rgb, seed: JSONResponse({"b": base64_of(rgb.repeat(2, 0).repeat(2, 1))}),
         WrongSample, "no model has run"),
        (lambda rgb, seed: JSONResponse({"b": base64_of(sample(rgb)[:, :100])}),
         WrongSample, "100×192"),
    ],
)  # fmt: skip
async def test_no_sample(answer, kind, words):
    api = Api(answer)
    wish = connected(api.transport)
    with pytest.raises(kind, match=words):
        await attempt((await suggest(wish)).entry, wish)
    assert api.calls == 1


async def test_replicate():
    state = State(polls=3)
    wish = ConnectRequest(
        f"{BASE}/v1/models/o/m",
        SecretStr(TOKEN),
        {"token_env": "KEY", "price_per_call": 0.25},
        allow_private=True,
        network=patient(httpx.ASGITransport(hosted(state))),
    )
    found = await suggest(wish)
    assert state.seeds == []
    tried = await attempt(found.entry, wish)
    assert len(state.seeds) == 1
    assert tried.entry == {
        "name": "m", "kind": "replicate", "model": "o/m", "url": f"{BASE}/v1", "scale": 2,
        "image_field": "image", "seed_field": "seed", "token_env": "KEY",
        "input": {"output_format": "png", "scale_factor": 2}, "price_per_call": 0.25,
    }  # fmt: skip
    assert TOKEN not in toml_of(tried.entry) + repr(wish)
    wrong = replace(wish, token=SecretStr("x"))
    with pytest.raises(BadCredentials):
        await suggest(wrong)


@pytest.mark.parametrize(
    ("address", "known", "words"),
    [("https://up.example", ["10.0.0.1"], "private address"),
     ("https://up.example", ["93.184.216.34", "127.0.0.1"], "private address"),
     ("https://169.254.169.254/latest", ["169.254.169.254"], "private address"),
     ("http://up.example", ["93.184.216.34"], "https"),
     ("https://user:key@up.example", [], "credentials"), ("file:///etc/passwd", [], "URL")],
)  # fmt: skip
async def test_addresses(address, known, words):
    def never(request):
        raise AssertionError(request.url)

    with pytest.raises(BadRequest, match=words):
        await suggest(connected(never, address, private=False, resolve=resolving(*known)))


async def test_pinned():
    seen = []

    def moved(request):
        seen.append((request.url.host, request.headers["host"], request.extensions["sni_hostname"]))
        return httpx.Response(307, headers={"location": "https://10.0.0.1/openapi.json"})

    with pytest.raises(
        BadRequest, match=r"description of an upscaler is at https://up\.example/api;"
    ):
        await suggest(connected(moved, "https://up.example/api", private=False, resolve=PUBLIC))
    assert set(seen) == {("93.184.216.34", "up.example", "up.example")}


@pytest.mark.parametrize("pasted", ["", "/enhance", "/docs", "/other/place"])
async def test_a_pasted_address(pasted):
    """The address of a call, or of a page, leads to the description above it."""
    api = Api(lambda rgb, seed: Response(encoded(sample(rgb, seed))))
    found = await suggest(connected(api.transport, f"{BASE}{pasted}"))
    entry = found.entry
    assert (entry["name"], entry["url"]) == ("enhance", BASE)
    assert entry["request"]["path"] == "/enhance"


async def test_nothing_there():
    """The address is named, since it may be mistyped."""

    def dead(request):
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(UpscalerUnavailable, match=r"reached at http://127\.0\.0\.1:9\."):
        await suggest(connected(dead, "http://127.0.0.1:9"))


async def test_names():
    """A server at a number is called what it calls itself."""
    document = {**openapi({"image/png": {}}), "info": {"title": "Sharp & Fine"}}
    found = await suggest(
        connected(httpx.MockTransport(lambda _: httpx.Response(200, json=document)))
    )
    assert found.entry["name"] == "Sharp-Fine"


async def test_a_file_keeps_its_path():
    """It may be relative, so that a folder with its settings can move."""
    found = await suggest(ConnectRequest("models/own.onnx"))
    assert (found.entry["model"], found.entry["name"]) == ("models/own.onnx", "own")
