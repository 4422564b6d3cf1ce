"""The service keeps to its OpenAPI document, whatever is sent under it."""

import asyncio
import json
import re
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.admin import Admin, truth_files, zipped
from harness.factories import calibration_of, encoded, photo
from harness.fakes import FakeUpscaler
from harness.gateway import ADMIN_KEY, IMAGE, form, gateway
from tests.live import serving
from trustscale_server.http.forms import FORM_TYPES

pytestmark = pytest.mark.slow

CLIENT_KEY = "client-key"
KEYS = {
    "nobody": {},
    "a client": {"X-API-Key": CLIENT_KEY},
    "an admin": {"Authorization": f"Bearer {ADMIN_KEY}"},
    "a stranger": {"Authorization": "Bearer wrong"},
}
FILES = {
    "image": IMAGE,
    "truth": encoded(photo(1000, 48, 48)),
    "archive": zipped(truth_files(2)),
    "config": '{"samples": 2, "activate": false}',
}
# Most requests get past the door.
WHO = st.sampled_from([*sorted(KEYS), "an admin", "an admin", "an admin", "an admin"])
EXAMPLES = 16

# That of this program (test_architecture.py).
DOCUMENT = json.loads((Path(__file__).parents[2] / "docs/openapi.json").read_text("utf-8"))
LABELS = [
    f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods
]


@pytest.fixture(scope="module")
def operations():
    # Every process of the tests that only collects this one would pay two seconds for it.
    import schemathesis  # noqa: PLC0415

    results = schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
    operations = {operation.label: operation for operation in (each.ok() for each in results)}
    assert operations.keys() == {*LABELS}
    return operations


class Live(NamedTuple):
    url: str
    known: dict[str, str]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    calibration = asyncio.run(calibration_of(FakeUpscaler(), 8))
    folder = tmp_path_factory.mktemp("live")
    with serving(gateway(folder, calibrations=[calibration], client_keys=[CLIENT_KEY])) as address:
        url = f"http://{address}"
        with httpx.Client(base_url=url, headers=KEYS["an admin"]) as client:
            result = client.post("/v1/upscale", **form(seed=1)).json()
            job = Admin(client).post_files(truth_files(2), activate=False).json()
        ids = {"result_id": result["id"], "job_id": job["id"], "calibration_id": calibration.id}
        yield Live(url, ids)


PROBE = "POST /v1/admin/upscalers/probe"
AWAY = "/problems/upscaler-unavailable"


# The gateway runs in threads of this process, and may draw a number while an example is made.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("label", LABELS)
def test_an_operation(live, operations, label):
    """No 5xx; statuses, media types and bodies are those that the document promises."""
    from schemathesis.specs.openapi import checks as conformance  # noqa: PLC0415 - as above

    checks = [
        conformance.status_code_conformance,
        conformance.content_type_conformance,
        conformance.response_schema_conformance,
    ]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=operations[label].as_strategy(), who=WHO, is_real=st.booleans())
    def check(case, who, is_real):
        if is_real:
            for name in set(case.path_parameters or {}) & set(live.known):
                case.path_parameters[name] = live.known[name]
            for name in set(FILES) & set(case.body if isinstance(case.body, dict) else ()):
                case.body[name] = FILES[name]
        response = case.call(base_url=live.url, headers=KEYS[who], timeout=120)
        # A drawn address may be valid, and nobody there.
        if label != PROBE or response.json().get("type") != AWAY:
            assert response.status_code < 500, response.text[:500]
        case.validate_response(response, checks=checks)

    check()


def test_what_is_refused_is_no_valid_request():
    """Fields that a form does not take, empty groups, and other texts than ETags."""
    schemas = DOCUMENT["components"]["schemas"]
    forms = [
        schemas.get(form["schema"].get("$ref", "").rpartition("/")[2], form["schema"])
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
        for kind, form in operation.get("requestBody", {}).get("content", {}).items()
        if kind in FORM_TYPES
    ]
    assert len(forms) >= 5
    assert all(form["additionalProperties"] is False for form in forms)
    told = {
        (operation["operationId"], parameter["name"].lower()): parameter["schema"]
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", ())
    }
    assert told["get_calibration", "group"]["anyOf"][0]["minLength"] == 1
    for header, fits in (("if-match", '"v3"'), ("if-none-match", "*")):
        pattern = told["put_label", header]["pattern"]
        assert re.search(pattern, fits)
        assert not re.search(pattern, "")
