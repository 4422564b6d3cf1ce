"""Content credentials, judged by the library's own reader with a chain of certificates of ours."""

import asyncio
import hashlib
import io
import json

import c2pa
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from harness.credentials import new_chain, secret_of
from harness.factories import encoded, photo
from trustscale_server.platform.errors import ConfigError
from trustscale_server.serving.credentials import ASSERTION, Credentials


@pytest.fixture(scope="module")
def chain():
    return new_chain()


def read(data, media_type, root=None):
    """The manifests of a file; with a root certificate, whether it is trusted."""
    trust = {"trust": {"trust_anchors": root}, "verify": {"verify_trust": True}} if root else {}
    with (
        c2pa.Context(c2pa.Settings.from_dict(trust)) as context,
        c2pa.Reader(media_type, io.BytesIO(data), context=context) as reader,
    ):
        found = json.loads(reader.json())
    return found, found["manifests"][found["active_manifest"]]


@pytest.fixture
async def served(serve, chain):
    certificates, key, _ = chain
    async with serve(credentials=certificates + key) as served:
        yield served


async def picture_of(served, *image, **fields):
    result = (await served.post(*image, **fields)).json()
    return result, (await served.client.get(result["links"]["image"])).content


async def test_what_is_signed(served, chain):
    """Each form that can be signed: upload, mask and promise; a later change is found."""
    root = chain[2]
    for name in ("png", "webp", "jpeg", "avif"):
        result, data = await picture_of(served, format=name)
        found, manifest = read(data, f"image/{name}", root)
        assert found["validation_state"] == "Trusted"
        ingredients = {one["title"]: one["relationship"] for one in manifest["ingredients"]}
        assert ingredients == {"upload": "parentOf", "mask.png": "componentOf"}
        told = next(a["data"] for a in manifest["assertions"] if a["label"] == ASSERTION)
        assert told["alpha"] == result["alpha"]
        assert told["calibration"] == result["calibration"]
        assert told["guarantee"]["theorem"] == result["guarantee"]["theorem"]
    forged = bytearray(data)
    forged[-20] ^= 1
    assert read(bytes(forged), "image/avif", root)[0]["validation_state"] == "Invalid"
    # Who does not know the root sees a valid signature of a stranger.
    stranger, _ = read(data, "image/avif")
    assert stranger["validation_state"] == "Valid"
    codes = [one["code"] for one in stranger["validation_status"]]
    assert codes == ["signingCredential.untrusted"]


async def test_the_credentials_of_the_upload(served):
    """They are kept below the answer's, whatever else is; of an upload without them its hash is."""
    plain = encoded(photo(1, 12, 12))
    _, first = await picture_of(served, plain)
    _, manifest = read(first, "image/png")
    parent = next(one for one in manifest["ingredients"] if one["title"] == "upload")
    assert parent["instance_id"] == f"urn:sha256:{hashlib.sha256(plain).hexdigest()}"
    for metadata in ("none", "keep", "keep-gps"):
        _, again = await picture_of(served, first, metadata=metadata)
        found, manifest = read(again, "image/png")
        parent = next(one for one in manifest["ingredients"] if one["title"] == "upload")
        assert len(found["manifests"]) == 2
        assert "active_manifest" in parent


async def test_no_address_is_asked(served):
    asked = []

    async def answer(_, writer):
        asked.append(1)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        xmp = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
            xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
            xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="http://127.0.0.1:{port}/"
            /></rdf:RDF></x:xmpmeta>"""
        upload = encoded(photo(1, 12, 12), "JPEG", xmp=xmp.encode())
        result, _ = await picture_of(served, upload)
    assert not asked
    assert any("lie elsewhere" in text for text in result["warnings"])


def test_what_cannot_sign(chain):
    certificates, key, _ = chain
    other = secret_of(ec.generate_private_key(ec.SECP256R1()))
    for given in (certificates, certificates + other, key, key + key, ""):
        with pytest.raises(ConfigError, match="signed with credentials") as caught:
            Credentials.from_pem(given)
        assert "PRIVATE" not in caught.value.detail
