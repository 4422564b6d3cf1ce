"""Idempotency-Key: a request that is sent again is not paid again."""

import asyncio
import threading

import pytest

from app.errors import UpscalerFailed
from tests.api.admin import BASE, pair_files, zipped
from tests.api.gateway import ADMIN_KEY, AS_ADMIN, check_problem, post
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler
from tests.waiting import until

ASYNC = {"Prefer": "respond-async"}
FILES = pair_files(2)
ZIP = {"Accept": "application/zip"}
ROUNDS = 3
STORES = ["sqlite", pytest.param("redis", marks=pytest.mark.servers)]


def key(name="once", **headers):
    return {"Idempotency-Key": name, **headers}


@pytest.fixture(params=STORES)
def store(request):
    return {} if request.param == "sqlite" else {"store": request.getfixturevalue("redis_url")}


async def test_connections_that_drop(serve, store):
    """A client that hangs up while its samples are made finds them later: they are paid once."""
    gate = threading.Event()
    upscaler = FakeUpscaler(gate=gate)
    async with serve(upscaler, run_jobs=False, max_in_flight=4, **store) as served:
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
        assert served.state.service.slots.in_flight == 0


@pytest.mark.servers
async def test_two_gateways(serve, redis_url, tmp_path):
    """What one gateway is making another one waits for; what it has made the other one gives."""
    upscaler = FakeUpscaler(gate=threading.Event())
    shared = {"store": redis_url, "queue": redis_url, "blobs": f"file://{tmp_path}/shared"}
    shared["run_jobs"] = False
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
        claims, looks = served.state.stores.claims, []
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
        first = post(client, headers=key("result"))
        calls = len(upscaler.calls)
        assert post(client, headers=key("result")).json() == first.json()
        again = post(client, headers=key("result", **ZIP))
        assert again.headers["content-location"] == first.json()["links"]["self"]
        assert len(upscaler.calls) == calls
        assert post(client, headers=key("another")).json()["id"] != first.json()["id"]
        assert post(client).json()["id"] != first.json()["id"]

    def test_a_job(self, client):
        jobs = {post(client, headers=key("job", **ASYNC)).headers["location"] for _ in range(3)}
        assert len(jobs) == 1
        fourth = post(client, headers=key("job"))
        assert fourth.status_code == 202
        assert fourth.headers["location"] in jobs

    def test_refused(self, client):
        """A key that was sent with another body, and an empty or endless one."""
        post(client, headers=key("body"))
        for other in ({"alpha": 0.2}, {"image": encoded(photo(1, 24, 24))}):
            problem = check_problem(post(client, headers=key("body"), **other), "bad-request")
            assert "Idempotency-Key" in problem["detail"]
        for bad in ("", "x" * 256):
            check_problem(post(client, headers=key(bad)), "bad-request")

    def test_what_failed_may_be_tried_again(self, client, upscaler):
        """Nothing is kept of a request that made nothing: the key is free for any other."""
        upscaler.failure = UpscalerFailed("The model broke.")
        check_problem(post(client, headers=key("failed")), "upscaler-failed")
        upscaler.failure = None
        assert post(client, headers=key("failed"), alpha=0.3).status_code == 200

    def test_a_result_that_is_gone(self, start):
        """It is made again; under a key it lives as long as the key, not as other results."""
        upscaler = FakeUpscaler()
        client = start(upscaler, result_ttl_s=1e-3)
        first = post(client, headers=key()).json()
        assert client.get(first["links"]["self"]).status_code == 200
        check_problem(client.get(post(client).json()["links"]["self"]), "not-found")
        assert post(client, headers=key()).json() == first

    def test_keys_belong_to_their_callers(self, start):
        client, ids = start(client_keys=["one", "two"]), set()
        for secret in ("one", "two", ADMIN_KEY):
            headers = key("mine", Authorization=f"Bearer {secret}")
            ids |= {post(client, headers=headers).json()["id"] for _ in range(2)}
        assert len(ids) == 3


async def test_nothing_was_paid_yet(serve):
    """Who hangs up before the first sample leaves no work behind, and the key is free."""
    upscaler = FakeUpscaler(seconds=60)
    async with serve(upscaler, max_in_flight=1) as served:
        slots = served.state.service.slots
        async with slots.slot():
            waiting = served.hanging(headers=key())
            await until(lambda: slots.waiting)
            assert await waiting.hang_up() == 499
        assert not upscaler.calls
        upscaler.seconds = 0
        assert (await served.post(headers=key(), alpha=0.3)).status_code == 200


class TestCalibrations:
    def test_making_one(self, start):
        """One job for one key, from an archive or from files; other pairs are refused."""
        client = start(run_jobs=False)
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
        """An import answers again as before; another file is refused, and another query."""
        exported = client.get(f"{BASE}/{calibration.id}/export", headers=AS_ADMIN).content

        def imported(data, query=""):
            sent = {"content": data} if way == "body" else {"files": {"file": ("c", data)}}
            return client.post(f"{BASE}/import{query}", headers=AS_ADMIN | key(way), **sent)

        first, again = imported(exported), imported(exported)
        assert (first.status_code, first.json()) == (again.status_code, again.json())
        assert again.headers["location"] == f"{BASE}/{calibration.id}"
        check_problem(imported(exported + b" "), "bad-request")
        check_problem(imported(exported, "?force=true"), "bad-request")
