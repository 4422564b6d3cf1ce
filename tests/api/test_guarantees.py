"""The guarantee and the groups over HTTP: chosen, served, derived."""

import math

import pytest
from starlette.testclient import TestClient

from harness.admin import Admin
from harness.factories import encoded, in_groups, photo
from harness.fakes import FakeUpscaler
from harness.gateway import check_problem, ended, gateway, pixels, post, text_chunks
from trustscale_server.calibration.guarantee_kinds import guarantee_of

LIKELY = {"kind": "high_probability", "delta": 0.2}
SETTINGS = guarantee_of(LIKELY)
SUMMARY = SETTINGS.summary().model_dump(mode="json")
ALPHA = 0.15  # that 24 pairs can hold with probability 0.8, for a part of each image


@pytest.fixture(scope="module")
def likely(calibration):
    """Thirty pairs with high probability: 24 of the group day, four of night, two of none."""
    names = {f"{k:03}": "day" if k < 24 else "night" for k in range(28)}
    found = in_groups(calibration, names)
    return found.with_pairs(found.measured_pairs(), created_by="test", guarantee=SETTINGS)


@pytest.fixture(scope="module")
def admin(tmp_path_factory, likely, calibration):
    """A gateway with the grouped calibration active and the plain one beside it."""
    folder = tmp_path_factory.mktemp("guarantees")
    app = gateway(folder, FakeUpscaler(), calibrations=[calibration, likely])
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Admin(client)


@pytest.fixture
def client(admin, likely):
    assert admin.send("POST", f"/{likely.id}/activate").status_code == 200
    return admin.client


def test_of_harder_pictures(tmp_path, calibration):
    """A request names Γ; the answer says so, and its masks of other α have it, too."""
    harder = calibration.subset(None, None, 1.5)
    with TestClient(gateway(tmp_path, calibrations=[calibration])) as client:
        answer = post(client, alpha=ALPHA, seed=1, robust=1.5).json()
        assert answer["guarantee"]["robust"] == 1.5
        assert float(answer["threshold"]) == harder.curve.threshold(ALPHA)
        plain = post(client, alpha=ALPHA, seed=1, robust=1).json()
        assert plain["guarantee"]["robust"] == 1
        assert float(plain["threshold"]) == calibration.curve.threshold(ALPHA)
        assert answer["trusted_fraction"] < plain["trusted_fraction"]
        mask = pixels(client.get(f"{answer['links']['mask']}?alpha=0.2").content) > 0
        wanted = post(client, alpha=0.2, seed=1, robust=1.5).json()["trusted_fraction"]
        assert mask.mean() == pytest.approx(wanted)
        for wrong in ({"robust": 0.5}, {"robust": 2, "mask": "none"}):
            assert post(client, **wrong).status_code == 422
        assert post(client, mask="none").status_code == 200


class TestServing:
    def test_the_answer_says_what_is_promised(self, client, likely):
        answer = post(client, alpha=ALPHA, seed=1).json()
        promise = answer["guarantee"]
        assert {name: promise[name] for name in LIKELY} == LIKELY
        assert "With a probability of at least 0.8 over the draw" in promise["theorem"]
        assert float(answer["threshold"]) == likely.curve.threshold(ALPHA)
        assert (answer["group"], promise["n"]) == (None, 30)
        (row,) = client.get("/v1/upscalers").json()
        assert (row["guarantee"], row["groups"]) == (SUMMARY, {"day": 24, "night": 4})

    def test_of_a_group(self, client, likely):
        part = likely.subset("day")
        answer = post(client, alpha=ALPHA, seed=1, group="day").json()
        assert float(answer["threshold"]) == part.curve.threshold(ALPHA)
        assert (answer["group"], answer["guarantee"]["n"]) == ("day", 24)
        assert answer["calibration"] == likely.id
        statement = answer["guarantee"]["theorem"]
        assert "24 calibration images of the group 'day'" in statement
        assert part.curve.threshold(ALPHA) != likely.curve.threshold(ALPHA)

    def test_another_alpha_is_of_the_same_group(self, client, likely):
        """The result, also of a job, keeps its group: all its masks are of the group's curve."""
        accepted = post(client, seed=1, group="day", headers={"Prefer": "respond-async"})
        answer = client.get(ended(client, accepted.headers["location"])["result"]).json()
        links = answer["links"]
        trust = pixels(client.get(links["trust"]).content).astype(int)
        part = likely.subset("day")
        for alpha in (0.14, 0.17, 0.19):
            mask = client.get(links["mask"], params={"alpha": alpha}).content
            text = text_chunks(mask)
            assert float(text["trustscale:threshold"]) == part.curve.threshold(alpha)
            assert (text["trustscale:group"], text["trustscale:delta"]) == ("day", "0.2")
            lower = trust <= math.floor(alpha / likely.everything.bound * 65534)
            assert not lower[~pixels(mask)].any()

    def test_an_unknown_group(self, client):
        assert post(client, alpha=ALPHA, group="").json()["group"] is None
        for group in ("dusk", "Day", "day ", "x" * 500):
            problem = check_problem(post(client, alpha=ALPHA, group=group), "bad-group")
            assert problem["groups"] == ["day", "night"]
            assert len(problem["detail"]) < 250


class TestAdmin:
    def test_derive(self, admin, calibration):
        """A calibration gets another guarantee without generating, and becomes active if asked."""
        asked = {"guarantee": LIKELY, "name": "likely"}
        response = admin.send("POST", f"/{calibration.id}/derive", json=asked)
        assert response.status_code == 201, response.text
        made = response.json()
        assert response.headers["location"].endswith(made["id"])
        assert (made["guarantee"], made["n"], made["name"]) == (SUMMARY, 30, "likely")
        assert (made["provenance"]["parent"], made["state"]) == (calibration.id, "ready")
        again = {"guarantee": LIKELY, "activate": True}
        check_problem(admin.send("POST", f"/{made['id']}/derive", json=again), "conflict")
        again["guarantee"] = {"kind": "high_probability", "delta": 0.3}
        active = admin.send("POST", f"/{made['id']}/derive", json=again).json()
        assert active["state"] == "active"
        assert admin.client.get("/v1/upscalers").json()[0]["guarantee"]["delta"] == 0.3

    def test_nine_of_ten(self, admin, calibration):
        """The share of pictures with errors above τ is derived from what is stored, and served."""
        asked = {"kind": "probability", "tolerance": 0.1, "level": 0.2}
        derive = {"guarantee": asked, "activate": True, "force": True}
        made = admin.send("POST", f"/{calibration.id}/derive", json=derive).json()
        assert (made["default_alpha"], made["bound"]) == (0.2, 1)
        answer = post(admin.client, seed=1).json()
        assert answer["guarantee"].items() >= {"alpha": 0.2, **asked}.items()
        truth = {"image": ("y.png", encoded(photo(1, answer["height"], answer["width"])))}
        told = admin.client.post(f"{answer['links']['self']}/truth", files=truth).json()
        assert told["loss"] in {0, 1}
