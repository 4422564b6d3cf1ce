"""POST /v1/check: whether a large picture contradicts the small one that it was made from."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import File, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, Response
from numpy.typing import NDArray

from trustscale_server.http.access import ClientDep, client_router
from trustscale_server.http.connection import while_connected
from trustscale_server.http.problems import PICTURE_PROBLEMS, limited_responses
from trustscale_server.http.state import State, StateDep
from trustscale_server.images.decoding.header import image_size
from trustscale_server.images.sandbox.client import decoding
from trustscale_server.platform.errors import BadRequest
from trustscale_server.platform.tasks import shielded
from trustscale_server.proof.check.card import CheckCardForm, check_card
from trustscale_server.proof.check.check import check_pictures
from trustscale_server.proof.check.document import Check
from trustscale_server.proof.check.files import LARGE, SMALL, memory_of, read_for_check
from trustscale_server.proof.check.report import POLICY, html_report
from trustscale_server.proof.check.things import Finders, finders

AnswerFormat = CheckCardForm | Literal["json", "html"]

router = client_router()


@router.post(
    "/v1/check",
    response_model=Check,
    responses={
        200: {
            "description": "What they say of each other, as JSON, a report, or a card.",
            "content": {"text/html": {}, "image/png": {}, "image/webp": {}, "image/jpeg": {}},
        },
        **limited_responses(*PICTURE_PROBLEMS),
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
    card: Annotated[
        CheckCardForm | None,
        Query(description="Whether to answer with a picture to share: what was found, framed."),
    ] = None,
) -> Check | Response:
    """Say whether two pictures belong together, and where the large one contradicts.

    No model and no calibration: so silence proves nothing. Nothing is stored. It counts as a
    request of the client.
    """
    if report and card is not None:
        raise BadRequest("Ask for a report or for a card: one answer cannot be both.")
    await state.charge("requests")
    answer_format: AnswerFormat = card or ("html" if report else "json")
    findings, file = await while_connected(request, _checked(state, small, large, answer_format))
    if answer_format == "json":
        return findings
    headers = {"Content-Disposition": f'attachment; filename="check.{answer_format}"'}
    if answer_format == "html":
        headers["Content-Security-Policy"] = POLICY
        return HTMLResponse(file, headers=headers)
    return Response(file, media_type=f"image/{answer_format}", headers=headers)


async def _checked(
    state: State, small: UploadFile, large: UploadFile, answer_format: AnswerFormat
) -> tuple[Check, bytes]:
    thing_finders = finders(state.context.find_faces)
    async with state.context.decoding.held():
        files = (small.file, SMALL), (large.file, LARGE)
        sizes = [await decoding(image_size, file, limits) for file, limits in files]
        async with state.context.slots.slot(memory_of(sizes[0], sizes[1])):
            small_rgb, large_rgb = [
                await decoding(read_for_check, file, limits) for file, limits in files
            ]
            return await shielded(_compared, small_rgb, large_rgb, answer_format, thing_finders)


def _compared(
    small: NDArray[np.uint8],
    large: NDArray[np.uint8],
    answer_format: AnswerFormat,
    thing_finders: Finders,
) -> tuple[Check, bytes]:
    """The findings, and the report or card that shows them; empty where the answer is JSON."""
    checked = check_pictures(small, large, thing_finders)
    if answer_format == "json":
        return checked.check, b""
    if answer_format == "html":
        return checked.check, html_report(small, large, checked).encode()
    return checked.check, check_card(small, large, checked.check, answer_format)
