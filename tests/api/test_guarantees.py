"""The guarantee and the groups over HTTP: chosen, served, derived."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.calibration.admin import CalibrationAdmin
from app.calibration.guarantee import Expectation, guarantee_of
from app.conformal.fidelity import FidelitySettings
from app.conformal.high_probability import minimal_n
from app.stores.base import StoreUnavailable
from tests.api.admin import Admin, truth_files, zipped
from tests.api.gateway import check_problem, ended, gateway, pixels, post, text_chunks
from tests.factories import encoded, in_groups, photo
from tests.fakes import FakeUpscaler

LIKELY = {"kind": "high_probability", "delta": 0.2, "method": "wsr"}
SETTINGS = guarantee_of(LIKELY)
FACTS = SETTINGS.facts()
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
    """A client of that gateway, with the grouped calibration active."""
    assert admin.send("POST", f"/{likely.id}/activate").status_code == 200
    return admin.client


class TestServing:
    def test_the_answer_says_what_is_promised(self, client, likely):
        """Kind, δ, method, threshold and words are those of the calibration's guarantee."""
        answer = post(client, alpha=ALPHA, seed=1).json()
        promise = answer["guarantee"]
        assert {name: promise[name] for name in LIKELY} == LIKELY
        assert promise["statement"].startswith(
            "With probability at least 0.8 over the draw of the 30 calibration images, the "
            "expected value of the largest"
        )
        assert "at most 0.15," in promise["statement"]
        assert promise["sentence"].startswith("On average over such pictures the largest error")
        assert any("independent draws" in void for void in promise["voids"])
        assert float(answer["threshold"]) == likely.curve.threshold(ALPHA)
        assert (answer["group"], promise["n"]) == (None, 30)
        (row,) = client.get("/v1/upscalers").json()
        assert (row["guarantee"], row["groups"]) == (FACTS, {"day": 24, "night": 4})

    def test_of_a_group(self, client, likely):
        """Curve, n, typicality and statement are those of the group."""
        part = likely.of_group("day")
        answer = post(client, alpha=ALPHA, seed=1, group="day").json()
        assert float(answer["threshold"]) == part.curve.threshold(ALPHA)
        assert (answer["group"], answer["guarantee"]["n"]) == ("day", 24)
        assert answer["calibration"] == likely.id
        statement = answer["guarantee"]["statement"]
        assert "24 calibration images of the group 'day'" in statement
        assert statement.endswith("It speaks about images of the group 'day' only.")
        assert any(void.startswith("choosing the group") for void in answer["guarantee"]["voids"])
        mean = post(client, alpha=ALPHA, seed=1).json()
        assert mean["threshold"] != answer["threshold"]

    def test_another_alpha_is_of_the_same_group(self, client, likely):
        """The result, also of a job, keeps its group: all its masks are of the group's curve."""
        accepted = post(client, seed=1, group="day", headers={"Prefer": "respond-async"})
        answer = client.get(ended(client, accepted.headers["location"])["result"]).json()
        links = answer["links"]
        trust = pixels(client.get(links["trust"]).content).astype(int)
        part = likely.of_group("day")
        for alpha in (0.14, 0.17, 0.19):
            mask = client.get(links["mask"], params={"alpha": alpha}).content
            text = text_chunks(mask)
            assert float(text["trustscale:threshold"]) == part.curve.threshold(alpha)
            assert (text["trustscale:group"], text["trustscale:delta"]) == ("day", "0.2")
            lower = trust <= math.floor(alpha / likely.bound * 65534)
            assert not lower[~pixels(mask)].any()

    def test_a_group_that_is_too_small(self, client):
        """Four pairs hold no α of use; the answer names the group and the n that it needs."""
        answer = post(client, alpha=ALPHA, group="night").json()
        assert answer["threshold"] == "-inf"
        (warning,) = [text for text in answer["warnings"] if "alpha" in text]
        assert "the group 'night' of this calibration with n = 4 pairs" in warning
        assert f"at least {minimal_n(ALPHA, 1.9576, 0.2, 'wsr')} pairs" in warning

    def test_an_unknown_group(self, client):
        """It is refused before anything is generated, and the groups are listed; "" is none."""
        assert post(client, alpha=ALPHA, group="").json()["group"] is None
        for group in ("dusk", "Day", "day ", "x" * 500):
            problem = check_problem(post(client, alpha=ALPHA, group=group), "bad-group")
            assert problem["groups"] == ["day", "night"]
            assert len(problem["detail"]) < 250


class TestAdmin:
    def test_detail_and_list(self, admin, likely, calibration):
        """Both tell the guarantee; the detail tells the groups and what each can serve."""
        shown = admin.get(f"/{likely.id}")
        assert shown["guarantee"] == FACTS
        assert shown["groups"] == [
            {"group": name, "n": n, "pairs": n, "min_alpha": likely.of_group(name).curve.min_alpha}
            for name, n in (("day", 24), ("night", 4))
        ]
        plain = admin.get(f"/{calibration.id}")
        assert plain["guarantee"] == Expectation().facts()
        assert plain["groups"] == []
        rows = {row["id"]: (row["guarantee"], row["delta"]) for row in admin.get()}
        assert rows[likely.id] == ("high_probability", 0.2)
        assert rows[calibration.id] == ("expectation", None)
        assert admin.get(f"/{likely.id}/pairs")[0]["group"] == "day"
        assert admin.get(f"/{calibration.id}/pairs")[0]["group"] is None

    def test_a_group_alone(self, admin, likely):
        """Detail, curve and backtest can be read of one group."""
        part = likely.of_group("day")
        shown = admin.get(f"/{likely.id}", group="day")
        assert (shown["n"], shown["min_alpha"]) == (24, part.curve.min_alpha)
        rows = admin.get(f"/{likely.id}/curve", group="day")
        assert [row["risk"] for row in rows] == part.curve.risks.tolist()
        tested = admin.get(f"/{likely.id}/backtest", splits=5, group="day")
        assert tested["checks"]["n"] == 24
        assert all(0 <= row["violations"] <= 1 for row in tested["rows"])
        for path in ("", "/curve", "/backtest"):
            response = admin.send("GET", f"/{likely.id}{path}", params={"group": "dusk"})
            check_problem(response, "bad-group")

    def test_derive_under_a_mismatch(self, start, calibration):
        """A derivation that may not be activated is refused before anything is stored."""
        admin = Admin(start(FakeUpscaler(fingerprint="fake:2")))
        asked = {"guarantee": LIKELY, "activate": True}
        refused = admin.send("POST", f"/{calibration.id}/derive", json=asked)
        check_problem(refused, "calibration-mismatch")
        assert [row["id"] for row in admin.get()] == [calibration.id]

    def test_derive_whose_activation_fails(self, start, calibration, monkeypatch):
        """What is stored is in the audit log, also when its activation fails after all."""
        admin = Admin(start())

        async def away(*_, **__):
            raise StoreUnavailable("Away.")

        monkeypatch.setattr(CalibrationAdmin, "activate", away)
        asked = {"guarantee": LIKELY, "activate": True, "force": True}
        assert admin.send("POST", f"/{calibration.id}/derive", json=asked).status_code >= 500
        (entry,) = admin.audit()
        assert entry["facts"]["activate"] is False
        assert entry["facts"]["calibration"] in {row["id"] for row in admin.get()}

    def test_derive(self, admin, calibration):
        """A calibration gets another guarantee without generating, and becomes active if asked."""
        response = admin.send(
            "POST", f"/{calibration.id}/derive", json={"guarantee": LIKELY, "name": "likely"}
        )
        assert response.status_code == 201, response.text
        made = response.json()
        assert response.headers["location"].endswith(made["id"])
        assert (made["guarantee"], made["n"], made["name"]) == (FACTS, 30, "likely")
        assert (made["provenance"]["parent"], made["state"]) == (calibration.id, "ready")
        again = {"guarantee": LIKELY, "activate": True}
        check_problem(admin.send("POST", f"/{made['id']}/derive", json=again), "conflict")
        again["guarantee"] = {"kind": "high_probability", "delta": 0.3}
        active = admin.send("POST", f"/{made['id']}/derive", json=again).json()
        assert active["state"] == "active"
        assert admin.client.get("/v1/upscalers").json()[0]["guarantee"]["delta"] == 0.3

    def test_nine_of_ten(self, admin, calibration):
        """The share of pictures with errors above τ is derived from stored staircases, and served.

        A truth then counts whether its picture is one of these.
        """
        asked = {"kind": "probability", "tolerance": 0.1, "level": 0.2}
        made = admin.send(
            "POST",
            f"/{calibration.id}/derive",
            json={"guarantee": asked, "activate": True, "force": True},
        ).json()
        assert (made["default_alpha"], made["bound"]) == (0.2, 1)
        answer = post(admin.client, seed=1).json()
        promise = answer["guarantee"]
        assert (answer["alpha"], promise["kind"], promise["tolerance"]) == (0.2, "probability", 0.1)
        assert promise["sentence"].startswith("In 4 of 5 such pictures nothing in the trusted")
        trust = pixels(admin.client.get(answer["links"]["trust"]).content).astype(int)
        mask = pixels(admin.client.get(answer["links"]["mask"]).content)
        assert not (trust <= 0.2 * 65534)[~mask].any()
        truth = {"image": ("y.png", encoded(photo(1, answer["height"], answer["width"])))}
        told = admin.client.post(f"{answer['links']['self']}/truth", files=truth).json()
        assert (told["bound"], told["loss"] in {0, 1}) == (1, True)
        assert {0.025, 0.05, 0.075, 0.1, 0.125, 0.15} <= {row["alpha"] for row in told["losses"]}

    def test_look_first(self, start, calibration):
        """A request may ask for an α to be chosen after looking; all masks are then of that curve.

        Without that it is answered as before, and no other kind can be asked for.
        """
        pairs = calibration.measured_pairs()
        cut = [replace(pair, staircase=pair.staircase.counted(0.5)) for pair in pairs]
        pipeline = calibration.pipeline.model_copy(update={"fidelity": FidelitySettings(bound=0.5)})
        made = calibration.with_pairs(cut, created_by="test", pipeline=pipeline)
        client = start(calibrations=[made])
        free = made.under("post_hoc").curve
        answer = post(client, seed=1, guarantee="post_hoc", alpha=0.1).json()
        assert answer["guarantee"]["kind"] == "post_hoc"
        assert float(answer["threshold"]) == free.threshold(0.1)
        codes = pixels(client.get(answer["links"]["trust"]).content)
        for alpha in (0.05, 0.07, 0.1, 0.15):
            mask = client.get(answer["links"]["mask"], params={"alpha": alpha}).content
            np.testing.assert_array_equal(pixels(mask), free.mask_of_code(codes, alpha))
            text = text_chunks(mask)
            assert float(text["trustscale:threshold"]) == free.threshold(alpha)
            assert text["trustscale:guarantee"] == "post_hoc"
        before = post(client, seed=1, alpha=0.1).json()
        assert before["guarantee"]["kind"] == "expectation"
        assert before["trusted_fraction"] >= answer["trusted_fraction"]
        check_problem(post(client, guarantee="probability"), "bad-request")

    def test_derive_refuses(self, admin, calibration):
        """Unknown fields and guarantees that make no sense."""
        for body in (
            {},
            {"guarantee": {"kind": "high_probability", "delta": 2}},
            {"guarantee": {"kind": "luck"}},
            {"guarantee": {"kind": "probability"}},
            {"guarantee": {"kind": "probability", "tolerance": 2}},
            {"guarantee": LIKELY, "alpha": 0.1},
        ):
            response = admin.send("POST", f"/{calibration.id}/derive", json=body)
            check_problem(response, "bad-request")

    def test_a_mapping(self, admin):
        """A table names the group by the name of the pair; extending keeps and adds groups.

        A wrong one is refused before anything is queued.
        """
        refused = admin.post_files(truth_files(1), fields={"group_by": "camera"})
        check_problem(refused, "bad-request")
        files = {**truth_files(3), "manifest.csv": b"file,animal\n001.png,cats"}
        made = admin.create(files, fields={"group_by": "animal"})
        assert [(row["group"], row["n"]) for row in made["groups"]] == [("cats", 1)]
        dogs = {
            "manifest": ("m.csv", b"name,kind\n007,dogs"),
            "archive": zipped(truth_files(1, first=7)),
        }
        more = admin.send("POST", f"/{made['id']}/pairs", files=dogs, data={"group_by": "kind"})
        found = [(row["group"], row["n"]) for row in admin.made(more)["groups"]]
        assert found == [("cats", 1), ("dogs", 1)]


def test_a_calibration_without_groups(start):
    """No group can be asked for, and the answer says that there is none."""
    problem = check_problem(post(start(), group="day"), "bad-group")
    assert problem["groups"] == []
    assert "its groups: none" in problem["detail"]
