"""Receivers are told of ended jobs: signed, again if need be, and nobody else is reached."""

import base64
import json
import sys
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from harness.blocks import ROOT, blocks_of
from harness.servers import ProcessGroup, free_port
from harness.work import new_job
from tests.jobs.conftest import ended
from trustscale_server.bootstrap.settings import load_settings
from trustscale_server.jobs.handler import JobContext, RetriesExhausted, RetryLater
from trustscale_server.jobs.webhooks import WebhookHandler, delivery_of
from trustscale_server.platform.errors import BadRequest, ConfigError
from trustscale_server.stores.job_status import JobAbout, JobState
from trustscale_server.upscalers.outbound.guard import NetworkAccess
from trustscale_server.upscalers.outbound.webhooks import Webhooks, secret_of

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes, or").decode()
NEXT = "whsec_" + base64.b64encode(b"the next secret of many bytes").decode()
URL = "https://hooks.example.com/told?by=us"
BLOCKS = blocks_of(ROOT / "docs/http-admin.md")
RECEIVER = next(block.text for block in BLOCKS if block.kind == "python")


def webhooks(*hosts, secrets=(SECRET,), **more):
    return Webhooks(hosts or ("example.com",), tuple(map(secret_of, secrets)), **more)


class TestAllowed:
    @pytest.mark.parametrize(
        "url",
        ["http://hooks.example.com/", "https://example.com.evil.org/", "file:///etc/passwd", ""],
    )
    def test_others_are_refused(self, url):
        with pytest.raises(BadRequest):
            webhooks().raise_if_refused(url)

    @pytest.mark.parametrize("secret", ["", "secret", "whsec_c2hvcnQ=", "whsec_?"])
    def test_bad_secrets(self, secret):
        with pytest.raises(ConfigError, match="webhook"):
            load_settings(webhook_hosts="example.com", webhook_secrets=secret)


class Told:
    """A job that has ended, its delivery, and a network that answers as it is told."""

    def __init__(self, stores, *answers, addresses=("93.184.216.34",)):
        self.stores, self.answers, self.addresses = stores, list(answers), addresses
        self.asked = []
        self.resolved = 0

    async def _resolve(self, host, port):
        self.resolved += 1
        return self.addresses

    def _answer(self, request):
        self.asked.append(request)
        answer = self.answers.pop(0) if self.answers else 204
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, headers={"Location": "http://169.254.169.254/"})

    async def job(self, state=JobState.SUCCEEDED, *, needs_review=None, **end):
        job = new_job("job-1", "upscale", Path("log"))
        job.about = JobAbout(webhook=URL)
        status = await self.stores.jobs.create(job)
        delivery = delivery_of(status, state)
        if needs_review is not None:
            await JobContext("job-1", self.stores.jobs).note(needs_review=needs_review)
        if state is not JobState.RUNNING:
            await self.stores.jobs.finish("job-1", state, **end)
        await self.stores.jobs.create(delivery)
        await self.stores.jobs.start(delivery.id, "", "me")
        return delivery

    async def tell(self, delivery, *, waits_s=(1.0, 2.0), **more):
        jobs, network = (
            self.stores.jobs,
            NetworkAccess(httpx.MockTransport(self._answer), self._resolve),
        )
        handler = WebhookHandler(jobs, webhooks(**more), waits_s=waits_s, network=network)
        return await handler(delivery, JobContext(delivery.id, jobs))


class TestDelivery:
    async def test_what_is_told(self, stores):
        """A small event, which the standard's own library verifies under each secret."""
        told = Told(stores)
        delivery = await told.job(result="/v1/results/res-1")
        assert await told.tell(delivery, secrets=(SECRET, NEXT)) == "/v1/jobs/job-1"
        (request,) = told.asked
        assert (told.resolved, request.url.host) == (1, "93.184.216.34")
        assert request.headers["host"] == "hooks.example.com"
        assert request.extensions["sni_hostname"] == "hooks.example.com"
        headers = dict(request.headers)
        for secret in (SECRET, NEXT):
            event = Webhook(secret).verify(request.content, headers)
        assert event["type"] == "job.succeeded"
        assert event["data"]["result"] == "/v1/results/res-1"
        assert len(request.content) < 500
        earlier = str(int(headers["webhook-timestamp"]) - 1)
        for changed in ({"webhook-id": "other"}, {"webhook-timestamp": earlier}):
            with pytest.raises(WebhookVerificationError):
                Webhook(SECRET).verify(request.content, headers | changed)

    async def test_a_failure(self, stores):
        told = Told(stores)
        error = {"type": "/problems/bad-pairs", "title": "Bad", "status": 422, "detail": "No."}
        await told.tell(await told.job(JobState.FAILED, error={**error, "items": ["x"] * 1000}))
        assert json.loads(told.asked[0].content)["data"]["error"] == error

    @pytest.mark.parametrize("needs_review", [True, False, None])
    async def test_whether_the_picture_needs_a_look(self, stores, needs_review):
        told = Told(stores)
        await told.tell(await told.job(needs_review=needs_review, result="/v1/results/res-1"))
        assert json.loads(told.asked[0].content)["data"]["needs_review"] is needs_review

    @pytest.mark.parametrize("private", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "fd00::1"])
    async def test_private_addresses(self, stores, private):
        """A listed name that leads into the network is not followed, not even among others."""
        told = Told(stores, addresses=("93.184.216.34", private))
        with pytest.raises(RetriesExhausted, match="private"):
            await told.tell(await told.job(), waits_s=())
        assert not told.asked
        await told.tell(await stores.jobs.load("hook-job-1-succeeded"), allow_private=True)

    @pytest.mark.parametrize("answer", [302, 307, 404, 500, httpx.ReadTimeout("")])
    async def test_again_and_given_up(self, stores, answer):
        told = Told(stores, *[answer] * 3)
        delivery = await told.job()
        for wait in (1.0, 2.0):
            with pytest.raises(RetryLater) as later:
                await told.tell(delivery)
            assert wait <= later.value.seconds <= 1.2 * wait
        with pytest.raises(RetriesExhausted, match="3 times"):
            await told.tell(delivery)
        assert len({request.headers["webhook-id"] for request in told.asked}) == 1
        assert {request.url.host for request in told.asked} == {"93.184.216.34"}

    async def test_before_the_end(self, stores):
        """A delivery that a crash has left before the end of its job waits for that end."""
        told = Told(stores)
        delivery = await told.job(JobState.RUNNING)
        with pytest.raises(RetryLater):
            await told.tell(delivery)
        await stores.jobs.finish("job-1", JobState.FAILED, error={"detail": "No."})
        assert await told.tell(delivery) == "/v1/jobs/job-1"
        assert not told.asked  # it has ended otherwise, of which another delivery tells


async def test_a_receiver_that_is_down(place, stores, tmp_path):
    """It gets the event when it is up again, each end of a job once: the example of the docs."""
    port = free_port()
    allowed = webhooks("127.0.0.1", allow_private=True)
    handler = WebhookHandler(stores.jobs, allowed, waits_s=[0.2] * 500)
    async with place.working(stores, webhook=handler) as queue:
        for name in ("job-1", "job-2"):
            job = place.job(name)
            job.about = JobAbout(webhook=f"http://127.0.0.1:{port}/")
            await queue.submit(job)
            assert (await ended(stores, name)).state is JobState.SUCCEEDED
        async for delivery in stores.jobs.watch("hook-job-1-succeeded"):
            if delivery.progress.done >= 2:
                break
        script, log = tmp_path / "receiver.py", tmp_path / "receiver.log"
        script.write_text(RECEIVER)
        env = {"WEBHOOK_SECRET": SECRET, "PORT": str(port)}
        with ProcessGroup([sys.executable, script], log=log, env=env):
            for name in ("job-1", "job-2"):
                assert (await ended(stores, f"hook-{name}-succeeded")).error is None
    lines = [line for line in log.read_text().splitlines() if line.startswith("job.")]
    assert sorted(lines) == [f"job.succeeded job-{k} /v1/results/job-{k}" for k in (1, 2)]


async def test_cancelled(place, stores):
    async with place.queue(stores) as queue:
        job = place.job("job-1")
        job.about = JobAbout(webhook=URL)
        await queue.submit(job)
        await queue.cancel("job-1")
        await queue.cancel("job-1")
    unfinished = [job.id for job in await stores.jobs.unfinished()]
    assert unfinished == ["hook-job-1-cancelled"]
