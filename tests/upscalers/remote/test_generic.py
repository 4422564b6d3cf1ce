"""HTTP APIs described by data, the presets that are shipped, and upscalers of scale 1."""

import json

import httpx
import numpy as np
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from harness.admin import Admin, truth_files
from harness.factories import encoded, photo
from harness.gateway import ADMIN_KEY, pixels, post
from harness.pictures import adapter, config, decoded, from_uri, patient, sample, uri
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.app import create_app
from trustscale_server.kinds.holes import Inpaint, cut_holes, hole_mask
from trustscale_server.platform.errors import ProtocolError
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.bounded_json import MAX_VALUES, TooManyValues, parse
from trustscale_server.upscalers.failures import Busy, GenerationFailed, OutOfBounds
from trustscale_server.upscalers.pattern import pattern
from trustscale_server.upscalers.pointers import outline
from trustscale_server.upscalers.registry import build_bare
from trustscale_server.upscalers.remote.description import SeedField
from trustscale_server.upscalers.remote.generic import fill
from trustscale_server.upscalers.remote.placeholders import fill_path
from trustscale_server.upscalers.remote.presets import preset_names

BASE = {"kind": "http", "url": "http://127.0.0.1", "scale": 2}


def test_templates_are_filled():
    """Whole placeholders keep their type, path values their segment; seeds are wrapped."""
    tree = {"a": "{seed}", "b": ["x{seed}y", 1, None], "c": {"d": "{p}"}}
    assert fill(tree, {"seed": 7, "p": [1]}) == {"a": 7, "b": ["x7y", 1, None], "c": {"d": [1]}}
    assert fill_path("/r/{id}", {"id": "../x?y=1"}) == "/r/..%2Fx%3Fy%3D1"

    field = SeedField(min=1, max=10)
    assert [field.map(seed) for seed in (1, 10, 11, 25)] == [1, 10, 1, 5]


class TestConfig:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"request": {"form": "json", "json": {"s": "{seed}"}}}, "range under `seed`"),
            ({"request": {"form": "raw"}, "seed": {}}, "has no {seed}"),
            ({"request": {"form": "raw"}, "poll": {}}, "url_pointer or path"),
            ({"request": {"form": "raw"}, "answer": {"failed": [{"in": [1]}]}}, "exactly one"),
            ({"request": {"form": "raw"}, "headers": {"Authorization": "x"}}, "token_env"),
            ({"request": {"form": "raw"}, "headers": {"x": "a\nb"}}, "match pattern"),
            ({"request": {"form": "raw"}, "url": "https://u:p@h"}, "no credentials"),
            ({"request": {"form": "raw"}, "answer": {"pointer": "a/b"}}, "no JSON pointer"),
            ({"request": {"form": "raw"}, "url": "http://a..b"}, "impossible host"),
            ({"request": {"form": "raw"}, "url": "http://h", "token_env": "T"}, "without TLS"),
            ({"request": {"form": "raw"}, "mask_field": "mask"}, "set that too"),
            ({"request": {"form": "json", "json": "{mask_b64}"}}, "set mask_color"),
            ({"request": {"form": "raw"}, "mask_color": "#ff00ff", "mask_field": "mask"},
             "part of a multipart form"),
        ],
    )  # fmt: skip
    def test_mistakes(self, settings, words):
        with pytest.raises(ValidationError, match=words):
            config(**{**BASE, **settings})

    def test_preset_with_changes(self):
        """One's own settings go before the preset's, table by table."""
        made = config(**BASE, preset="stability-conservative", parameters={"prompt": "a cat"})
        assert made.parameters == {"prompt": "a cat", "creativity": 0.35}
        assert made.scale == 2


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid(name):
    assert config(**BASE, preset=name).request.form in {"raw", "json", "multipart"}


class TestForms:
    async def test_raw(self, source):
        """A raw body is the PNG itself; a query is text, with JSON's words for yes and no."""

        def handler(request):
            assert request.headers["content-type"] == "image/png"
            assert request.content == source.png
            assert str(request.url) == "http://127.0.0.1/up?seed=7&sides=96%2C96&flag=true"
            return httpx.Response(200, content=encoded(sample(source.rgb, 7)))

        up = adapter(
            handler, **BASE, seed={},
            request={"form": "raw", "path": "/up", "query": {
                "seed": "{seed}", "sides": "{out_width},{out_height}", "flag": True}},
        )  # fmt: skip
        [got] = await up.generate(source, [7])
        assert np.array_equal(got, sample(source.rgb, 7))

    @pytest.mark.parametrize(
        ("document", "kind", "words"),
        [({"message": "try tomorrow"}, ProtocolError, "no image at '/x': try tomorrow"),
         ({"ok": False, "error": "boom"}, GenerationFailed, "boom")],
    )  # fmt: skip
    async def test_failures_inside_200(self, source, document, kind, words):
        """Without image, or without the configured sign of success, the error has its words."""
        success = [{"pointer": "/ok"}] if "ok" in document else []
        up = adapter(
            lambda request: httpx.Response(200, json=document), **BASE, request={"form": "raw"},
            answer={"image": "json", "pointer": "/x", "success": success},
        )  # fmt: skip
        with pytest.raises(kind, match=words):
            await up.generate(source, [1])


class TestBounds:
    """Of what a server may send instead of an answer about a picture."""

    FLAT = b"[" + b"1," * 4_000_000 + b"1]"

    @pytest.fixture
    def unparsed(self, monkeypatch):
        monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("was parsed"))

    async def test_flat_json(self, source, unparsed):
        """Eight megabytes of numbers are refused without being parsed."""
        up = adapter(
            lambda request: httpx.Response(200, content=self.FLAT), **BASE,
            request={"form": "raw"}, answer={"image": "json", "pointer": "/x"},
        )  # fmt: skip
        with pytest.raises(OutOfBounds, match="more than 262,144 values"):
            await up.generate(source, [1])

    async def test_an_explanation(self, source, unparsed):
        """Of an error it is the same error as without a document."""
        up = adapter(
            lambda request: httpx.Response(503, content=self.FLAT), **BASE, request={"form": "raw"}
        )
        with pytest.raises(Busy, match=r"503\)"):
            await up.generate(source, [1])

    def test_values_are_counted(self):
        """Texts may be long, and have as many commas as values could be."""
        assert parse(b'["' + b"a" * 9_000_000 + b'"]') == ["a" * 9_000_000]
        assert len(parse(b"[" + b"1," * (MAX_VALUES - 2) + b"1]")) == MAX_VALUES - 1
        for text in ("[" + "1," * MAX_VALUES + "1]", "[" + "{}," * MAX_VALUES + "{}]"):
            with pytest.raises(TooManyValues):
                parse(text)
        with pytest.raises(ValueError, match="too deeply"):
            parse("[" * 200_000 + "]" * 200_000)

    def test_few_values_are_looked_at(self):
        """What an error says of a document takes no longer for a larger one."""
        assert outline([[]] * 20_000 + ["https://a"]) == "nothing"
        said = outline({"a" * 1_000_000: [1] * 20_000, "b": {"c": "https://a"}})
        assert len(said) < 300
        assert outline({"a": [1, {"b/c": "https://d"}], "e": {}}) == (
            "/a/1/b~1c (looks like an image), /a/0"
        )


SIDE = 96
HOLE = "#ff00ff"
BY_CONFIG = {"kind": "cog", "url": "http://cog:5000", "scale": 1}
BY_DATA = {"kind": "http", "url": "http://127.0.0.1", "scale": 1}


def filled(rgb, mask, seed=0):
    """Noise in the holes, the input around them."""
    noise = np.random.default_rng(seed).integers(0, 256, rgb.shape, np.uint8)
    return np.where(mask[..., None], noise, rgb)


def handler_of(make):
    """A Cog container whose model is `make(input fields) -> image`."""

    def handler(request):
        if request.url.path == "/health-check":
            return httpx.Response(200, json={"status": "READY"})
        fields = json.loads(request.content)["input"]
        output = uri(encoded(make(fields)))
        return httpx.Response(200, json={"status": "succeeded", "output": output})

    return handler


def white(data):
    return decoded(data).all(axis=2)


@pytest.fixture
def holed():
    mask = hole_mask(SIDE, SIDE, Inpaint(share=0.4), 3)
    return Source(cut_holes(pattern(), mask, HOLE)), mask


@pytest.mark.parametrize("form", ["json", "multipart"])
async def test_mask_of_a_described_api(holed, form):
    """A placeholder in JSON, a part of its own in a form."""
    source, mask = holed
    answer = encoded(filled(source.rgb, mask))
    sent = []

    def handler(request):
        if form == "json":
            sent.append(from_uri(json.loads(request.content)["mask"]))
        else:
            head, _, rest = request.content.partition(b'name="hole"; filename="mask.png"')
            sent.append(rest.partition(b"\r\n\r\n")[2].partition(b"\r\n--")[0])
            assert b'name="image"; filename="image.png"' in head + rest
        return httpx.Response(200, content=answer)

    settings = {**BY_DATA, "mask_color": HOLE}
    if form == "json":
        body = {"image": "{image_b64}", "mask": "{mask_data_uri}"}
        settings["request"] = {"form": "json", "json": body}
    else:
        settings |= {"request": {"form": "multipart"}, "mask_field": "hole"}
    [sample] = await adapter(handler, **settings).generate(source, [5])
    assert np.array_equal(sample, filled(source.rgb, mask))
    assert np.array_equal(white(sent[0]), mask)


def test_inpainting_from_pairs_to_a_mask(tmp_path):
    """Through adapter and gateway: what was given is trusted, what was filled in is not."""

    def model(fields):
        """Fills holes with the mean colour of the rest, and noise."""
        rgb, mask = decoded(from_uri(fields["image"])), white(from_uri(fields["mask"]))
        noise = np.random.default_rng(fields["seed"]).normal(0, 25, rgb.shape)
        guess = np.clip(rgb[~mask].mean(axis=0) + noise, 0, 255).astype(np.uint8)
        return np.where(mask[..., None], guess, rgb)

    settings = Settings(
        data_dir=tmp_path,
        admin_keys=[ADMIN_KEY],
        upscalers=[
            {"name": "fill", **BY_CONFIG, "mask_color": HOLE, "mask_field": "mask", "canary": "off"}
        ],
    )
    network = patient(handler_of(model))
    app = create_app(settings, build=lambda config, _: build_bare(config, {}, network=network))
    with TestClient(app, raise_server_exceptions=False) as client:
        damage = {"inpaint": {"share": 0.15}}
        Admin(client).create(truth_files(20), degradation=damage, activate=True)
        truth = photo(99, 48, 48)
        holes = hole_mask(48, 48, Inpaint(share=0.15), 1)
        answer = post(client, encoded(cut_holes(truth, holes, HOLE)), alpha=0.12).json()
        image, mask = (
            pixels(client.get(answer["links"][part]).content) for part in ("image", "mask")
        )
        assert np.array_equal(image[~holes], truth[~holes])
        trusted = mask.astype(bool)
        assert trusted[~holes].mean() > 0.3
        assert trusted[holes].mean() < 0.05
