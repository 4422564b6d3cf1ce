"""Refusals and failures as exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx


class Problem(Exception):
    """A problem document (RFC 9457).

    type: such as `/problems/bad-image`; `about:blank` for answers that are no such document.
    status: of HTTP; 0 for a failed job.
    members: the others, such as `items`, `differences` or `fields`.
    retry_after: seconds; None: not said.
    """

    def __init__(self, document: Mapping[str, Any], retry_after: float | None = None) -> None:
        members = dict(document)
        self.type = str(members.pop("type", "about:blank"))
        self.title = str(members.pop("title", "Problem"))
        self.status = int(members.pop("status", 0))
        self.detail = str(members.pop("detail", self.title))
        self.members = members
        self.retry_after = retry_after
        super().__init__(self.detail)

    @classmethod
    def of(cls, response: httpx.Response) -> Problem:
        """The problem of an unsuccessful answer, whatever its body."""
        try:
            found = response.json()
            document = {**found, "detail": found["detail"]}
        except (ValueError, KeyError, TypeError):
            answered = f"{response.status_code} {response.reason_phrase}"
            document = {"detail": f"{response.url.host} answered {answered}."}
        document["status"] = response.status_code  # other servers send text
        after = response.headers.get("Retry-After", "")
        return cls(document, float(after) if after.isdecimal() else None)

    @classmethod
    def of_another(cls, response: httpx.Response) -> Problem:
        """The problem of an answer that is not Trustscale's."""
        return cls({"detail": f"{response.url} does not answer as Trustscale does to this."})
