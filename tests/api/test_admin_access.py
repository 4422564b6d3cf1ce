"""Nobody but an admin: every admin path, tried with every other key."""

from __future__ import annotations

import pytest

from app.api import calibrations
from app.main import create_app
from app.settings import Settings
from tests.api.gateway import check_problem

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
