"""What would serve worse becomes active only when somebody insists, whichever way it comes."""

import pytest

from app.calibration import file
from app.calibration.active import Changes
from app.calibration.guarantee import HighProbability
from tests.api.admin import Admin, sharp_files, truth_files
from tests.api.gateway import check_problem, post
from tests.factories import calibration_of, changed, encoded, sharp


@pytest.fixture
async def few(upscaler):
    """Three pairs: a smallest α of at least 1/4, above the default α."""
    return (await calibration_of(upscaler, 3)).for_upscaler("fake")


def check_refused(response, refused, active):
    problem = check_problem(response, "conflict")
    smallest = problem["changes"]["min_alpha"]
    assert smallest["before"] == active.curve.min_alpha < 0.1 < smallest["after"]
    area = problem["changes"]["trusted_area"]
    assert (area["before"], area["after"]) == (pytest.approx(trusted(active)), 0)
    assert refused in problem["detail"]
    assert "force" in problem["detail"]


def trusted(calibration):
    area = calibration.mean_trusted_fraction(calibration.curve.threshold(0.1))
    assert area > 0
    return area


def test_activate(fresh, calibration):
    """409 with both figures, else the next request is served from it; and the way back."""

    def activate(asked, **body):
        return fresh.send("POST", f"/{asked}/activate", json=body)

    made = fresh.create(truth_files(3))["id"]
    check_refused(fresh.send("POST", f"/{made}/activate"), made, calibration)
    check_refused(activate(made, force=False), made, calibration)
    check_problem(activate(made, forced=True), "bad-request")
    assert post(fresh.client).json()["calibration"] == calibration.id
    done = activate(made, force=True).json()
    assert (done["calibration"], done["previous"]) == (made, calibration.id)
    assert done["changes"]["alpha"] == 0.1
    assert done["changes"]["default_alpha"] == {"before": 0.1, "after": 0.1}
    assert done["changes"]["trusted_area"]["after"] == 0
    assert post(fresh.client).json()["calibration"] == made
    # The active one needs no force, however bad it is, nor does a better one.
    assert activate(made).json()["previous"] == calibration.id
    back = activate(calibration.id).json()
    assert back["previous"] == made
    assert back["changes"]["trusted_area"] == {"before": 0, "after": trusted(calibration)}
    assert post(fresh.client).json()["calibration"] == calibration.id


def test_several(start):
    """Each upload is answered from the first that covers its class, until one is the only one."""
    admin = Admin(start(calibrations=()))
    old, new = (
        admin.create(sharp_files(4), degradation=made, samples=2, name=name)["id"]
        for name, made in (("old", {"mixture": [{}, {"jpeg": 80}]}), ("new", {}))
    )

    def activate(asked, **how):
        return admin.send("POST", f"/{asked}/activate", json={"force": True, **how}).json()

    def answered():
        images = (encoded(sharp()), encoded(sharp(), "JPEG", quality=80))
        return [post(admin.client, image).json()["calibration"] for image in images]

    activate(old)
    done = activate(new)
    told = [("new", ["lossless"]), ("old", ["jpeg-80"])]
    assert [(one["name"], one["classes"]) for one in done["calibrations"]] == told
    assert (done["calibration"], done["previous"], done["lost"]) == (new, old, [])
    assert answered() == [new, old]
    (listed,) = admin.client.get("/v1/upscalers").json()
    assert listed["calibrations"] == done["calibrations"]
    assert {row["name"] for row in listed["classes"]} == {"lossless", "jpeg-80"}
    assert {row["id"] for row in admin.get() if row["active"]} == {old, new}
    check_problem(admin.send("DELETE", f"/{old}"), "conflict")

    done = activate(new, only=True)
    assert ([one["id"] for one in done["calibrations"]], done["lost"]) == ([new], ["jpeg-80"])
    assert answered() == [new, new]
    assert [entry["facts"]["only"] for entry in admin.audit(limit=2)] == [True, False]
    # What would answer nothing behind another one does not stay.
    activate(new)
    assert [one["id"] for one in activate(old)["calibrations"]] == [old]
    assert admin.send("DELETE", f"/{new}").status_code == 204


def test_every_gateway_sees_it_at_once(start, calibration):
    """Another gateway on the same store answers from what one has activated, and switches back."""
    first, second = Admin(start()), Admin(start(run_jobs=False))
    made = first.create(truth_files(3))["id"]
    for chosen, by, other in ((made, first, second), (calibration.id, second, first)):
        by.send("POST", f"/{chosen}/activate", json={"force": True})
        assert post(other.client).json()["calibration"] == chosen


def test_before_it_is_stored(fresh, calibration, few):
    """An import and a derivation that would serve worse are refused whole, unless forced."""
    asked = {"guarantee": {"kind": "high_probability", "delta": 1e-9}, "activate": True}
    params = {"activate": True}

    def imported():
        return fresh.send("POST", "/import", content=file.dump(few), params=params)

    def derived():
        return fresh.send("POST", f"/{calibration.id}/derive", json=asked)

    check_refused(imported(), few.id, calibration)
    check_problem(derived(), "conflict")
    assert [row["id"] for row in fresh.get()] == [calibration.id]
    params["force"] = asked["force"] = True
    assert derived().json()["state"] == imported().json()["state"] == "active"


def test_the_first_one(start):
    """Also where nothing was served before: what trusts nothing at its own default α is worse."""
    admin = Admin(start(calibrations=()))
    made = admin.create(truth_files(3))["id"]
    problem = check_problem(admin.send("POST", f"/{made}/activate"), "conflict")
    assert problem["changes"]["trusted_area"] == {"before": None, "after": 0}


def test_a_far_smaller_area(calibration):
    """At the same promise, less than half of the trusted area is worse; a little less is not."""
    strict = calibration.with_pairs(
        calibration.measured_pairs(), created_by="test", guarantee=HighProbability(delta=0.5)
    )
    for alpha in (0.1, 0.15, 0.2, 0.3, 0.5):
        one, other = (changed(it, default_alpha=alpha) for it in (strict, calibration))
        changes = Changes.of(one, other)
        area = changes.trusted_area
        is_far = area.after < area.before / 2
        assert changes.is_worse == (is_far or changes.min_alpha.after > alpha)
        assert not Changes.of(other, one).is_worse
