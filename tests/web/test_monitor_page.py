"""The page of the monitor, before a server that has served."""

import pytest
from playwright.sync_api import expect

from harness.browser import PHONE, barriers, check_screen, fits
from harness.factories import encoded, photo

pytestmark = [pytest.mark.slow, pytest.mark.servers]

MONITOR = "/v1/admin/monitor"
SERVED = 12


def upscale(api, rgb):
    response = api.client.post("/v1/upscale", files={"image": ("x.png", encoded(rgb))})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


@pytest.fixture(scope="module")
def served(api):
    """What the monitor says about `fast` after some requests, the truth of half of them known."""
    for k in range(SERVED):
        truth = photo(5000 + k, 48, 48)
        result = upscale(api, truth[::2, ::2])
        if k % 2:
            files = {"image": ("y.png", encoded(truth))}
            response = api.client.post(f"/v1/results/{result}/truth", files=files)
            assert response.status_code == 201, response.text
    return report(api)


def report(api):
    (found,) = [one for one in api.get(MONITOR)["upscalers"] if one["upscaler"] == "fast"]
    return found


def panel(page, upscaler):
    return page.locator(f"[data-upscaler={upscaler}]")


def test_figures(as_admin, served):
    page = as_admin("/monitor")
    expect(panel(page, "bare")).to_be_visible()  # what has an alarm is open first
    fast = panel(page, "fast")
    fast.locator("summary").click()
    requests = served["requests"]  # other tests of the same gateway sent some twice
    repeated = requests["seen"] - requests["counted"]
    told = f"{requests['counted']} counted, {repeated} repeated" if repeated else "all counted"
    expect(fast.locator(".tile").first).to_have_text(f"Requests{requests['seen']}{told}")
    checked = served["feedback"]
    truths = fast.locator(".tile", has_text="Checked against the truth")
    expect(truths).to_contain_text(str(checked["n"]))
    expect(fast.locator(".tile", has_text="Signs of a change")).to_contain_text("alarm at ×100")
    expect(fast.locator(".verdict")).to_contain_text(
        f"Inputs look as usual; of {checked['n']} checked"
    )
    expect(panel(page, "bare")).to_contain_text("not calibrated")
    expect(panel(page, "bare")).to_contain_text("No calibration is active")
    assert barriers(page) == []
    page.set_viewport_size(PHONE)
    assert fits(page)
    check_screen(page, "monitor", {"viewport": PHONE, "color_scheme": "light"})
