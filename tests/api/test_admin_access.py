"""Nobody but an admin: every admin path, tried with every other key; and who did what."""

from __future__ import annotations

import json

import pytest

from app.api import calibrations
from app.main import create_app
from app.settings import Settings
from tests.api.admin import truth_files
from tests.api.gateway import ADMIN_KEY, AS_ADMIN, check_problem
from tests.api.test_admin_calibrations import exported

# From the whole application, so that a router that is added later is tried too.
ROUTES = [
    (method.upper(), path.replace("{part}", "y").replace("{", "").replace("}", ""))
    for path, operations in create_app(Settings(data_dir="nowhere")).openapi()["paths"].items()
    for method in operations
    if path.startswith("/v1/admin")
]


@pytest.fixture
def guarded(start):
    """A gateway with client keys."""
    return start(client_keys=["client-key"])


def test_all_routes_are_here():
    """The list below is the whole admin API."""
    assert len(ROUTES) >= 18
    assert ("PUT", f"{calibrations.router.prefix}/calibration_id/pairs/name/label.png") in ROUTES


class TestKeys:
    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_without_a_key(self, client, method, path):
        """401 on every path, also where the public API is open, and before anything is judged."""
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": ""}):
            response = client.request(method, path, headers=headers)
            check_problem(response, "unauthorized")
            assert response.headers["www-authenticate"].startswith("Bearer")

    def test_with_a_client_key(self, guarded):
        """A client's key is valid, but not for this: 403."""
        for method, path in ROUTES:
            response = guarded.request(method, path, headers={"X-API-Key": "client-key"})
            check_problem(response, "forbidden")

    async def test_strangers_cannot_fill_the_disk(self, serve):
        """The body of an upload without the key is not even read."""
        sent = 0

        async def endless():
            nonlocal sent
            while True:
                sent += 1
                yield bytes(65536)

        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        async with serve() as served:
            path = calibrations.router.prefix
            response = await served.client.post(path, content=endless(), headers=headers)
        assert response.status_code == 401
        assert sent <= 1


def test_who_did_what(fresh, calibration):
    """Every change is kept with its key, the newest first, page by page; reading is not."""
    made = fresh.create(truth_files(3))
    fresh.send("POST", f"/{made['id']}/activate", json={"force": True})
    fresh.send("POST", f"/{calibration.id}/activate")
    smaller = fresh.send("DELETE", f"/{made['id']}/pairs/000").json()
    fresh.send("DELETE", f"/{smaller['id']}")
    fresh.send("POST", "/import", content=exported(fresh, made["id"]))
    entries = fresh.audit()
    assert [entry["action"].removeprefix("calibration.") for entry in entries] == [
        "import",
        "delete",
        "remove_pair",
        "activate",
        "activate",
        "create",
    ]
    assert {entry["actor"] for entry in entries} == {made["provenance"]["created_by"]}
    assert ADMIN_KEY not in json.dumps(entries)
    assert entries[3]["facts"] == {"calibration": calibration.id, "previous": made["id"]}
    assert fresh.audit(limit=2, before=entries[1]["id"]) == entries[2:4]


@pytest.mark.parametrize("before", [0, -1, 2**63, 10**30])
def test_ids_that_cannot_be(client, before):
    """An id that the store cannot hold is a bad request."""
    params = {"before": before}
    check_problem(client.get("/v1/admin/audit", headers=AS_ADMIN, params=params), "bad-request")


def test_refused_actions_leave_no_entry(fresh, calibration):
    """What did not happen is not claimed."""
    fresh.send("DELETE", f"/{calibration.id}")
    fresh.send("POST", "/cal-unknown/activate")
    assert fresh.audit() == []
