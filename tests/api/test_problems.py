"""Every kind of failure, as its problem document; and no input is a mistake of ours."""

import json
import re

import numpy as np
import pytest

from harness.admin import BASE, SAMPLES, truth_files, zipped
from harness.factories import encoded, photo
from harness.fakes import FakeUpscaler
from harness.gateway import ADMIN_KEY, AS_ADMIN, IMAGE, check_problem, form, post
from harness.hostile import bomb
from trustscale_server.platform import errors
from trustscale_server.platform.problems import PROBLEMS, problem_of
from trustscale_server.upscalers.base import Capabilities


class TestImages:
    @pytest.mark.parametrize(
        ("image", "slug"),
        [
            (b"", "bad-image"),
            (b"just text", "unsupported-media"),
            (encoded(photo(0, 99, 99), "JPEG")[:900], "bad-image"),
            (encoded(np.zeros((1, 20000, 3), np.uint8)), "image-too-large"),
        ],
        ids=["empty", "text", "truncated", "strip"],
    )
    def test_refused(self, client, upscaler, image, slug):
        check_problem(post(client, image), slug)
        assert upscaler.calls == []

    def test_limits_are_named(self, client, upscaler):
        problem = check_problem(post(client, bomb(6000, 6000)), "image-too-large")
        assert problem["limit"] == "max_pixels"
        assert (problem["maximum"], problem["actual"]) == (24 * 1024 * 1024, 36_000_000)
        assert problem["bytes"] > 36_000_000 * 4 * 15
        assert "fit=" in problem["detail"]
        upscaler.capabilities = Capabilities(max_input_pixels=500)
        problem = check_problem(post(client), "image-too-large")
        assert (problem["maximum"], problem["actual"]) == (500, 576)


class TestFields:
    def test_numbers(self, client, upscaler):
        for alpha in ("-1", "abc", "nan", "inf", "-inf", "-1e-9", "1e999", "0,1"):
            assert "alpha" in check_problem(post(client, alpha=alpha), "bad-alpha")["detail"]
        assert upscaler.calls == []
        for seed in (0, 2**63 - 1):
            assert post(client, seed=seed).json()["seed"] == seed
        for seed in ("-1", str(2**63), "1.5", "x", "nan"):
            problem = check_problem(post(client, seed=seed), "bad-request")
            assert problem["fields"][0]["field"] == "seed"

    def test_misspelt(self, client, upscaler):
        problem = check_problem(post(client, aplha=0.05, Seed=1, colour="red"), "bad-request")
        fields = {item["field"]: item["reason"] for item in problem["fields"]}
        assert "did you mean alpha?" in fields["aplha"]
        assert "did you mean seed?" in fields["Seed"]
        assert "background" in fields["colour"]
        sent = client.post("/v1/upscale?alpha=0.03&v=1", **form(IMAGE))
        assert "alpha in the form" in check_problem(sent, "bad-request")["detail"]
        assert upscaler.calls == []

    def test_no_form_takes_unknown_fields(self, client):
        """Whatever takes a form, of clients or admins, names a field that it does not take."""
        document = client.get("/openapi.json").json()
        forms = [
            (method, path)
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if "multipart/form-data" in operation.get("requestBody", {}).get("content", {})
        ]
        assert len(forms) >= 5
        for method, path in forms:
            sent = {"files": {"nonsense": ("a.png", IMAGE)}, "headers": {"X-API-Key": ADMIN_KEY}}
            answer = client.request(method, path.replace("{", "").replace("}", ""), **sent)
            assert check_problem(answer, "bad-request")["fields"][0]["field"] == "nonsense", path

    def test_what_cannot_be_read(self, client, upscaler):
        form = "multipart/form-data"
        for kind in (form, f"{form}; boundary=x", f"{form}; boundary=x; charset=undefined"):
            sent = {"content": b"--x\r\nrubbish", "headers": {"Content-Type": kind}}
            check_problem(client.post("/v1/upscale", **sent), "bad-request")
        check_problem(client.post("/v1/upscale", json={"image": "x"}), "bad-request")
        headers = {"Content-Type": "application/json", "X-API-Key": ADMIN_KEY}
        path = "/v1/admin/calibrations/cal-x/derive"
        check_problem(client.post(path, content=b"[" * 50_000, headers=headers), "bad-request")
        large = client.post(path, content=b"[" * 100_000, headers=headers)
        check_problem(large, "image-too-large")
        files = [("image", ("a.png", IMAGE)), ("image", ("b.png", IMAGE))]
        check_problem(client.post("/v1/upscale", files=files), "bad-request")
        check_problem(post(client, headers={"Accept": "image/gif"}), "bad-request")
        assert upscaler.calls == []


class TestUpscaler:
    def test_unavailable(self, client, upscaler):
        upscaler.failure = errors.UpscalerUnavailable("The model is asleep.", retry_after=7.2)
        response = post(client)
        check_problem(response, "upscaler-unavailable")
        assert response.headers["retry-after"] == "8"
        for kind in (errors.UpscalerFailed, errors.UpscalerRejected):
            upscaler.failure = kind("The model broke.")
            problem = check_problem(post(client), "upscaler-failed")
            assert "The model broke." in problem["detail"]
            assert (problem["came"], problem["needed"]) == (0, 4)

    def test_the_deadline(self, start):
        upscaler = FakeUpscaler(seconds=30)
        response = post(start(upscaler, request_timeout_s=0.2))
        check_problem(response, "too-slow", status=504)
        assert "retry-after" not in response.headers
        assert upscaler.cancelled == len(upscaler.calls)


def test_paths_and_methods(client):
    """No path leads to plain text; a wrong method gets the right ones; types have pages."""
    check_problem(client.get("/v2/nothing"), "not-found")
    response = client.get("/v1/upscale")
    problem = check_problem(response, "method-not-allowed")
    assert problem["detail"] == "/v1/upscale does not take GET; it takes POST."
    assert response.headers["allow"] == "POST"
    several = {"/v1/jobs/x": "DELETE, GET", BASE: "GET, POST", f"{BASE}/x/pairs": "GET, POST"}
    for path, allowed in several.items():
        response = client.options(path)
        assert check_problem(response, "method-not-allowed")["detail"].endswith(f"{allowed}.")
        assert response.headers["allow"] == allowed
    for slug, kind in PROBLEMS.items():
        page = client.get(f"/problems/{slug}")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert kind.title in page.text
        assert "`" not in page.text
    check_problem(client.get("/problems/<script>"), "not-found")


def test_every_error_has_a_problem():
    """No error of ours falls through to the internal error, except bases and settings."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    ours = {kind for kind in kinds if issubclass(kind, errors.TrustscaleError)}
    internal = {one for one in ours if problem_of(one("A."))["type"] == "/problems/internal-error"}
    assert internal == {errors.TrustscaleError, errors.TransientError, errors.ConfigError}
    problem = problem_of(errors.BadImage("Damaged.", status=200, title="fine", place=3))
    assert (problem["status"], problem["title"], problem["place"]) == (422, "Bad image", 3)


_TELLING = re.compile(
    r"0x[0-9a-f]{6}| object at |Traceback|\.py\b|vsimem|/tmp/|/proc/", re.IGNORECASE
)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the framework's
def test_no_answer_tells_an_address_or_a_path(client):
    """Of whatever is sent to whatever route: junk, text for files, and files for each field."""
    document = client.get("/openapi.json").json()
    tiff = encoded(photo(0, 40, 40), "TIFF")
    damaged = tiff[:2] + b"\0" + tiff[3:]
    statuses = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            names = {"image", "config"} | {one["name"] for one in operation.get("parameters", ())}
            for body in operation.get("requestBody", {}).get("content", {}).values():
                schema = body.get("schema", {})
                if "$ref" in schema:
                    schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
                names |= {*schema.get("properties", {})}
            for options in (
                {},
                {"content": b"\xff\0{"},
                {"content": b"[", "headers": {"Content-Type": "application/json"}},
                {"json": {name: [{"a": 1}] for name in names}},
                {"data": dict.fromkeys(names, "\0x")},
                {"params": dict.fromkeys(names, "\0x")},
                {"files": dict.fromkeys(names, ("a.png", b"x"))},
                {"files": {"image": damaged}, "data": {"stretch": "0,4095", "bands": "1"}},
                *({"files": {"image": IMAGE, name: ("a.png", b"x")}} for name in names),
            ):
                options["headers"] = AS_ADMIN | options.get("headers", {})
                place = re.sub(r"\{[^}]*\}", "x", path)
                answer = client.request(method, place, **options)
                statuses.add(answer.status_code)
                assert answer.status_code < 400 or not _TELLING.search(answer.text), answer.text
    assert {404, 409, 413, 415, 422} <= statuses


STRANGERS = [  # headers, and the status on this machine alone and elsewhere
    ({"Sec-Fetch-Site": "cross-site"}, 403, 403),
    ({"Sec-Fetch-Site": "CROSS-SITE"}, 403, 403),
    ({"Sec-Fetch-Site": "null"}, 403, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403, 200),  # another port, or a page of the same owner
    ({"Sec-Fetch-Site": "same-origin"}, 200, 200),
    ({"Sec-Fetch-Site": "none"}, 200, 200),
    # From browsers that do not send `Sec-Fetch-Site`.
    ({"Origin": "null"}, 403, 403),  # a file, or a frame without rights
    ({"Origin": "https://evil.example"}, 403, 200),  # a proxy may have changed `Host`
    ({"Origin": "http://localhost:3000"}, 403, 200),
    ({"Origin": "https://localhost"}, 403, 200),
    ({"Origin": "http://LOCALHOST"}, 200, 200),
    ({"Origin": "http://localhost:8000", "Host": "localhost:8000"}, 200, 200),
    ({"Host": "evil.example"}, 403, 200),
    ({"Host": "127.0.0.1.evil.example:8000"}, 403, 200),
    *(({"Host": host}, 200, 200) for host in ("localhost:8000", "[::1]:8000", "127.0.0.1")),
]


@pytest.mark.parametrize("is_local", [True, False])
async def test_pages_of_strangers(serve, is_local):
    """Browsers let them send anything: refused, as is any other name of this machine."""
    async with serve(is_local=is_local) as served:
        for headers, local, elsewhere in STRANGERS:
            answer = await served.post(headers={"Host": "localhost"} | headers)
            assert answer.status_code == (local if is_local else elsewhere), headers
            if answer.status_code == 403:
                check_problem(answer, "forbidden")


def test_no_path_is_redirected(client):
    """A redirect to the path without its slash would go to the host that the request names."""
    answer = client.get("/v1/upscalers/", headers={"Host": "evil.example"}, follow_redirects=False)
    check_problem(answer, "not-found")


ESCAPED = "a\ud800"
RAW = b"a\xed\xa0\x80"  # as an encoder writes it that does not look
UNSEEDED = {"samples": SAMPLES, "degradation": {}}


def part(name, value, filename=None):
    of_file = b"" if filename is None else b'; filename="' + filename + b'"'
    head = b'Content-Disposition: form-data; name="' + name.encode() + b'"' + of_file
    content = value.encode() if isinstance(value, str) else value
    return b"--x\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def check_readable(client, path, *parts, **headers):
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    response = client.post(path, content=b"".join(parts) + b"--x--\r\n", headers=kind | headers)
    if response.status_code != 202:
        assert 400 <= response.status_code < 500, response.text
        return
    job = response.headers["location"]
    for method in ("GET", "DELETE"):
        assert client.request(method, job, headers=AS_ADMIN).status_code == 200
    for shown in (f"{BASE}/{response.json()['id']}", f"{BASE}?state=pending", BASE):
        assert client.get(shown, headers=AS_ADMIN).status_code < 500


@pytest.mark.parametrize("text", [RAW, ESCAPED.encode("ascii", "backslashreplace")])
def test_text_of_an_upscale(client, text):
    later = {"Prefer": "respond-async"}
    check_readable(client, "/v1/upscale", part("image", IMAGE, text), **later)
    for field in ("group", "upscaler", "background", "format", "metadata"):
        image = part("image", IMAGE, b"a.png")
        check_readable(client, "/v1/upscale", image, part(field, text), **later)


@pytest.mark.parametrize(
    "fields",
    [
        {"group_by": RAW},
        {"scene_by": ESCAPED.encode("ascii", "backslashreplace")},
        *(
            {"config": json.dumps(UNSEEDED | {name: ESCAPED})}
            for name in ("name", "note", "upscaler", "prediction", "on_bad_pair", ESCAPED)
        ),
        {"config": json.dumps(UNSEEDED | {"attributions": [ESCAPED]})},
        {"config": json.dumps(UNSEEDED | {"name": "x"}).encode().replace(b"x", RAW)},
    ],
)
def test_text_of_a_calibration(client, fields):
    made = [part(*field) for field in {"config": json.dumps(UNSEEDED), **fields}.items()]
    archive = part("archive", zipped(truth_files(1)), b"pairs.zip")
    check_readable(client, BASE, *made, archive, **AS_ADMIN)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("cannot identify image file <_io.BytesIO object at 0x7f2a11b9b3d0>",
         "cannot identify image file <_io.BytesIO object>"),
        ("'/vsimem/67ed/67ed.tif' not recognized", "the file not recognized"),
        ("No such file: /srv/data/a", "No such file: the file"),
        ("https://example.com/a/b answered 5/6", "https://example.com/a/b answered 5/6"),
    ],
)  # fmt: skip
def test_foreign_reasons(said, told):
    assert errors.reason_of(ValueError(said)) == told
