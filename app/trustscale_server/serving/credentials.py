"""Content credentials (c2pa.org): a signature over the picture, its source and the promise.

Needs the extra `credentials` and the operator's certificate; no network. Signing comes last, since
any later change of the file invalidates it.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any, Final

import numpy as np

from trustscale_server import __version__
from trustscale_server.images.encoding.png import to_png
from trustscale_server.platform.errors import ConfigError

ASSERTION: Final = "org.trustscale.guarantee"

UNSIGNED: Final = frozenset({"tiff", "cog.tiff", "ome.tiff"})
"""Forms that the library damages: it drops the pages behind the first."""

_MADE_BY_A_MODEL: Final = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)
_SETTINGS: Final = {
    "builder": {"thumbnail": {"enabled": False}},
    # XMP may name any address.
    "verify": {"remote_manifest_fetch": False},
}
_PEM: Final = re.compile(rb"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", re.DOTALL)
_LEFT_OUT: Final = (
    "The content credentials of the upload are damaged, or lie elsewhere, and were not kept."
)
# Formats of uploads whose own credentials can be read.
_READ: Final = frozenset({"png", "jpeg", "webp", "avif", "gif", "heif", "jxl"})


@dataclass(frozen=True, slots=True)
class Parent:
    """The upload as an ingredient; `archive` is a copy whose own credentials stay in it."""

    sha256: str
    archive: bytes = b""

    @property
    def document(self) -> dict[str, str]:
        """Its entry in a manifest."""
        label = {"title": "upload", "label": "upload", "relationship": "parentOf"}
        return {**label, "instance_id": f"urn:sha256:{self.sha256}"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate chain and its key, both PEM, and the algorithm that fits."""

    certificate: bytes
    key: bytes
    algorithm: bytes

    @classmethod
    def from_pem(cls, text: str) -> Credentials:
        """Read the certificates, the signer's first, and its key from one PEM text.

        Raises:
            ConfigError: the extra is missing, or signing fails.
        """
        try:
            import c2pa  # noqa: F401, PLC0415 - an optional extra
        except ImportError as error:
            raise ConfigError(
                "credentials needs the extra: pip install 'trustscale[credentials]'."
            ) from error
        try:
            certificates, key = _parts(text.encode())
            credentials = cls(certificates, key, _algorithm(key))
            pixel = io.BytesIO(to_png(np.zeros((1, 1, 3), np.uint8)))
            parent = Parent("0" * 64)
            credentials.sign(
                io.BytesIO(), pixel, "image/png", upload=parent, mask=pixel, promise={}
            )
        except Exception as error:  # noqa: BLE001 - whatever a library raises
            # The library's texts may repeat the key.
            raise ConfigError(
                "Nothing can be signed with credentials: they must be PEM, the signer's "
                "certificate first, and the key must be its own "
                f"({type(error).__name__})."
            ) from None
        return credentials

    def sign(
        self,
        signed: IO[bytes],
        picture: IO[bytes],
        media_type: str,
        *,
        upload: Parent,
        mask: IO[bytes],
        promise: Mapping[str, Any],
    ) -> None:
        """Write the signed file of a picture; `promise` is a JSON assertion. Raises OSError."""
        import c2pa  # noqa: PLC0415 - an optional extra

        actions = [
            {"action": "c2pa.opened", "parameters": {"ingredientIds": ["upload"]}},
            {"action": "c2pa.placed", "parameters": {"ingredientIds": ["mask"]}},
            {
                "action": "c2pa.edited",
                "description": "Upscaled by a model",
                "digitalSourceType": _MADE_BY_A_MODEL,
            },
        ]
        manifest = {
            "claim_generator_info": [{"name": "trustscale", "version": __version__}],
            "title": "image",
            "format": media_type,
            "ingredients": [] if upload.archive else [upload.document],
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": actions}},
                {"label": ASSERTION, "data": dict(promise)},
            ],
        }
        with (
            c2pa.Context(c2pa.Settings.from_dict(_SETTINGS)) as context,
            c2pa.Builder(manifest, context) as builder,
            c2pa.Signer.from_info(
                c2pa.C2paSignerInfo(self.algorithm, self.certificate, self.key, None)
            ) as signer,
        ):
            if upload.archive:
                builder.add_ingredient_from_archive(io.BytesIO(upload.archive))
            component = {"title": "mask.png", "label": "mask", "relationship": "componentOf"}
            builder.add_ingredient(component, "image/png", mask)
            sink = _Sink(signed)
            try:
                builder.sign(signer, media_type, picture, sink)
            except c2pa.C2paError:
                if sink.failed is not None:
                    raise OSError(*sink.failed) from None
                raise


class _Sink:
    """A file that keeps an error of its disk, since c2pa hides the number and the words of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.failed: tuple[Any, ...] | None = None

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._file, name)
        return self._keeping(attribute) if name in {"write", "seek", "flush"} else attribute

    def _keeping(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*given: Any) -> Any:
            try:
                return call(*given)
            except OSError as error:
                self.failed = error.args
                raise

        return kept


def parent_of(data: bytes, form: str) -> tuple[Parent, list[str]]:
    """Return an uploaded file as an ingredient, and notes on what was not kept.

    Everything is decoded here, before samples are paid for, so signing cannot fail later.
    Its own credentials stay whole: signed data cannot be cleaned. form: its format.
    """
    import c2pa  # noqa: PLC0415 - an optional extra

    name, alone = form.lower(), Parent(hashlib.sha256(data).hexdigest())
    if name not in _READ:
        return alone, []
    kind, archive = f"image/{name}", io.BytesIO()
    try:
        with c2pa.Context(c2pa.Settings.from_dict(_SETTINGS)) as context:
            reader = c2pa.Reader.try_create(kind, io.BytesIO(data), context=context)
            if reader is None:
                return alone, []
            reader.close()
            with c2pa.Builder({}, context) as builder:
                builder.add_ingredient(alone.document, kind, io.BytesIO(data))
                builder.write_ingredient_archive("upload", archive)
    except c2pa.C2paError:
        return alone, [_LEFT_OUT]
    return replace(alone, archive=archive.getvalue()), []


def _parts(text: bytes) -> tuple[bytes, bytes]:
    """The certificates and the private key of a PEM text."""
    blocks = _PEM.findall(text)
    certificates = b"\n".join(block for block in blocks if b"CERTIFICATE" in block)
    (key,) = (block for block in blocks if b"PRIVATE KEY" in block)
    return certificates + b"\n", key + b"\n"


def _algorithm(key: bytes) -> bytes:
    """The standard's name for a key's algorithm. Raises ValueError."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 - extra
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - the same
        load_pem_private_key,
    )

    private_key = load_pem_private_key(key, None)
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        return {256: b"es256", 384: b"es384", 521: b"es512"}[private_key.key_size]
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(private_key, rsa.RSAPrivateKey):
        return b"ps256"
    raise ValueError("no such algorithm")
