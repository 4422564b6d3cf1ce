"""The pictures of the pairs of a calibration, as long as the files of its job are kept."""

import numpy as np
import pytest

from app.calibration import pictures
from app.upscalers.base import image_digest
from tests.api.admin import Admin, pair_files, truth_files
from tests.api.gateway import check_problem, pixels
from tests.factories import encoded, photo


@pytest.fixture(scope="module")
def admin(shared):
    return Admin(shared[0])


@pytest.fixture(scope="module")
def made(admin):
    return admin.create(truth_files(4))


def shown(admin, calibration, name, part):
    response = admin.send("GET", f"/{calibration}/pairs/{name}/{part}.png")
    assert response.headers["content-type"] == "image/png"
    return pixels(response.content)


class TestPictures:
    def test_of_a_calibration(self, admin, made):
        """X as the upscaler saw it, Y as it was sent, and the prediction of the pair's own seed."""
        pair = admin.get(f"/{made['id']}/pairs")[3]
        x, y, prediction = (
            shown(admin, made["id"], "003", part) for part in ("x", "y", "prediction")
        )
        assert np.array_equal(y, photo(3, 48, 48))
        assert x.shape == (24, 24, 3)
        assert prediction.shape == y.shape
        assert 0 < np.abs(prediction.astype(int) - x.repeat(2, 0).repeat(2, 1)).mean() < 50
        assert pair["name"] == "003"

    def test_given_inputs(self, admin):
        """An X that was sent is shown as it was sent; the id of the job leads to it too."""
        job = admin.ended(admin.post_files(pair_files(2)))
        for owner in (job["id"], job["result"].rsplit("/", 1)[-1]):
            assert np.array_equal(shown(admin, owner, "001", "x"), photo(1, 48, 48)[::2, ::2])

    def test_derived(self, admin, made):
        """A calibration that extends or shortens another one shows the pairs of both jobs."""
        longer = admin.made(admin.post_files(truth_files(1, first=50), f"/{made['id']}/pairs"))
        assert np.array_equal(shown(admin, longer["id"], "050", "y"), photo(50, 48, 48))
        old = shown(admin, longer["id"], "002", "prediction")
        assert image_digest(old) == image_digest(shown(admin, made["id"], "002", "prediction"))
        shorter = admin.send("DELETE", f"/{longer['id']}/pairs/001").json()
        assert np.array_equal(shown(admin, shorter["id"], "050", "y"), photo(50, 48, 48))

    def test_no_longer(self, admin):
        """When the job has expired there are none, nor of a calibration that was deleted."""
        job = admin.ended(admin.post_files({"y/a.jpg": encoded(photo(70, 48, 48), "JPEG")}))
        made = job["result"].rsplit("/", 1)[-1]
        assert shown(admin, made, "a", "y").shape == (48, 48, 3)  # a PNG file, whatever was sent
        blobs = admin.client.app_state["trustscale"].stores.blobs
        admin.client.portal.call(blobs.delete, job["id"])
        gone = check_problem(admin.send("GET", f"/{made}/pairs/a/y.png"), "not-found")
        assert "no longer" in gone["detail"]
        assert admin.send("DELETE", f"/{made}").status_code == 204
        assert not admin.client.portal.call(blobs.names, f"{pictures.KEY}{made}")


def test_differences(admin, made, upscaler):
    """It tells what keeps the live upscaler from serving it, and the list what was replaced."""
    assert admin.get(f"/{made['id']}")["differences"] == []
    upscaler.fingerprint = "fake:2"
    (found,) = admin.get(f"/{made['id']}")["differences"]
    assert found["field"] == "fingerprint"
    upscaler.fingerprint = "fake:1"
    (was,) = [row["id"] for row in admin.get() if row["active"]]
    admin.send("POST", f"/{made['id']}/activate", json={"force": True})
    rows = {row["id"]: row for row in admin.get()}
    admin.send("POST", f"/{was}/activate")
    assert (rows[made["id"]]["active"], rows[made["id"]]["previous"]) == (True, was)
    assert (rows[was]["active"], rows[was]["previous"]) == (False, None)
