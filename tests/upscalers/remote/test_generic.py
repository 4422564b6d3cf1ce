"""HTTP APIs described by data, and the presets that are shipped."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from app.errors import UpscalerUnavailable
from app.upscalers import pointer
from app.upscalers.presets import preset_names
from app.upscalers.remote.errors import (
    GenerationFailed,
    ProtocolError,
    SomeFailed,
)
from app.upscalers.template import SeedField, fill, fill_path
from tests.factories import encoded
from tests.upscalers.remote.pictures import adapter, config, sample, uri

BASE = {"kind": "http", "url": "http://127.0.0.1", "scale": 2}


class TestTemplate:
    def test_fill(self):
        """A whole placeholder keeps its type; inside a string it becomes text."""
        tree = {"a": "{seed}", "b": ["x{seed}y", 1, None], "c": {"d": "{p}"}}
        assert fill(tree, {"seed": 7, "p": [1]}) == {"a": 7, "b": ["x7y", 1, None], "c": {"d": [1]}}

    def test_values_are_not_filled_again(self):
        """A value that looks like a placeholder stays as it is."""
        assert fill("{a}", {"a": "{b}", "b": "no"}) == "{b}"

    def test_path_values_stay_in_their_segment(self):
        """A value cannot add path segments or a query."""
        assert fill_path("/r/{id}", {"id": "../x?y=1"}) == "/r/..%2Fx%3Fy%3D1"

    def test_seeds_are_mapped_into_the_range(self):
        """Seeds inside the range stay; others are wrapped; the lower end is kept out of zero."""
        field = SeedField(min=1, max=10)
        assert [field.map(seed) for seed in (1, 10, 11, 25)] == [1, 10, 1, 5]

    @pytest.mark.parametrize(
        ("where", "found"),
        [("", [{"a": [{"b": 1}, {"b": 2}], "x/y": 3}]), ("/a/1/b", [2]), ("/a/*/b", [1, 2]),
         ("/x~1y", [3]), ("/a/7", []), ("/a/b", []), ("/a/-1", []), ("/a/-", [])],
    )  # fmt: skip
    def test_pointers(self, where, found):
        """JSON pointers, and * for every element of an array."""
        assert pointer.find({"a": [{"b": 1}, {"b": 2}], "x/y": 3}, where) == found


class TestConfig:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"request": {"form": "json", "json": {"p": "{prompt}"}}}, "no value for {prompt}"),
            ({"request": {"form": "json", "json": {"s": "{seed}"}}}, "range under `seed`"),
            ({"request": {"form": "raw"}, "seed": {}}, "has no {seed}"),
            ({"request": {"form": "raw"}, "samples_per_call": 2}, "needs {count}"),
            ({"preset": "nonesuch"}, "there are a1111-extras"),
            ({"request": {"form": "raw"}, "poll": {}}, "url_pointer or path"),
            ({"request": {"form": "raw"}, "answer": {"success": [{"in": [1]}]}}, "exactly one"),
            ({"request": {"form": "raw"}, "headers": {"Authorization": "x"}}, "token_env"),
            ({"request": {"form": "raw"}, "headers": {"x": "ü"}}, "match pattern"),
            ({"request": {"form": "raw"}, "headers": {"x": "a\nb"}}, "match pattern"),
            ({"request": {"form": "raw"}, "headers": {"x y": "a"}}, "match pattern"),
            ({"request": {"form": "raw"}, "token_header": "x:"}, "match pattern"),
            ({"request": {"form": "raw"}, "token_scheme": "Schlüssel"}, "match pattern"),
            ({"request": {"form": "raw"}, "url": "https://u:p@h"}, "no credentials"),
            ({"request": {"form": "raw"}, "url": "ftp://h"}, "http"),
            ({"request": {"form": "raw"}, "answer": {"pointer": "a/b"}}, "no JSON pointer"),
            ({"request": {"form": "raw"}, "answer": {"pointer": "/a~2"}}, "no JSON pointer"),
            ({"request": {"form": "raw"}, "url": "http://h:99999"}, "impossible port"),
            ({"request": {"form": "raw"}, "url": "http://a..b"}, "impossible host"),
            ({"request": {"form": "raw"}, "url": "http://bücher"}, "odd characters"),
            ({"request": {"form": "raw"}, "url": "http://h", "token_env": "T"}, "without TLS"),
            ({"request": {"form": "raw"}, "tokn_env": "T"}, "Extra inputs"),
            ({"request": {"form": "raw"}, "mask_color": "magenta"}, "should match pattern"),
            ({"request": {"form": "raw"}, "mask_field": "mask"}, "set that too"),
            ({"request": {"form": "json", "json": "{mask_b64}"}}, "set mask_color"),
            (
                {"request": {"form": "raw"}, "mask_color": "#ff00ff", "mask_field": "mask"},
                "part of a multipart form",
            ),
        ],
    )
    def test_mistakes(self, settings, words):
        """A mistake in the description stops the start and is named."""
        with pytest.raises(ValidationError, match=words):
            config(**{**BASE, **settings})

    def test_preset_with_changes(self):
        """One's own settings go before the preset's, table by table."""
        made = config(**BASE, preset="stability-conservative", parameters={"prompt": "a cat"})
        assert made.parameters == {"prompt": "a cat", "creativity": 0.35}
        assert made.scale == 2

    @pytest.mark.parametrize("name", preset_names())
    def test_presets_are_valid(self, name):
        """Every preset that is shipped describes a whole API."""
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

    async def test_several_samples(self, source):
        """One call for several samples keeps those that are good when others are not."""

        def handler(request):
            images = [uri(encoded(sample(source.rgb, i))) for i in range(2)]
            return httpx.Response(200, json={"data": [images[0], "broken!", images[1]]})

        up = adapter(
            handler, **BASE, samples_per_call=3, answer={"image": "json", "pointer": "/data/*"},
            request={"form": "json", "json": {"n": "{count}"}},
        )  # fmt: skip
        with pytest.raises(SomeFailed) as failure:
            await up.generate(source, [1, 2, 3])
        assert [got is None for got in failure.value.samples] == [False, True, False]

    async def test_a_pointer_to_nothing(self, source):
        """The error names what came and what of it looks like an image, but no value."""
        image = uri(encoded(sample(source.rgb, 1))).partition(",")[2]
        document = {"id": "secret", "data": [{"b64/json": image, "seed": 1}], "none": []}
        up = adapter(
            lambda request: httpx.Response(200, json=document), **BASE, request={"form": "raw"},
            answer={"image": "json", "pointer": "/x"},
        )  # fmt: skip
        with pytest.raises(ProtocolError) as failure:
            await up.generate(source, [1])
        expected = "holds /data/0/b64~1json (looks like an image), /id, /data/0/seed"
        assert expected in failure.value.detail
        assert "secret" not in failure.value.detail

    @pytest.mark.parametrize(
        ("document", "success", "kind", "words"),
        [
            ({"message": "try tomorrow"}, [], ProtocolError, "no image at '/x': try tomorrow"),
            ({"ok": False, "error": "boom"}, [{"pointer": "/ok"}], GenerationFailed, "boom"),
        ],
    )
    async def test_failures_inside_200(self, source, document, success, kind, words):
        """Without image, or without the configured sign of success, it is an error in words."""
        up = adapter(
            lambda request: httpx.Response(200, json=document), **BASE, request={"form": "raw"},
            answer={"image": "json", "pointer": "/x", "success": success},
        )  # fmt: skip
        with pytest.raises(kind, match=words):
            await up.generate(source, [1])

    async def test_health(self):
        """The health path must answer with success."""
        up = adapter(
            lambda r: httpx.Response(503), **BASE, request={"form": "raw"}, health_path="/h"
        )
        with pytest.raises(UpscalerUnavailable):
            await up.check()
