"""What the methods of a service send, and what they make of its answers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Generic, TypeVar

import httpx

from trustscale._jobs import CALIBRATIONS, AsyncJob, Job
from trustscale._session import Problem, Session
from trustscale._upload import GROUP, AnyPairs, AnyPicture, Tar, archive_of, content, form, manifest

# Bytes, from which on two more requests cost less than the way through the service.
_LARGE = 1024 * 1024
# A server is silent while it spools and checks an upload of gigabytes.
_UPLOAD_TIMEOUT = httpx.Timeout(600.0, connect=10.0, read=None)

T = TypeVar("T", Job, AsyncJob)


class RequestMethods(Generic[T]):
    """The requests that several methods of a service share."""

    _session: Session
    _job: type[T]
    _sends_directly = True  # large pictures go to the service's object store, if it has one

    async def _form(
        self,
        picture: AnyPicture,
        enlarged: AnyPicture | None,
        fields: Mapping[str, Any],
        key: str | None,
        **headers: str,
    ) -> dict[str, Any]:
        key, data = key or secrets.token_hex(16), content(picture)
        upload = await self._upload_directly(data, key) if len(data) >= _LARGE else None
        files = {"image": ("image", data)} if upload is None else {}
        if enlarged is not None:
            files["enlarged"] = ("enlarged", content(enlarged))
        return {
            "files": files or None,
            "data": form(**fields, upload=upload),
            "headers": {**headers, "Idempotency-Key": key},
        }

    async def _upload_directly(self, data: bytes, key: str) -> str | None:
        if not self._sends_directly:
            return None
        try:
            link = await self._session.document(
                "POST", "/v1/uploads", "upload", headers={"Idempotency-Key": key}
            )
        except Problem as problem:
            is_unknown = problem.status == httpx.codes.NOT_FOUND  # an older service
            if not is_unknown and problem.type != "/problems/no-direct-uploads":
                raise
            self._sends_directly = False
            return None
        # Without the service's key, which the store must not learn.
        await self._session.send(
            "PUT", link["url"], content=data, headers=link["headers"], auth=None
        )
        return str(link["upload"])

    async def _list(self, path: str, **options: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._session.document("GET", path, None, **options)
        return rows

    async def _calibration_document(
        self, verb: str, path: str, member: str = "id", **options: Any
    ) -> dict[str, Any]:
        path = f"{CALIBRATIONS}{path}"
        document: dict[str, Any] = await self._session.document(verb, path, member, **options)
        return document

    async def _job_from_pairs(
        self,
        path: str,
        pairs: AnyPairs | Tar,
        options: Mapping[str, Any],
        fields: Mapping[str, Any],
    ) -> T:
        with pairs_form(pairs, options, fields) as sent:
            headers = {"Idempotency-Key": secrets.token_hex(16)}
            return await self._started_job("POST", f"{CALIBRATIONS}{path}", headers=headers, **sent)

    async def _started_job(self, verb: str, path: str, **options: Any) -> T:
        return self._job(
            self._session, await self._session.document(verb, path, "state", **options)
        )


@contextmanager
def pairs_form(
    pairs: AnyPairs | Tar, options: Mapping[str, Any], fields: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Open the request that sends pairs, with other fields; options: those of `PairOptions`."""
    groups, scenes = options.get("groups"), options.get("scenes")
    group_by = options.get("group_by") or (GROUP if groups else None)
    data = form(group_by=group_by, scene_by=options.get("scene_by"), **fields)
    table = manifest(groups, scenes)
    named = {} if table is None else {"manifest": ("manifest.csv", table)}
    with closing(archive_of(pairs, options.get("on_sent"))) as archive:
        files = {"archive": ("pairs", archive), **named}
        yield {"files": files, "data": data, "timeout": _UPLOAD_TIMEOUT}
