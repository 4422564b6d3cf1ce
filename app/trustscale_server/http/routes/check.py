"""POST /v1/check: whether a large picture contradicts the small one that it was made from."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, Response

from trustscale_server.http.connection import while_connected
from trustscale_server.http.problems import limited_responses
from trustscale_server.http.state import ClientDep, ClientRoute, State, StateDep
from trustscale_server.images.check.check import (
    LARGE,
    SMALL,
    Check,
    Checked,
    Pixels,
    check,
    memory_of,
    read_picture,
    size_of,
)
from trustscale_server.images.check.report import POLICY, html_report
from trustscale_server.images.sandbox.client import decoding
from trustscale_server.platform.fair import current_client
from trustscale_server.platform.tasks import shielded

router = APIRouter(route_class=ClientRoute, tags=["upscale"])

_PROBLEMS = ("bad-image", "decode-limit", "image-too-large", "unsupported-media", "bad-request")


@router.post(
    "/v1/check",
    response_model=Check,
    responses={
        200: {"description": "What they say of each other.", "content": {"text/html": {}}},
        **limited_responses(*_PROBLEMS),
    },
    max_body_size=SMALL.max_bytes + LARGE.max_bytes + 2**16,
    form_limits={"max_files": 2, "max_fields": 2, "max_part_size": 4096},
)
async def check_files(
    request: Request,
    state: StateDep,
    _: ClientDep,
    small: Annotated[UploadFile, File(description="The picture that was enlarged.")],
    large: Annotated[UploadFile, File(description="Its enlargement, whoever made it.")],
    report: Annotated[
        bool, Query(description="Whether to answer with a report for people, as HTML.")
    ] = False,
) -> Check | Response:
    """Say whether two pictures belong together, and where the large one contradicts.

    No model and no calibration: so silence proves nothing. Nothing is stored. It counts as a
    request of the client.
    """
    await state.limits.take(current_client.get(), "requests")
    checked, page = await while_connected(request, _checked(state, small, large, report))
    if not report:
        return checked.check
    headers = {
        "Content-Security-Policy": POLICY,
        "Content-Disposition": 'attachment; filename="check.html"',
    }
    return HTMLResponse(page, headers=headers)


async def _checked(
    state: State, small: UploadFile, large: UploadFile, report: bool
) -> tuple[Checked, str]:
    async with state.service.context.decoding.held():
        files = (small.file, SMALL), (large.file, LARGE)
        sizes = [await decoding(size_of, file, limits) for file, limits in files]
        async with state.service.context.slots.slot(memory_of(sizes[0], sizes[1])):
            ours, theirs = [await decoding(read_picture, file, limits) for file, limits in files]
            return await shielded(_compared, ours, theirs, report)


def _compared(small: Pixels, large: Pixels, report: bool) -> tuple[Checked, str]:
    checked = check(small, large)
    return checked, html_report(small, large, checked) if report else ""
