"""The client library against a real gateway, and against answers that go wrong."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest
from PIL import Image

import app
import trustscale
from app.images.encode import png_grey16
from tests.api.admin import truth_files, zipped
from tests.api.gateway import ADMIN_KEY, IMAGE, gateway
from tests.factories import calibration_of, encoded, photo, truths
from tests.fakes import FakeUpscaler
from tests.live import serving
from trustscale import AsyncTrustscale, Problem, Result, Tar, Trustscale

ROOT = Path(__file__).parents[2]


class Service(NamedTuple):
    url: str
    upscaler: FakeUpscaler


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[Service]:
    upscaler = FakeUpscaler()
    calibration = asyncio.run(calibration_of(upscaler))
    folder = tmp_path_factory.mktemp("service")
    with serving(gateway(folder, upscaler, calibrations=[calibration])) as address:
        yield Service(f"http://{address}", upscaler)


@pytest.fixture
def client(service) -> Iterator[Trustscale]:
    with Trustscale(service.url, ADMIN_KEY) as client:
        yield client


class TestUpscale:
    def test_a_result(self, client):
        """Image, mask and trust level belong together; the trust level gives the same mask."""
        result = client.upscale(IMAGE, alpha=0.3, seed=1)
        assert (result.image.mode, result.image.size) == ("RGB", (48, 48))
        assert result.mask.shape == result.trust.shape == (48, 48)
        assert (result.mask.dtype, result.trust.dtype) == (bool, np.float32)
        assert result.mask.mean() == pytest.approx(result.trusted_fraction)
        assert not (~result.mask & (result.trust <= 0.3)).any()
        assert np.mean(result.mask != (result.trust <= 0.3)) < 0.01
        assert result.guarantee["alpha"] == result.alpha == 0.3

    def test_only_what_can_be_believed(self, client):
        """Where it is asked for, at once and by a job; else it is a problem that says so."""
        result = client.upscale(IMAGE, alpha=0.12, seed=1, believed=True)
        assert (np.asarray(result.believed) == np.asarray(result.image))[result.mask].all()
        later = client.submit(IMAGE, alpha=0.12, seed=1, believed=True).wait()
        assert later.believed.tobytes() == result.believed.tobytes()
        with pytest.raises(Problem, match="believed=true"):
            _ = client.upscale(IMAGE, alpha=0.12, seed=1).believed

    def test_trust_is_rounded_up(self):
        """No pixel is trusted at an α below its own, be it by the last bit of a number."""
        codes = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        result = Result({"guarantee": {"bound": 1.9576}}, {"trust.png": png_grey16(codes)})
        levels = codes * (1.9576 / 65534)
        below = np.nextafter(levels, -1)
        alphas = zip(result.trust.flat, below.flat, strict=True)
        assert not any(level <= float(alpha) for level, alpha in alphas)
        np.testing.assert_allclose(result.trust.flat[:-1], levels.flat[:-1], rtol=1e-6, atol=1e-30)
        assert np.isposinf(result.trust.flat[-1])

    def test_names_of_files(self, tmp_path):
        """Whatever a server calls its files, they are saved in the folder."""
        files = {"result.json": b"{}", "../evil.png": b"1", "/tmp/../evil.png": b"2"}
        Result.of_zip(zipped(files)).save(tmp_path / "a")
        assert {p.name for p in tmp_path.iterdir()} == {"a"}
        assert {p.name for p in (tmp_path / "a").iterdir()} == {"result.json", "evil.png"}

    def test_pictures(self, client, tmp_path):
        """A path, bytes, a PIL image and an array are the same picture."""
        path = tmp_path / "image.png"
        path.write_bytes(IMAGE)
        picture = Image.open(io.BytesIO(IMAGE))
        images = [
            client.upscale(one, seed=1).image.tobytes()
            for one in (IMAGE, path, str(path), picture, np.asarray(picture))
        ]
        assert len(set(images)) == 1

    def test_a_job(self, client, tmp_path):
        """The same answer later, and as files."""
        told = []
        job = client.submit(IMAGE, seed=1)
        result = job.wait(progress=lambda *done: told.append(done))
        direct = client.upscale(IMAGE, seed=1)
        np.testing.assert_array_equal(result.trust, direct.trust)
        result.save(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} >= {"image.png", "mask.png", "result.json"}
        assert client.job(job.id).state == "succeeded"

    @pytest.mark.servers
    def test_a_job_in_an_object_store(self, tmp_path, s3_url):
        """Its files come from there, and the key does not go there, where it would be refused."""
        upscaler = FakeUpscaler()
        calibration = asyncio.run(calibration_of(upscaler))
        served = gateway(tmp_path, upscaler, calibrations=[calibration], blobs=s3_url)
        sent = []
        with serving(served) as address, Trustscale(f"http://{address}", ADMIN_KEY) as client:
            client._http.event_hooks["request"] = [sent.append]
            result = client.submit(IMAGE, seed=1).wait()
            direct = client.upscale(IMAGE, seed=1)
        np.testing.assert_array_equal(result.trust, direct.trust)
        elsewhere = [request for request in sent if request.url.netloc.decode() != address]
        assert len(elsewhere) == 3
        assert not any(ADMIN_KEY in str(request.headers.raw) for request in elsewhere)

    def test_a_refusal(self, client):
        """A problem with type, status, sentence and members."""
        with pytest.raises(Problem, match="nobody") as caught:
            client.upscale(IMAGE, upscaler="nobody")
        assert (caught.value.type, caught.value.status) == ("/problems/not-found", 404)

    async def test_asyncio(self, service):
        """The same answer."""
        async with AsyncTrustscale(service.url, ADMIN_KEY) as client:
            direct = await client.upscale(IMAGE, seed=1)
            job = await client.submit(IMAGE, seed=1)
            later = await job.wait()
            np.testing.assert_array_equal(direct.trust, later.trust)
            assert [row["active"] for row in await client.calibrations()].count(True) == 1


class TestCalibrate:
    @pytest.mark.parametrize("kind", ["folder", "archive", "list", "pairs"])
    def test_pairs(self, client, kind, tmp_path):
        """A folder, an archive, truths, or inputs and truths."""
        images = [photo(k, 48, 48) for k in range(40, 43)]
        (tmp_path / "photos.zip").write_bytes(zipped(truth_files(3)))
        pairs = {
            "folder": truths(tmp_path / "photos", 3),
            "archive": tmp_path / "photos.zip",
            "list": images,
            "pairs": {f"p{k}": (encoded(y[::2, ::2]), y) for k, y in enumerate(images)},
        }[kind]
        sent = []
        job = client.calibrate(pairs, on_sent=lambda *done: sent.append(done), samples=2, name=kind)
        made = job.wait()
        assert (made["n"], made["name"]) == (3, kind)
        assert (made["degradation"] is None) == (kind == "pairs")
        assert kind == "archive" or sent[-1][0] == sent[-1][1] > 0

    def test_an_archive_is_whole_whatever_sizes_its_files_have(self):
        """Also if they are empty, or need no padding; the size that is declared is that read."""
        files = {f"y/{size}.png": bytes(size) for size in (0, 1, 511, 512, 1024, 3_000_000)}
        tar = Tar(files)
        data = b"".join(iter(lambda: tar.read(65_536), b""))
        assert len(data) == tar.seek(0, os.SEEK_END)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = {info.name: archive.extractfile(info).read() for info in archive}
        assert found == files

    def test_bad_pairs(self, client):
        """Each is named."""
        with pytest.raises(Problem) as caught:
            client.calibrate([b"text", photo(1, 48, 48)], samples=2)
        assert [item["name"] for item in caught.value.members["items"]] == ["000000"]

    def test_labels(self, client):
        """A semantic calibration comes back when it needs labels."""
        job = client.calibrate([photo(1, 48, 48)], samples=2, fidelity={"metric": "semantic"})
        assert job.wait()["state"] == "awaiting_labels"
        job.cancel()
        assert job.state == "cancelled"
        with pytest.raises(Problem, match="cancelled"):
            job.wait()


class Answers:
    """A service that gives these answers, or errors, in turn; what it was asked, and the pauses."""

    def __init__(self, *answers: httpx.Response | Exception, **options: object) -> None:
        self.left = list(answers)
        self.asked: list[httpx.Request] = []
        self.pauses: list[float] = []
        transport = httpx.MockTransport(self.answer)
        self.client = Trustscale(
            "http://x", transport=transport, sleep=self.pauses.append, **options
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        one = self.left.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    def upscale(self) -> Problem:
        """How it ends."""
        with self.client, pytest.raises(Problem) as caught:
            self.client.upscale(IMAGE)
        return caught.value


def busy(status: int = 503, after: str = "7") -> httpx.Response:
    return httpx.Response(status, headers={"Retry-After": after}, json={"detail": "Busy."})


class TestRetries:
    """What is repeated, and what is not."""

    def test_no_room(self):
        """Retry-After is waited for; then the problem is told."""
        service = Answers(busy(), busy(429), busy(), retries=2)
        assert str(service.upscale()) == "Busy."
        assert (len(service.asked), service.pauses) == (3, [7.0, 7.0])

    def test_too_long(self):
        """Nobody waits for an hour."""
        service = Answers(busy(after="3600"))
        assert service.upscale().retry_after == 3600
        assert (len(service.asked), service.pauses) == (1, [])

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
        """What has run out of time, or would, is told at once: again it would take as long."""
        body = {"type": "/problems/too-slow", "detail": "It takes an hour.", "fit": 500}
        service = Answers(httpx.Response(status, headers={"Retry-After": "1"}, json=body))
        assert service.upscale().members == {"fit": 500}
        silent = Answers(httpx.ReadTimeout("silence"))
        with silent.client, pytest.raises(httpx.ReadTimeout):
            silent.client.upscale(IMAGE)
        assert (len(service.asked), len(silent.asked)) == (1, 1)

    def test_the_request_stays_the_same(self):
        """All of five tries carry one idempotency key, and the whole image."""
        service = Answers(*[busy() for _ in range(5)])
        service.upscale()
        assert service.left == []
        assert len({request.headers["Idempotency-Key"] for request in service.asked}) == 1
        assert all(IMAGE in request.content for request in service.asked)

    def test_a_job_is_watched_through_a_restart(self):
        """Lost connections and a proxy without a server do not end the watching."""
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

    @pytest.mark.parametrize(
        ("status", "body", "words"),
        [
            (200, b"<html>", "does not answer as Trustscale"),
            (200, b"{}", "does not answer as Trustscale"),
            (200, b"[1", "does not answer as Trustscale"),
            (404, b"[1]", "answered 404"),
            (404, b'{"status": "error", "detail": "No such page."}', "No such page"),
        ],
    )
    def test_another_server(self, status, body, words):
        """A server that is something else is a problem, whatever it answers."""
        service = Answers(*[httpx.Response(status, content=body) for _ in range(2)])
        with service.client as client:
            for ask in (lambda: client.calibration("cal-x"), lambda: client.upscale(IMAGE)):
                with pytest.raises(Problem, match=words) as caught:
                    ask()
                assert caught.value.status == (0 if status == 200 else status)


def test_one_version():
    """Client and service are of one release."""
    assert trustscale.__version__ == app.__version__


@pytest.mark.slow
def test_a_wheel_of_its_own(tmp_path):
    """The distribution trustscale-client is the package, and imports nothing of the service."""
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command = [*wheel, "--wheel-dir", str(tmp_path), str(ROOT / "trustscale")]
    subprocess.run(command, check=True)
    [built] = tmp_path.glob("trustscale_client-*.whl")
    code = (
        f"import sys; sys.path.insert(0, {str(built)!r}); import trustscale;"
        "print(trustscale.__file__, *sorted(sys.modules))"
    )
    run = [sys.executable, "-c", code]
    told = subprocess.run(run, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert told.startswith(str(built))
    assert {"app", "workers", "fastapi", "scipy"}.isdisjoint(told.split())
