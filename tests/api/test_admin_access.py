"""Nobody but an admin: every admin path, tried with every other key; and who did what."""

from __future__ import annotations

import json

from tests.api.admin import BASE, truth_files
from tests.api.gateway import ADMIN_KEY, AS_ADMIN, check_problem
from tests.api.test_admin_calibrations import exported


def test_keys(start, client):
    """On every path: without a key 401, before anything is judged; for a client's key 403.

    So it is also where the public API is open.
    """
    guarded = start(client_keys=["client-key"])
    # From the whole application, so that a router that is added later is tried too.
    routes = [
        (method.upper(), path.replace("{part}", "y").replace("{", "").replace("}", ""))
        for path, operations in client.get("/openapi.json").json()["paths"].items()
        for method in operations
        if path.startswith("/v1/admin")
    ]
    assert len(routes) >= 18
    assert ("PUT", f"{BASE}/calibration_id/pairs/name/label.png") in routes
    for method, path in routes:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": ""}):
            for door in (client, guarded):
                response = door.request(method, path, headers=headers)
                check_problem(response, "unauthorized")
                assert response.headers["www-authenticate"].startswith("Bearer")
        response = guarded.request(method, path, headers={"X-API-Key": "client-key"})
        check_problem(response, "forbidden")


async def test_strangers_cannot_fill_the_disk(serve):
    """The body of an upload without the key is not even read."""
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 1
            yield bytes(65536)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    async with serve() as served:
        response = await served.client.post(BASE, content=endless(), headers=headers)
    assert response.status_code == 401
    assert sent <= 1


def test_who_did_what(fresh, calibration):
    """Every change is kept with its key, the newest first, page by page; nothing else is."""
    fresh.send("DELETE", f"/{calibration.id}")  # refused: what did not happen is not claimed
    fresh.send("POST", "/cal-unknown/activate")
    made = fresh.create(truth_files(3))
    fresh.send("POST", f"/{made['id']}/activate", json={"force": True})
    fresh.send("POST", f"/{calibration.id}/activate")
    smaller = fresh.send("DELETE", f"/{made['id']}/pairs/000").json()
    fresh.send("DELETE", f"/{smaller['id']}")
    fresh.send("POST", "/import", content=exported(fresh, made["id"]))
    entries = fresh.audit()
    done = [entry["action"].removeprefix("calibration.") for entry in entries]
    assert done == ["import", "delete", "remove_pair", "activate", "activate", "create"]
    assert {entry["actor"] for entry in entries} == {made["provenance"]["created_by"]}
    assert ADMIN_KEY not in json.dumps(entries)
    assert entries[3]["facts"] == {
        "calibration": calibration.id,
        "previous": made["id"],
        "only": False,
    }
    assert fresh.audit(limit=2, before=entries[1]["id"]) == entries[2:4]

    # Ids that the store cannot hold are bad requests.
    for before in (0, -1, 2**63, 10**30):
        asked = fresh.client.get("/v1/admin/audit", headers=AS_ADMIN, params={"before": before})
        check_problem(asked, "bad-request")
