"""The typed options of the client library are those of the service, and mistakes are told."""

from __future__ import annotations

import io
import json
import typing
from pathlib import Path

import httpx
import numpy as np
import pytest
from mypy import api as mypy
from PIL import Image

from app.calibration.config import CalibrationConfig
from app.images.overlay import overlay
from app.serving.answer import Guarantee
from trustscale import Guarantee as TypedGuarantee
from trustscale import Result, Trustscale, _options

DOCUMENT = json.loads(Path(__file__).parents[2].joinpath("docs/openapi.json").read_text("utf-8"))
SCHEMAS = DOCUMENT["components"]["schemas"]


@pytest.mark.parametrize(
    ("typed", "served"),
    [
        (
            _options.SubmitOptions,
            SCHEMAS["UpscaleForm"]["properties"].keys() - {"image", "image_url", "upload"},
        ),
        (_options.CalibrationOptions, CalibrationConfig.model_fields.keys()),
        (_options.ActivateOptions, SCHEMAS["ActivateIn"]["properties"].keys()),
        (_options.DeriveOptions, SCHEMAS["DeriveIn"]["properties"].keys()),
        (TypedGuarantee, Guarantee.model_fields.keys()),
    ],
    ids=["upscale", "calibrate", "activate", "derive", "guarantee"],
)
def test_they_are_those_of_the_service(typed, served):
    """Each field of the service has its type here, and there are no others."""
    assert typing.get_type_hints(typed).keys() == set(served)


def test_an_unknown_one():
    """A keyword that is unknown is no request but a mistake, with what was probably meant."""
    with (
        Trustscale("http://x.example", transport=httpx.MockTransport(_refuse)) as service,
        pytest.raises(TypeError, match=r"'apha'\. Did you mean 'alpha'"),
    ):
        service.upscale(b"", apha=0.1)


@pytest.mark.slow
def test_mypy_knows_them(tmp_path: Path):
    """Unknown keywords and wrong types are found before anything runs."""
    program = tmp_path / "program.py"
    program.write_text(
        "from trustscale import Trustscale\n"
        "service = Trustscale('http://x.example')\n"
        "service.upscale('a.png', alpha=0.1, format='webp')\n"
        "service.upscale('a.png', apha=0.1)\n"
        "service.upscale('a.png', alpha='much')\n"
    )
    found, _, _ = mypy.run(["--no-incremental", "--follow-imports=silent", str(program)])
    lines = {int(line.split(":")[1]) for line in found.splitlines() if ": error: " in line}
    assert lines == {4, 5}


def test_who_could_not_be_reached():
    """An error of the network names the address."""
    transport = httpx.MockTransport(_refuse)
    with (
        Trustscale("http://x.example:81", transport=transport, retries=0) as service,
        pytest.raises(httpx.ConnectError, match=r"http://x\.example:81.*refused"),
    ):
        service.upscalers()


def _refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def test_what_is_saved(tmp_path: Path):
    """All files, result.json, and the overlay exactly as the service draws it."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    mask = rng.random((12, 16)) < 0.7
    document = {"id": "res-1", "width": 16, "height": 12, "alpha": 0.1, "trusted_fraction": 0.7}
    result = Result(document, {"image.png": _png(pixels), "mask.png": _png(mask)})
    assert repr(result) == "<Result res-1: 16×12, 70.0% trusted at α = 0.1>"
    result.save(tmp_path)
    names = {"image.png", "mask.png", "overlay.png", "result.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert np.array_equal(Image.open(tmp_path / "overlay.png"), overlay(pixels, mask))


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
