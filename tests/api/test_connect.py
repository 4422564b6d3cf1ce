"""Upscalers that are not configured, tried over HTTP by an admin; and the command that does it."""

from tests.api.gateway import AS_ADMIN, check_problem
from tests.live import serving
from tests.upscalers.remote.pictures import TOKEN
from tests.upscalers.test_connect import answering

PROBE = "/v1/admin/upscalers/probe"


def test_an_admin_may(client, start):
    """Private addresses where the operator allows them; files never; the key is kept nowhere."""
    with serving(answering()) as address:
        wish = {"address": f"http://{address}", "token": TOKEN, "settings": {"price_per_call": 2}}
        check_problem(client.post(PROBE, json=wish, headers=AS_ADMIN), "bad-request")
        opened = start(connect_private=True)

        def ask(**more):
            return opened.post(PROBE, json={**wish, **more}, headers=AS_ADMIN)

        looked = ask().json()
        assert (looked["tried"], looked["scale"]) == (False, None)
        cost = looked["calibration"]
        assert cost["price"] == 2 * cost["calls"] == 2 * cost["pictures"] * cost["kinds"]
        tried = ask(call=True)
        assert tried.json()["entry"]["answer"] == {"image": "json", "pointer": "/b"}
        assert 'token_env = "UPSCALER_TOKEN"' in tried.json()["toml"]
        log = opened.get("/v1/admin/audit", headers=AS_ADMIN)
        assert [entry["facts"]["call"] for entry in log.json()] == [True, False]
        assert TOKEN not in tried.text + log.text
        check_problem(ask(address="model.onnx"), "bad-request")
        check_problem(ask(address="x://../../etc/model.onnx"), "bad-request")
        for kind in ("embedded", []):
            check_problem(ask(settings={"kind": kind, "model": "/dev/zero"}), "bad-request")
        said = check_problem(
            ask(settings={"token_env": "A", "concurency": 1}, call=True), "bad-request"
        )
        assert "did you mean concurrency" in said["detail"]
        check_problem(ask(settings={"price_per_call": "much"}), "bad-request")
        assert TOKEN not in str(check_problem(ask(call="perhaps", token=[TOKEN]), "bad-request"))
