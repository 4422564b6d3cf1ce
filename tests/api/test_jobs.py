"""Prefer: respond-async, and Idempotency-Key: nothing is lost, and nothing is paid twice."""

import asyncio
import io
import json
import threading
from datetime import datetime

import pytest
from PIL import Image

from harness.admin import BASE, pair_files, zipped
from harness.factories import encoded, photo
from harness.fakes import FakeUpscaler
from harness.faults import FaultServer, answer
from harness.gateway import ADMIN_KEY, AS_ADMIN, check_problem, client_of, ended, post
from harness.waiting import until
from trustscale_server.platform.errors import UpscalerFailed
from trustscale_server.upscalers.base import Capabilities

ASYNC = {"Prefer": "respond-async"}


def events(text):
    found = []
    for block in text.replace("\r\n", "\n").strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "data" in lines:
            assert lines["event"] == "job"
            found.append(json.loads(lines["data"]))
    return found


class TestAccepted:
    def test_202_and_the_result(self, client, upscaler):
        headers = {"Prefer": "handling=strict, Respond-Async; wait=5"}
        response = post(client, headers=headers, alpha=0.1, seed=4)
        assert response.status_code == 202
        assert response.headers["preference-applied"] == "respond-async"
        job = response.json()
        location = response.headers["location"]
        assert location == f"/v1/jobs/{job['id']}"
        assert (job["kind"], job["state"], job["result"]) == ("upscale", "queued", None)
        done = ended(client, location)
        assert (done["state"], done["error"]) == ("succeeded", None)
        assert done["progress"] == {"done": 4, "total": 4, "unit": "samples"}
        times = [done[name] for name in ("created_at", "started_at", "finished_at")]
        assert times == sorted(times, key=datetime.fromisoformat)
        result = client.get(done["result"]).json()
        assert (result["alpha"], result["seed"]) == (0.1, 4)
        wanted = result["review"]["needs_review"]
        assert (job["needs_review"], done["needs_review"]) == (None, wanted)
        assert "accept" not in job | result["review"]
        direct = post(client, alpha=0.1, seed=4).json()
        for part in ("image", "mask", "trust", "overlay"):
            one, other = (client.get(r["links"][part]).content for r in (result, direct))
            assert one == other

    def test_a_failure_is_told_as_a_problem(self, client, upscaler):
        check_problem(post(client, b"text", headers=ASYNC), "unsupported-media")
        check_problem(post(client, headers=ASYNC, alpha="x"), "bad-alpha")
        upscaler.failure = UpscalerFailed("The model broke.")
        job = ended(client, post(client, headers=ASYNC).headers["location"])
        assert (job["state"], job["result"]) == ("failed", None)
        assert job["error"]["type"] == "/problems/upscaler-failed"
        assert "The model broke." in job["error"]["detail"]

    def test_a_result_that_is_gone(self, start):
        """A job whose result made room for others says so, and no link of a job leads nowhere."""
        client = start(max_result_bytes=20_000)
        jobs = [post(client, headers=ASYNC).headers["location"] for _ in range(8)]
        for job in jobs:
            ended(client, job)
        told = [client.get(job).json() for job in jobs]
        states = [job["state"] for job in told]
        assert set(states) == {"succeeded", "expired"}
        for job in told:
            assert (job["result"] is None) == (job["state"] == "expired")
            assert job["result"] is None or client.get(job["result"]).status_code == 200
        gone = jobs[states.index("expired")]
        assert client.delete(gone).json()["state"] == "expired"
        assert events(client.get(f"{gone}/events").text)[-1]["state"] == "expired"
        count = float(states.count("expired"))
        removed = f'trustscale_results_removed_total{{reason="space"}} {count}'
        assert removed in client.get("/metrics").text.splitlines()


async def test_events_until_the_last_state(serve):
    sent, looks = [], []

    def text():
        """What was sent so far, without an event that is not complete."""
        return b"".join(sent).decode().replace("\r\n", "\n").rpartition("\n\n")[0]

    class Told(FakeUpscaler):
        """Makes a sample once the stream has reported the one before."""

        async def generate(self, source, seeds, permit=None):
            done = len(self.calls)
            await until(lambda: done in [job["progress"]["done"] for job in events(text())])
            draft = events(text())[-1]["draft"]
            looks.append(draft and await served.client.get(draft))
            return await super().generate(source, seeds, permit)

    async with serve(Told(capabilities=Capabilities())) as served:

        async def heard(scope, receive, send):
            async def forward(message):
                sent.append(message.get("body", b""))
                await send(message)

            await served.app(scope, receive, forward)

        client = client_of(heard)
        location = (await served.post(headers=ASYNC)).headers["location"]
        sent.clear()
        response = await client.get(f"{location}/events")
        assert response.headers["content-type"].startswith("text/event-stream")
        told = events(response.text)
        assert told[-1]["state"] == "succeeded"
        assert told[-1] == (await client.get(location)).json()
        progress = [job["progress"]["done"] for job in told]
        assert progress == sorted(progress)
        assert {*progress} == {0, 1, 2, 3, 4}
        assert looks[0] is told[-1]["draft"] is None  # before the first sample, after the last
        for look in looks[1:]:
            assert Image.open(io.BytesIO(look.content)).size == (48, 48)
        assert (await client.get(f"{location}/draft.webp")).status_code == 404
        await client.aclose()


async def test_running_and_queued(serve):
    upscaler = FakeUpscaler(seconds=60)
    async with serve(upscaler, max_in_flight=1) as served:
        client = served.client
        jobs = [(await served.post(headers=ASYNC)).headers["location"] for _ in range(2)]
        await until(lambda: upscaler.calls)
        states = {(await client.get(job)).json()["state"]: job for job in jobs}
        queued = await client.delete(states["queued"])
        assert queued.json()["state"] == "cancelled"
        watching = asyncio.create_task(served.events(states["running"]))
        assert (await client.delete(states["running"])).status_code == 200
        last = events(await asyncio.wait_for(watching, 60))[-1]
        assert (last["state"], last["result"]) == ("cancelled", None)
        assert upscaler.cancelled == len(upscaler.calls)
        upscaler.seconds, calls = 0, len(upscaler.calls)
        later = await served.post(headers=ASYNC)
        assert '"succeeded"' in await served.events(later.headers["location"])
        assert len(upscaler.calls) == calls + 4


async def test_a_client_that_hangs_up_before_the_answer(serve, monkeypatch):
    async with serve(FakeUpscaler(seconds=60)) as served:
        queue, jobs = served.state.services.queue, []
        submit = queue.submit

        async def leaving(job):
            jobs.append(await submit(job))
            client.leave()
            return jobs[-1]

        monkeypatch.setattr(queue, "submit", leaving)
        client = served.hanging(headers=ASYNC)
        await client.answered
        assert events(await served.events(f"/v1/jobs/{jobs[0].id}"))[-1]["state"] == "cancelled"


class TestWebhook:
    def test_refused(self, client, upscaler):
        """Where no host is allowed, and for who waits for the answer, it is refused unpaid."""
        for headers in ({}, ASYNC):
            check_problem(post(client, headers=headers, webhook="https://x.org"), "bad-request")
        assert upscaler.calls == []

    async def test_told(self, serve):
        """The receiver hears of the result, and the delivery is a job that can be looked at."""
        settings = {"webhook_hosts": "127.0.0.1", "allow_private_networks": "webhooks"}
        settings["webhook_secrets"] = "whsec_" + "c2VjcmV0" * 4
        async with FaultServer([answer(204)]) as receiver, serve(**settings) as served:
            webhook = f"{receiver.url}/told"
            job = (await served.post(webhook=webhook, headers=ASYNC)).json()
            await until(lambda: receiver.asked)
            event = json.loads(receiver.asked[0].body)
            assert event["type"] == "job.succeeded"
            assert (await served.client.get(event["data"]["result"])).status_code == 200
            delivery = f"/v1/jobs/hook-{job['id']}-succeeded"
            last = events(await served.events(delivery))[-1]
            assert (last["kind"], last["state"]) == ("webhook", "succeeded")


FILES = pair_files(2)
ZIP = {"Accept": "application/zip"}
ROUNDS = 3


def key(name="once", **headers):
    return {"Idempotency-Key": name, **headers}


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.servers)])
def store(request):
    return {} if request.param == "sqlite" else {"store": request.getfixturevalue("redis_url")}


async def test_connections_that_drop(serve, store):
    """A client that hangs up while its samples are made finds them later: they are paid once."""
    gate = threading.Event()
    upscaler = FakeUpscaler(gate=gate)
    async with serve(upscaler, embedded_job_worker=False, max_in_flight=4, **store) as served:
        for number in range(ROUNDS):
            gate.clear()
            upscaler.calls.clear()
            keys = [f"{number}-{k}" for k in range(4)]
            dropped = [served.hanging(headers=key(name)) for name in keys]
            await until(lambda: len(upscaler.calls) == 16)
            for request in dropped:
                request.leave()
            gate.set()
            repeated = [served.post(headers=key(name, **ZIP)) for name in keys]
            assert {answer.status_code for answer in await asyncio.gather(*repeated)} == {200}
            await asyncio.gather(*(request.answered for request in dropped))
            assert len(upscaler.calls) == 16
        assert served.state.context.slots.in_flight == 0


@pytest.mark.servers
async def test_two_gateways(serve, redis_url, tmp_path):
    """What one gateway is making another one waits for; what it has made the other one gives."""
    upscaler = FakeUpscaler(gate=threading.Event())
    shared = {"store": redis_url, "queue": redis_url, "blobs": f"file://{tmp_path}/shared"}
    shared["embedded_job_worker"] = False
    async with (
        serve(upscaler, folder="a", **shared) as one,
        serve(upscaler, folder="b", **shared) as other,
    ):
        requests = [asyncio.create_task(door.post(headers=key())) for door in (one, other) * 3]
        await until(lambda: upscaler.calls)
        upscaler.gate.set()
        answers = {(await request).text for request in requests}
        assert len(answers) == 1
        assert len(upscaler.calls) == 4


async def test_a_gateway_that_died(serve, monkeypatch):
    """A claim that nobody renews runs out, and the request is made anew."""
    async with serve() as served:
        claims, looks = served.state.services.stores.claims, []
        claim = claims.claim

        async def behind_the_dead(name, value, *, seconds):
            dead = value.replace(b'"by": "', b'"by": "x')
            if not looks:
                await claim(name, dead, seconds=600)
            looks.append(await claim(name, value, seconds=seconds))
            await claims.replace(name, dead, dead, seconds=1e-3)  # once it has been seen
            return looks[-1]

        monkeypatch.setattr(claims, "claim", behind_the_dead)
        assert (await served.post(headers=key())).status_code == 200
        assert len(looks) > 1


class TestRepeated:
    def test_a_result(self, client, upscaler):
        """The same result, in whatever form it is asked for again, and for nothing."""
        first, calls = post(client, headers=key("result")), len(upscaler.calls)
        assert post(client, headers=key("result")).json() == first.json()
        again = post(client, headers=key("result", **ZIP))
        assert again.headers["content-location"] == first.json()["links"]["self"]
        assert len(upscaler.calls) == calls
        assert post(client, headers=key("another")).json()["id"] != first.json()["id"]
        assert post(client).json()["id"] != first.json()["id"]
        # A key that was sent with another body, and an empty or endless one.
        for other in ({"alpha": 0.2}, {"image": encoded(photo(1, 24, 24))}):
            problem = check_problem(post(client, headers=key("result"), **other), "bad-request")
            assert "Idempotency-Key" in problem["detail"]
        for bad in ("", "x" * 256):
            check_problem(post(client, headers=key(bad)), "bad-request")

    def test_a_job(self, client):
        jobs = {post(client, headers=key("job", **ASYNC)).headers["location"] for _ in range(3)}
        assert len(jobs) == 1
        fourth = post(client, headers=key("job"))
        assert fourth.status_code == 202
        assert fourth.headers["location"] in jobs

    def test_what_failed_may_be_tried_again(self, client, upscaler):
        """Nothing is kept of a request that made nothing: the key is free for any other."""
        upscaler.failure = UpscalerFailed("The model broke.")
        check_problem(post(client, headers=key("failed")), "upscaler-failed")
        upscaler.failure = None
        assert post(client, headers=key("failed"), alpha=0.3).status_code == 200

    def test_whose_and_how_long(self, start):
        """Keys are their callers'; a result under one lives as long as it, not as other results."""
        client, ids = start(client_keys=["one", "two"], result_ttl_s=1e-3), set()
        for secret in ("one", "two", ADMIN_KEY):
            caller = {"Authorization": f"Bearer {secret}"}
            first, again = (post(client, headers=key("mine", **caller)).json() for _ in range(2))
            assert first == again
            assert client.get(first["links"]["self"], headers=caller).status_code == 200
            ids.add(first["id"])
            gone = post(client, headers=caller).json()["links"]["self"]
            check_problem(client.get(gone, headers=caller), "not-found")
        assert len(ids) == 3


async def test_nothing_was_paid_yet(serve):
    """Who hangs up before the first sample leaves no work behind, and the key is free."""
    upscaler = FakeUpscaler(seconds=60)
    async with serve(upscaler, max_in_flight=1) as served:
        slots = served.state.context.slots
        async with slots.slot():
            waiting = served.hanging(headers=key())
            await until(lambda: slots.waiting)
            assert await waiting.hang_up() == 499
        assert not upscaler.calls
        upscaler.seconds = 0
        assert (await served.post(headers=key(), alpha=0.3)).status_code == 200


class TestCalibrations:
    def test_making_one(self, start):
        client = start(embedded_job_worker=False)
        archive = {"archive": ("pairs.zip", zipped(FILES))}
        loose = [("y", (name[2:], data)) for name, data in FILES.items() if name[0] == "y"]
        for number, files in enumerate((archive, loose)):
            headers = AS_ADMIN | key(f"calibrate-{number}")
            jobs = {client.post(BASE, files=files, headers=headers).json()["id"] for _ in range(2)}
            assert len(jobs) == 1
            other = client.post(BASE, files=files, data={"group_by": "folder"}, headers=headers)
            check_problem(other, "bad-request")
        renamed = [(field, (f"other-{name}", data)) for field, (name, data) in loose]
        check_problem(client.post(BASE, files=renamed, headers=headers), "bad-request")

    @pytest.mark.parametrize("way", ["body", "form"])
    def test_import(self, client, calibration, way):
        exported = client.get(f"{BASE}/{calibration.id}/export", headers=AS_ADMIN).content

        def imported(data, query=""):
            sent = {"content": data} if way == "body" else {"files": {"file": ("c", data)}}
            return client.post(f"{BASE}/import{query}", headers=AS_ADMIN | key(way), **sent)

        first, again = imported(exported), imported(exported)
        assert (first.status_code, first.json()) == (again.status_code, again.json())
        assert again.headers["location"] == f"{BASE}/{calibration.id}"
        check_problem(imported(exported + b" "), "bad-request")
        check_problem(imported(exported, "?force=true"), "bad-request")
