"""Restoration through any API: scale 1, holes to fill in."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from app.images.holes import Inpaint, cut, hole_mask
from app.main import create_app
from app.settings import Settings
from app.upscalers.base import Source
from app.upscalers.probe import pattern
from app.upscalers.registry import build_adapter
from tests.api.admin import Admin, truth_files
from tests.api.gateway import ADMIN_KEY, pixels, post
from tests.factories import encoded, photo
from tests.upscalers.remote.pictures import adapter, decoded, from_uri, patient, uri

SIDE = 96
HOLE = "#ff00ff"
BY_CONFIG = {"kind": "cog", "url": "http://cog:5000", "scale": 1}
BY_DATA = {"kind": "http", "url": "http://127.0.0.1", "scale": 1}


def filled(rgb, mask, seed=0):
    """An inpainter's sample: something else in the holes, the input around them."""
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


def cog(make, **settings):
    """An adapter to such a container."""
    return adapter(handler_of(make), **BY_CONFIG, **settings)


def white(data):
    """A mask file as bool [h, w]."""
    return decoded(data).all(axis=2)


@pytest.fixture
def holed():
    """A photograph with two fifths of it cut out, and where."""
    mask = hole_mask(SIDE, SIDE, Inpaint(share=0.4), 3)
    return Source(cut(pattern(), mask, HOLE)), mask


class TestMask:
    async def test_of_a_cog(self, holed):
        """It is white exactly in the holes; any filling is a sample."""
        source, mask = holed
        sent = []

        def model(fields):
            sent.append(white(from_uri(fields["mask"])))
            return filled(decoded(from_uri(fields["image"])), sent[-1], fields["seed"])

        up = cog(model, mask_color=HOLE, mask_field="mask")
        [sample] = await up.generate(source, [5])
        assert np.array_equal(sent[0], mask)
        assert np.array_equal(sample[~mask], source.rgb[~mask])

    @pytest.mark.parametrize("form", ["json", "multipart"])
    async def test_of_a_described_api(self, holed, form):
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


async def test_fingerprints_stay_what_they_were():
    """Settings that are not used leave the calibrations of older versions valid."""
    plain, filling = cog(None), cog(None, mask_color=HOLE)
    await plain.check()
    await filling.check()
    known = "sha256:f6d29b22dde1b81ec70e969bc9f802d2ceca5dcf374d72f98d0115f922a62f44"
    assert plain.fingerprint == known
    assert filling.fingerprint != known


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
    app = create_app(settings, build=lambda config, _: build_adapter(config, {}, network=network))
    with TestClient(app, raise_server_exceptions=False) as client:
        damage = {"inpaint": {"share": 0.15}}
        Admin(client).create(truth_files(20), degradation=damage, activate=True)
        truth = photo(99, 48, 48)
        holes = hole_mask(48, 48, Inpaint(share=0.15), 1)
        answer = post(client, encoded(cut(truth, holes, HOLE)), alpha=0.12).json()
        image, mask = (
            pixels(client.get(answer["links"][part]).content) for part in ("image", "mask")
        )
        assert np.array_equal(image[~holes], truth[~holes])
        trusted = mask.astype(bool)
        assert trusted[~holes].mean() > 0.3
        assert trusted[holes].mean() < 0.05
