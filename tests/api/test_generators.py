"""What generators of clients make of the OpenAPI document."""

import json
from pathlib import Path

import pytest

from harness.blocks import ROOT
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.app import create_app

CLIENTS, ADMINS = ("/v1/upscale", "post"), ("/v1/admin/jobs", "get")


def document(**settings):
    return create_app(Settings(data_dir=Path("nowhere"), **settings)).openapi()


def referenced(document, value, seen):
    """All schemas that a part of the document is made of."""
    if isinstance(value, list):
        for item in value:
            yield from referenced(document, item, seen)
    elif isinstance(value, dict):
        name = str(value.get("$ref", "")).rpartition("/")[2]
        if name and name not in seen:
            seen.add(name)
            yield from referenced(document, document["components"]["schemas"][name], seen)
        yield from value.get("properties", {}).values()
        for item in value.values():
            yield from referenced(document, item, seen)


def test_what_is_sent_may_be_left_out():
    """A field with a default is optional, which generators take from the lack of `default`."""
    made = document()
    bodies = [
        operation["requestBody"]
        for path in made["paths"].values()
        for operation in path.values()
        if "requestBody" in operation
    ]
    fields = list(referenced(made, bodies, set()))
    assert len(fields) > 100
    assert [field for field in fields if "default" in field] == []
    form = made["components"]["schemas"]["UpscaleForm"]
    assert "required" not in form
    assert form["properties"]["mask"]["description"].endswith('Default: "trust".')


@pytest.mark.parametrize("keys", [[], ["anna:client-key"]], ids=["open", "keys"])
def test_whether_a_key_is_needed(keys):
    """Clients of a service without keys need none, as the document says; admins always do."""
    paths = document(client_keys=keys)["paths"]
    for (path, method), is_open in ((CLIENTS, not keys), (ADMINS, False)):
        assert ({} in paths[path][method]["security"]) == is_open


def test_pictures_are_answers():
    """Every type that `Accept` may name is a file in the document."""
    (answer,) = (document()["paths"]["/v1/upscale"]["post"]["responses"][key] for key in ["200"])
    files = {name for name in answer["content"] if name != "application/json"}
    images = {f"image/{name}" for name in ("png", "jpeg", "webp", "avif", "tiff")}
    assert files == {"application/zip", *images}
    schemas = [answer["content"][name]["schema"] for name in files]
    assert all(schema == {"type": "string", "format": "binary"} for schema in schemas)


def test_the_page_names_the_types():
    """The settings of the Python generator on the page cover every type of a file."""
    made = json.dumps(document())
    page = (ROOT / "docs" / "for-developers.md").read_text("utf-8")
    named = {line.split(":")[0].strip() for line in page.splitlines() if line.endswith("stream")}
    types = {f"image/{name}" for name in ("png", "jpeg", "webp", "avif", "tiff")}
    types |= {"application/zip", "application/vnd.trustscale.calibration+zip"}
    assert named == types
    assert all(f'"{name}"' in made for name in types)
