"""The audit log over HTTP."""

from __future__ import annotations

import json

import pytest

from tests.api.admin import Admin, truth_files
from tests.api.gateway import ADMIN_KEY, check_problem
from tests.api.test_admin_calibrations import exported


@pytest.fixture
def fresh(start) -> Admin:
    """A gateway of its own, with the session's calibration active."""
    return Admin(start())


def test_who_did_what(fresh, calibration):
    """Every change is kept with its key, the newest first, page by page; reading is not."""
    made = fresh.create(truth_files(3))
    fresh.send("POST", f"/{made['id']}/activate", json={"force": True})
    fresh.send("POST", f"/{calibration.id}/activate")
    smaller = fresh.send("DELETE", f"/{made['id']}/pairs/000").json()
    fresh.send("DELETE", f"/{smaller['id']}")
    fresh.send("POST", "/import", content=exported(fresh, made["id"]))
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    entries = fresh.client.get("/v1/admin/audit", headers=headers).json()
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
    page = fresh.client.get(
        "/v1/admin/audit", headers=headers, params={"limit": 2, "before": entries[1]["id"]}
    ).json()
    assert page == entries[2:4]


@pytest.mark.parametrize("before", [0, -1, 2**63, 10**30])
def test_ids_that_cannot_be(client, before):
    """An id that the store cannot hold is a bad request."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    params = {"before": before}
    check_problem(client.get("/v1/admin/audit", headers=headers, params=params), "bad-request")


def test_refused_actions_leave_no_entry(fresh, calibration):
    """What did not happen is not claimed."""
    fresh.send("DELETE", f"/{calibration.id}")
    fresh.send("POST", "/cal-unknown/activate")
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    assert fresh.client.get("/v1/admin/audit", headers=headers).json() == []
