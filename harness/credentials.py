"""Chains of certificates for content credentials."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def certificate(subject, issuer, public_key, signing_key, *extensions, uses):
    now = datetime.now(UTC)
    usage = x509.KeyUsage(**{name: name in uses for name in _USES})
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(usage, critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
    )
    for extension, is_critical in extensions:
        made = made.add_extension(extension, critical=is_critical)
    return made.sign(signing_key, hashes.SHA256())


def named(name):
    parts = {NameOID.ORGANIZATION_NAME: "Trustscale's tests", NameOID.COMMON_NAME: name}
    return x509.Name([x509.NameAttribute(*part) for part in parts.items()])


def new_chain():
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate(
        named("Root"), named("Root"), root_key.public_key(), root_key,
        (x509.BasicConstraints(ca=True, path_length=None), True),
        uses={"key_cert_sign", "crl_sign"},
    )  # fmt: skip
    leaf = certificate(
        named("Signer"), named("Root"), key.public_key(), root_key,
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
        uses={"digital_signature"},
    )  # fmt: skip
    pem = [one.public_bytes(Encoding.PEM).decode() for one in (leaf, root)]
    return "".join(pem), secret_of(key), pem[1]


def secret_of(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
