"""Webhooks: which receivers the operator allows, and signatures as in standardwebhooks.com.

An address comes from a client, so the operator must allow the host, all its addresses must be
public, the connection goes to the checked address, and redirects are not followed (`guard.py`).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from standardwebhooks import Webhook

from trustscale_server.platform.errors import BadRequest, TrustscaleError
from trustscale_server.upscalers.outbound.guard import Origin, is_listed

_PREFIX: Final = "whsec_"


def secret_of(text: str) -> bytes:
    """Return the bytes of a signing secret, `whsec_` and base64. Raises ValueError."""
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not text.startswith(_PREFIX) or not 24 <= len(secret) <= 64:
        raise ValueError(
            f"a secret is {_PREFIX} and base64 of 24 to 64 bytes, as of openssl rand -base64 32"
        )
    return secret


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Which receivers of webhooks the operator allows, and how deliveries are signed.

    Attributes:
        webhook_hosts: allowed receivers, with their subdomains; empty: no webhooks.
        secrets: each signs, so that receivers can rotate them.
        allow_private: whether hosts may have private addresses, and use http.
    """

    webhook_hosts: tuple[str, ...] = ()
    secrets: tuple[bytes, ...] = ()
    allow_private: bool = False

    def raise_if_refused(self, url: str | None, *, is_job: bool = True) -> None:
        """Raise BadRequest unless a request may name this receiver."""
        if url is None:
            return
        if not is_job:
            raise BadRequest("A webhook needs an asynchronous request: Prefer: respond-async.")
        if not self.webhook_hosts:
            raise BadRequest("This service sends no webhooks: its webhook_hosts are empty.")
        try:
            place = Origin.from_url(url)
        except TrustscaleError as error:
            raise BadRequest("webhook must be an http(s) URL without credentials.") from error
        if not is_listed(place.host, self.webhook_hosts):
            raise BadRequest(f"The host {place.host} is not among the webhook_hosts.")
        if place.scheme != "https" and not self.allow_private:
            raise BadRequest("The webhook must be an https URL.")

    def headers(self, delivery: str, at: datetime, body: str) -> dict[str, str]:
        """Return the headers that identify and sign a delivery."""
        signatures = (Webhook(secret).sign(delivery, at, body) for secret in self.secrets)
        return {
            "webhook-id": delivery,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
