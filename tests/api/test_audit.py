"""The audit log over HTTP."""

from __future__ import annotations

import json

import pytest

from tests.api.admin import truth_files
from tests.api.gateway import ADMIN_KEY, AS_ADMIN, check_problem
from tests.api.test_admin_calibrations import exported


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
