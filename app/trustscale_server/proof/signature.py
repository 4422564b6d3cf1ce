"""Who signed a file of ours: its content credentials (C2PA), which need the extra `credentials`."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from trustscale_server.platform.errors import ConfigError

SignatureState = Literal["no", "valid", "known", "invalid"]
"""Not at all; by somebody; by a signer that the caller knows; but the file was changed since."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class Signers:
    """Signers that the caller knows: certificates (PEM), and the serial numbers of all."""

    certificates: str = ""
    serials: tuple[str, ...] = ()


NOBODY: Final = Signers()


def signers_of(certificates: str) -> Signers:
    """Read certificates (PEM), each signer's with its issuers'.

    Raises ConfigError: the extra is missing, or there are none.
    """
    try:
        from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "Signatures need the extra: pip install 'trustscale[credentials]'."
        ) from error
    try:
        issued = load_pem_x509_certificates(certificates.encode())
    except ValueError:
        raise ConfigError("A signer's certificate must be PEM.") from None
    return Signers(certificates, tuple(str(certificate.serial_number) for certificate in issued))


@dataclass(frozen=True, slots=True)
class Signature:
    """What the content credentials of a file say.

    by: who signed; empty: somebody without a name. promise: as `serving/credentials.py` writes it.
    is_last: whether our manifest is the last one: nobody has edited the file since and said so.
    """

    state: SignatureState
    by: str
    promise: Mapping[str, Any]
    is_last: bool

    @property
    def is_valid(self) -> bool:
        """Whether somebody signed the file as it is."""
        return self.state in {"valid", "known"}


def signature_of(data: bytes, form: str, known: Signers) -> Signature | None:
    """Return what the content credentials of a file say, if one of their manifests is ours.

    None: there is no such manifest, or the extra is missing. form: of the file, as Pillow names it.
    """
    try:
        import c2pa  # noqa: PLC0415 - an extra
    except ImportError:
        return None

    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "verify_trust": True}}
    if known.certificates:
        settings["trust"] = {"trust_anchors": known.certificates}
    try:
        with c2pa.Context(c2pa.Settings.from_dict(settings)) as context:
            reader = c2pa.Reader.try_create(
                f"image/{form.lower()}", io.BytesIO(data), context=context
            )
            if reader is None:
                return None
            with reader:
                return _read(json.loads(reader.json()), known)
    except c2pa.C2paError:
        return None


def _read(store: Mapping[str, Any], known: Signers) -> Signature | None:
    """What a store of manifests says about ours."""
    manifests = store.get("manifests", {})
    ours = [name for name, manifest in manifests.items() if _is_ours(manifest)]
    if not ours:
        return None
    last = store.get("active_manifest")
    name = last if last in ours else ours[-1]
    manifest = manifests[name]
    promises = (
        assertion["data"]
        for assertion in manifest.get("assertions", ())
        if assertion.get("label") == "org.trustscale.guarantee"
    )
    info = manifest.get("signature_info") or {}
    by = one_line(info.get("common_name") or info.get("issuer") or "")
    return Signature(_state(store, info, known), by, next(promises, {}), name == last)


def _is_ours(manifest: Mapping[str, Any]) -> bool:
    generators = manifest.get("claim_generator_info", ())
    return any(generator.get("name") == "trustscale" for generator in generators)


def _state(store: Mapping[str, Any], info: Mapping[str, Any], known: Signers) -> SignatureState:
    match store.get("validation_state"):
        # An issuer has other customers, too; of one issuer a serial number is that of one signer.
        case "Trusted" if str(info.get("cert_serial_number")) in known.serials:
            return "known"
        case "Valid" | "Trusted":
            return "valid"
        case _:
            return "invalid"


def one_line(text: object) -> str:
    """Return a foreign text on one line, shortened, without signs that steer a terminal."""
    return _CONTROL.sub(" ", str(text))[:2000].strip()
