"""What the service refuses, as an exception."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx


class Problem(Exception):
    """A problem document (RFC 9457).

    type: its URI, such as `/problems/bad-image`; `about:blank` of an answer that is none.
    status: of HTTP; 0 of a job that failed.
    members: further members, such as `items`, `differences` or `fields`.
    retry_after: seconds after which trying again makes sense; None: not said.
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
        """The problem of an answer that is no success; also of one that is no document."""
        try:
            found = response.json()
            document = {**found, "detail": found["detail"]}
        except (ValueError, KeyError, TypeError):
            answered = f"{response.status_code} {response.reason_phrase}"
            document = {"detail": f"{response.url.host} answered {answered}."}
        document["status"] = response.status_code  # other servers have words for it
        after = response.headers.get("Retry-After", "")
        return cls(document, float(after) if after.isdecimal() else None)

    @classmethod
    def of_another(cls, response: httpx.Response) -> Problem:
        """The problem of an answer that Trustscale does not give."""
        return cls({"detail": f"{response.url} does not answer as Trustscale does to this."})
