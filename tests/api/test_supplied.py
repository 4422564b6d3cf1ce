"""Pictures that somebody else enlarged, over HTTP: calibrated, answered, and refused."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from harness.admin import Admin, zipped
from harness.factories import encoded, photo
from harness.fakes import FakeUpscaler
from harness.gateway import check_problem, ended, gateway, post
from harness.hostile import bomb
from harness.pictures import config, patiently
from tests.live import serving
from trustscale_server.upscalers.base import Capabilities
from trustscale_server.upscalers.supplied import SuppliedConfig, SuppliedUpscaler

SCALE, SIDE, COUNT = 2, 48, 12
STATED = "Topaz Photo 4 (Standard), ×2"
TOPAZ = SuppliedConfig(
    kind="supplied",
    name="topaz",
    scale=SCALE,
    program="Topaz Photo",
    version="4",
    settings="Standard",
    align_colours=False,
)


class Program(FakeUpscaler):
    """Enlarges and sharpens, always in the same way."""

    def __init__(self, name="connected"):
        capabilities = Capabilities(concurrency=4, max_samples=1, align_colours=False)
        super().__init__(name, scale=SCALE, capabilities=capabilities)

    def sample(self, rgb, seed):
        size = SCALE * rgb.shape[1], SCALE * rgb.shape[0]
        large = Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC)
        soft = np.asarray(large.reduce(2).resize(size), np.float32)
        return np.clip(1.5 * np.asarray(large, np.float32) - 0.5 * soft, 0, 255).astype(np.uint8)


PROGRAM = Program()
NOISE = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def small(seed):
    return np.asarray(Image.fromarray(photo(seed, SIDE, SIDE)).reduce(SCALE))


def large(seed):
    return PROGRAM.sample(small(seed), 0)


def pairs(*, enlarged=True):
    files = {}
    for k in range(COUNT):
        files[f"y/{k:02}.png"] = encoded(photo(k, SIDE, SIDE))
        files[f"x/{k:02}.png"] = encoded(small(k))
        if enlarged:
            files[f"enlarged/{k:02}.png"] = encoded(large(k))
    return files


SETTINGS = {"samples": 1, "degradation": None, "fidelity": {"spot": SIDE}, "activate": True}


async def enlarge(request):
    """The program as an HTTP API: a file comes in, a file goes out."""
    rgb = np.asarray(Image.open(io.BytesIO(await request.body())).convert("RGB"))
    return Response(encoded(PROGRAM.sample(rgb, 0)), media_type="image/png")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A gateway whose two upscalers are one program: connected over HTTP, and elsewhere."""
    api = Starlette(routes=[Route("/", enlarge, methods=["POST"])])
    with serving(api) as address:
        settings = config(
            kind="http",
            name="connected",
            url=f"http://{address}",
            scale=SCALE,
            request={"form": "raw"},
            answer={"image": "body"},
            align_colours=False,
        )
        supplied = SuppliedUpscaler(TOPAZ)
        app = gateway(tmp_path_factory.mktemp("both"), patiently(settings, {}), supplied)
        yield from calibrated(app)


def calibrated(app):
    with TestClient(app, raise_server_exceptions=False) as client:
        admin = Admin(client)
        for name, is_supplied in (("connected", False), ("topaz", True)):
            made = admin.create(pairs(enlarged=is_supplied), upscaler=name, **SETTINGS)
            assert made["pairs"] == COUNT
        yield client


def answer(client, seed=100, alpha=0.1, **files):
    sent = {"image": encoded(small(seed)), **files}
    name = "topaz" if "enlarged" in files else "connected"
    data = {"upscaler": name, "alpha": alpha}
    return client.post("/v1/upscale?detail=full", files=sent, data=data)


def opened(client, document, part):
    return np.asarray(Image.open(io.BytesIO(client.get(document["links"][part]).content)))


@pytest.mark.parametrize("alpha", [0.1, 0.15, 0.2])
def test_it_is_as_if_the_program_had_been_called(both, alpha):
    """The same pictures give the same σ, threshold, mask and trust levels, to the bit."""
    connected = answer(both, alpha=alpha).json()
    elsewhere = answer(both, alpha=alpha, enlarged=encoded(large(100))).json()
    assert elsewhere["threshold"] == connected["threshold"]
    assert 0 < elsewhere["trusted_fraction"] == connected["trusted_fraction"]
    for part in ("image", "mask", "trust"):
        assert np.array_equal(opened(both, elsewhere, part), opened(both, connected, part))
    assert np.array_equal(opened(both, elsewhere, "image"), large(100))


def test_every_answer_repeats_what_its_owner_states(both):
    """It is the condition of the promise: in the sentence, as a field, and in the picture."""
    made = answer(both, enlarged=encoded(large(100))).json()
    promise = made["guarantee"]
    assert promise["condition"] == f"This holds if it was enlarged by {STATED}."
    assert promise["plain"].endswith(promise["condition"])
    picture = both.get(made["links"]["image"]).content
    told = both.post("/v1/verify", files={"image": picture}).json()
    assert told["promise"] == promise["plain"]
    other = both.get(f"{made['links']['self']}?alpha=0.2").json()
    assert other.get("guarantee", promise)["condition"] == promise["condition"]
    assert answer(both).json()["guarantee"].get("condition") is None


def test_as_a_job(both):
    """The file is kept until the job has run, and the answer is the same."""
    files = {"image": encoded(small(7)), "enlarged": encoded(large(7))}
    data = {"upscaler": "topaz", "alpha": 0.1}
    sent = both.post("/v1/upscale", files=files, data=data, headers={"Prefer": "respond-async"})
    assert sent.status_code == 202, sent.text
    job = ended(both, sent.headers["location"])
    assert job["state"] == "succeeded", job
    made = both.get(job["result"]).json()
    assert np.array_equal(opened(both, made, "image"), large(7))
    now = both.post("/v1/upscale", files=files, data=data).json()
    assert made["trusted_fraction"] == now["trusted_fraction"]


@pytest.mark.parametrize(
    ("enlarged", "problem", "said"),
    [
        (encoded(large(100)[:-2]), "bad-image", "48×46 pixels"),
        (encoded(np.ascontiguousarray(large(100)[:, ::-1])), "bad-image", "mirrored"),
        (encoded(NOISE), "bad-image", "do not fit"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "unsupported-media", "enlarged picture"),
        (b"%PDF-1.7", "unsupported-media", "enlarged picture"),
        (encoded(large(100))[:-200], "bad-image", "enlarged picture"),
    ],
)
def test_what_does_not_fit_is_refused(both, enlarged, problem, said):
    """With what was seen, before anything is promised."""
    told = check_problem(answer(both, enlarged=enlarged), problem)
    assert said in told["detail"]


def test_a_picture_is_asked_for_where_it_must_come(both):
    image = {"image": encoded(small(1))}
    missing = both.post("/v1/upscale", files=image, data={"upscaler": "topaz"})
    assert "enlarged=FILE" in check_problem(missing, "bad-request")["detail"]
    files = {**image, "enlarged": encoded(large(1))}
    wrong = both.post("/v1/upscale", files=files, data={"upscaler": "connected"})
    assert "makes its own pictures" in check_problem(wrong, "bad-request")["detail"]
    fitted = both.post("/v1/upscale", files=files, data={"upscaler": "topaz", "fit": 8})
    check_problem(fitted, "bad-request")


@pytest.mark.parametrize(
    ("files", "name", "said"),
    [
        (pairs(enlarged=False), "topaz", "has no address"),
        (pairs(), "connected", "makes its own pictures"),
        ({**pairs(), "enlarged/03.png": encoded(large(3)[1:])}, "topaz", "48×47 pixels"),
        ({k: v for k, v in pairs().items() if k != "enlarged/03.png"}, "topaz", "enlarged/ has no"),
        ({k: v for k, v in pairs().items() if k[0] != "x"}, "topaz", "x/ has no image"),
    ],
)
def test_pairs_that_cannot_be_used(both, files, name, said):
    """Each is named before anything is measured."""
    refused = Admin(both).post_files(files, upscaler=name, **SETTINGS)
    told = check_problem(refused, "bad-pairs")
    assert said in told["detail"]


def tarred(link):
    """Whole triples, and a link in place of one enlarged picture."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in pairs().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if name == "enlarged/03.png":
                info.type, info.size = link, 0
                info.linkname = "/etc/passwd" if link == tarfile.SYMTYPE else "y/03.png"
            archive.addfile(info, io.BytesIO(data) if info.size else None)
    return out.getvalue()


WIDE = encoded(np.asarray(Image.fromarray(large(3)).resize((2 * SIDE, SIDE // 2))))


@pytest.mark.parametrize(
    ("archive", "problem", "said"),
    [
        (tarred(tarfile.SYMTYPE), "bad-request", "link"),
        (tarred(tarfile.LNKTYPE), "bad-request", "link"),
        (zipped({**pairs(), "enlarged/../../03.png": b"x"}), "bad-request", ".."),
        (zipped({**pairs(), "/enlarged/03.png": b"x"}), "bad-request", "enlarged"),
        (zipped({**pairs(), "enlarged/03.jpg": b"x"}), "bad-pairs", "several files"),
        (zipped({**pairs(), "enlarged/03_4x.png": b"x"}), "bad-pairs", "several files"),
        (zipped({**pairs(), "enlarged/other.png": b"x"}), "bad-pairs", "y/ has no image"),
        (zipped({**pairs(), "enlarged/a/b/03.png": b"x"}), "bad-pairs", "too many folders"),
        (zipped({**pairs(), "enlarged/03.png": b"x" * 99}), "bad-pairs", "03"),
        (zipped({**pairs(), "enlarged/03.png": bomb(30_000, 30_000)}), "bad-pairs", "pixels"),
        (zipped({**pairs(), "enlarged/03.png": bytes(10**7)}), "bad-pairs", "03: enlarged"),
        (zipped({**pairs(), "enlarged/03.png": WIDE}), "bad-pairs", "96×24 pixels"),
    ],
)
def test_hostile_archives(both, archive, problem, said):
    """Links, names, counts, bombs and other shapes are refused with the file that is wrong, and
    nothing of them is measured.
    """
    refused = Admin(both).post_files(archive, upscaler="topaz", **SETTINGS)
    assert said in check_problem(refused, problem)["detail"]


def test_a_pair_that_does_not_fit_is_left_out(both):
    """Another picture in its place is seen when it is measured, and named with its reason."""
    files = {**pairs(), "enlarged/03.png": encoded(large(4))}
    admin = Admin(both)
    job = admin.ended(admin.post_files(files, upscaler="topaz", **SETTINGS))
    assert job["state"] == "failed"
    assert "03: The pictures do not fit" in job["error"]["detail"]
    made = admin.create(files, upscaler="topaz", on_bad_pair="skip", **SETTINGS)
    assert made["pairs"] == COUNT - 1
    (item,) = made["skipped"]
    assert item["name"] == "03"
    assert "do not fit" in item["reason"]


def test_a_plan_makes_no_calls(both):
    """Nothing is paid, so nothing is counted."""
    fields = {"dry_run": "true"}
    files = {**pairs(), "y/00.png": encoded(photo(50, SIDE, SIDE))}
    plan = Admin(both).post_files(files, fields=fields, upscaler="topaz", **SETTINGS).json()
    assert (plan["pictures"], plan["calls"]) == (COUNT, 0)


def test_it_is_listed(both):
    rows = both.get("/v1/upscalers").json()
    kinds = {row["name"]: row["kind"] for row in rows}
    assert kinds["topaz"] == "supplied"
    assert post(both, encoded(small(1)), upscaler="connected").status_code == 200
