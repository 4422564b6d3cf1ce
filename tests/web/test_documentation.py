"""/docs: what a developer sees first is an example that works, and names that say what happens."""

import json
import re

import pytest
from playwright.sync_api import expect

from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.app import create_app


def test_names_are_sentences():
    """Each operation is named by one sentence that begins with a verb, and differs from others."""
    document = create_app(Settings(data_dir="nowhere")).openapi()
    assert document["openapi"].startswith("3.1")
    assert "schemas/HTTPValidationError" not in json.dumps(document["paths"])
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    names = [operation["summary"] for operation in operations]
    assert len(set(names)) == len(names) > 30
    verbs = {name.split()[0] for name in names}
    assert verbs <= {
        *("Calibrate", "Cancel", "Check", "Compare", "Continue", "Derive", "Describe"),
        *("Export", "Fetch", "Find", "Keep"),
        *("Follow", "List", "Make", "Read", "Remove", "Say", "Serve", "Set", "Store", "Suggest"),
        "Upscale",
    }
    assert all(len(name.split()) > 2 and len(name) <= 80 for name in names)
    assert all(operation.get("description") != operation["summary"] for operation in operations)


@pytest.mark.slow
def test_the_example_calls_this_service(open_page, site):
    page = open_page("/docs")
    example = page.locator(".info code").filter(has_text="curl")
    expect(example).to_contain_text(f"{site}/v1/upscale")
    expect(example).to_contain_text(re.compile(r"^curl -F image=@photo\.jpg"))
    expect(page.locator(".opblock-summary-description").first).to_be_visible()
    expect(page.get_by_text("Upscale an image and mark where it can be trusted")).to_be_visible()
