"""The Python client against a service, against servers that fail, and its options."""

import io
import json
import os
import tarfile
import typing

import httpx
import numpy as np
import pytest

from harness.admin import truth_files, zipped
from harness.blocks import ROOT
from harness.factories import encoded, photo, truths
from harness.gateway import ADMIN_KEY, IMAGE
from trustscale import AsyncTrustscale, Problem, Result, Tar, Trustscale, _fields
from trustscale import Guarantee as TypedGuarantee
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.images.encoding.png import to_png
from trustscale_server.serving.document import Guarantee


@pytest.fixture
def client(url):
    with Trustscale(url, ADMIN_KEY) as client:
        yield client


class TestUpscale:
    def test_a_result(self, client):
        result = client.upscale(IMAGE, alpha=0.3, seed=1)
        assert (result.image.mode, result.image.size) == ("RGB", (48, 48))
        assert result.mask.shape == result.trust.shape == (48, 48)
        assert (result.mask.dtype, result.trust.dtype) == (bool, np.float32)
        assert result.mask.mean() == pytest.approx(result.trusted_fraction)
        assert not (~result.mask & (result.trust <= 0.3)).any()
        assert np.mean(result.mask != (result.trust <= 0.3)) < 0.01
        assert result.guarantee["alpha"] == result.alpha == 0.3

    def test_only_what_can_be_believed(self, client):
        asked = {"alpha": 0.12, "seed": 1, "believed": True}
        result = client.upscale(IMAGE, **asked)
        assert (np.asarray(result.believed) == np.asarray(result.image))[result.mask].all()
        job = client.submit(IMAGE, **asked)
        later = job.wait()
        assert later.believed.tobytes() == result.believed.tobytes()
        assert client.job(job.id).state == "succeeded"
        with pytest.raises(Problem, match="believed=true"):
            _ = client.upscale(IMAGE, alpha=0.12, seed=1).believed

    def test_trust_is_rounded_up(self):
        """No pixel is trusted at an α below its own, be it by the last bit of a number."""
        codes = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        result = Result({"guarantee": {"bound": 1.9576}}, {"trust.png": to_png(codes)})
        levels = codes * (1.9576 / 65534)
        below = np.nextafter(levels, -1)
        alphas = zip(result.trust.flat, below.flat, strict=True)
        assert not any(level <= float(alpha) for level, alpha in alphas)
        np.testing.assert_allclose(result.trust.flat[:-1], levels.flat[:-1], rtol=1e-6, atol=1e-30)
        assert np.isposinf(result.trust.flat[-1])

    def test_names_of_files(self, tmp_path):
        files = {"result.json": b"{}", "../evil.png": b"1", "/tmp/../evil.png": b"2"}
        Result.from_zip(zipped(files)).save(tmp_path / "a")
        assert {p.name for p in tmp_path.iterdir()} == {"a"}
        assert {p.name for p in (tmp_path / "a").iterdir()} == {"result.json", "evil.png"}

    def test_a_refusal(self, client):
        with pytest.raises(Problem, match="nobody") as caught:
            client.upscale(IMAGE, upscaler="nobody")
        assert (caught.value.type, caught.value.status) == ("/problems/not-found", 404)

    async def test_asyncio(self, url):
        async with AsyncTrustscale(url, ADMIN_KEY) as client:
            direct = await client.upscale(IMAGE, seed=1)
            job = await client.submit(IMAGE, seed=1)
            later = await job.wait()
            np.testing.assert_array_equal(direct.trust, later.trust)
            assert [row["active"] for row in await client.calibrations()].count(True) == 1


class TestCalibrate:
    @pytest.mark.parametrize("kind", ["folder", "archive", "list", "pairs"])
    def test_pairs(self, client, kind, tmp_path):
        images = [photo(k, 48, 48) for k in range(40, 43)]
        (tmp_path / "photos.zip").write_bytes(zipped(truth_files(3)))
        pairs = {
            "folder": truths(tmp_path / "photos", 3),
            "archive": tmp_path / "photos.zip",
            "list": images,
            "pairs": {f"p{k}": (encoded(y[::2, ::2]), y) for k, y in enumerate(images)},
        }[kind]
        sent, config = [], {"samples": 2, "name": kind}
        if kind != "pairs":
            config["degradation"] = {}
        made = client.calibrate(pairs, on_sent=lambda *done: sent.append(done), **config).wait()
        assert (made["n"], made["name"]) == (3, kind)
        assert (made["degradation"] is None) == (kind == "pairs")
        assert kind == "archive" or sent[-1][0] == sent[-1][1] > 0

    def test_an_archive_is_whole_whatever_sizes_its_files_have(self):
        files = {f"y/{size}.png": bytes(size) for size in (0, 1, 511, 512, 1024, 3_000_000)}
        tar = Tar(files)
        data = b"".join(iter(lambda: tar.read(65_536), b""))
        assert len(data) == tar.seek(0, os.SEEK_END)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = {info.name: archive.extractfile(info).read() for info in archive}
        assert found == files


class Answers:
    """A service that gives these answers, or errors, in turn; what it was asked, and the pauses."""

    def __init__(self, *answers, **options):
        self.left = list(answers)
        self.asked, self.pauses = [], []
        options |= {"transport": httpx.MockTransport(self.answer), "sleep": self.pauses.append}
        self.client = Trustscale("http://x", **options)

    def answer(self, request):
        request.read()
        self.asked.append(request)
        one = self.left.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    def upscale(self):
        with self.client, pytest.raises(Problem) as caught:
            self.client.upscale(IMAGE)
        return caught.value


def busy(status=503, after="7"):
    return httpx.Response(status, headers={"Retry-After": after}, json={"detail": "Busy."})


class TestRetries:
    def test_no_room(self):
        """The very request is sent again, a few times, unless it would have to wait too long."""
        service = Answers(busy(), busy(429), busy(), retries=2)
        assert str(service.upscale()) == "Busy."
        assert (len(service.asked), service.pauses) == (3, [7.0, 7.0])
        service = Answers(busy(after="3600"))
        assert service.upscale().retry_after == 3600
        assert (len(service.asked), service.pauses) == (1, [])
        service = Answers(*[busy() for _ in range(5)])
        service.upscale()
        assert service.left == []
        assert len({request.headers["Idempotency-Key"] for request in service.asked}) == 1
        assert all(IMAGE in request.content for request in service.asked)

    @pytest.mark.parametrize(
        "errors", [[httpx.ConnectError("refused")] * 2, [httpx.ReadError("lost")]], ids=str
    )
    def test_no_server(self, errors):
        """A connection that was not made is tried again; so is a lost answer, under its key."""
        service = Answers(*errors, busy(502))
        assert service.upscale().status == 502
        assert len(service.asked) == len(errors) + 1

    @pytest.mark.parametrize("status", [422, 503, 504])
    def test_a_deadline(self, status):
        """What has run out of time, or would, is not retried: it would take as long again."""
        body = {"type": "/problems/too-slow", "detail": "It takes an hour.", "fit": 500}
        service = Answers(httpx.Response(status, headers={"Retry-After": "1"}, json=body))
        assert service.upscale().members == {"fit": 500}
        silent = Answers(httpx.ReadTimeout("silence"))
        with silent.client, pytest.raises(httpx.ReadTimeout):
            silent.client.upscale(IMAGE)
        assert (len(service.asked), len(silent.asked)) == (1, 1)

    def test_a_job_is_watched_through_a_restart(self):
        job = {"id": "job-1", "kind": "calibration", "result": "/made", "error": None}
        job["progress"] = {"done": 1, "total": 2}
        service = Answers(
            httpx.Response(202, json={**job, "state": "queued"}),
            httpx.ReadError("lost"),
            httpx.Response(502),
            httpx.Response(200, json={**job, "state": "running"}),
            httpx.Response(200, json={**job, "state": "succeeded"}),
            httpx.Response(200, json={"id": "cal-1"}),
        )
        with service.client as client:
            assert client.calibrate([IMAGE]).wait() == {"id": "cal-1"}
        assert service.left == []


DOCUMENT = json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))


def form(name):
    return DOCUMENT["components"]["schemas"][name]["properties"].keys()


@pytest.mark.parametrize(
    ("typed", "served"),
    [
        (
            _fields.SubmitOptions,
            form("UpscaleForm") - {"image", "enlarged", "image_url", "upload"},
        ),
        (_fields.CalibrationOptions, CalibrationConfig.model_fields.keys()),
        (_fields.ActivateOptions, form("ActivateIn")),
        (_fields.DeriveOptions, form("DeriveIn")),
        (TypedGuarantee, Guarantee.model_fields.keys()),
    ],
)
def test_they_are_those_of_the_service(typed, served):
    assert typing.get_type_hints(typed).keys() == set(served)


def test_an_unknown_one():
    """A keyword that is unknown is no request but a mistake, with what was probably meant."""
    with pytest.raises(TypeError, match=r"'apha'\. Did you mean 'alpha'"):
        Answers().client.upscale(b"", apha=0.1)
