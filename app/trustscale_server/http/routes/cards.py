"""GET /v1/results/{id}/card.png: the picture with a caption that says what can be relied on."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request
from fastapi.responses import Response

from trustscale_server.http.access import ClientDep, client_router
from trustscale_server.http.connection import while_connected
from trustscale_server.http.drawing import in_turn, mask_at
from trustscale_server.http.openapi import file_response
from trustscale_server.http.problems import limited_responses
from trustscale_server.http.routes.results import Alpha, ResultId
from trustscale_server.http.state import State, StateDep
from trustscale_server.http.streamed import StreamedFile
from trustscale_server.images.encoding.encode import PICTURE_FORMATS
from trustscale_server.platform.tasks import shielded
from trustscale_server.proof.themes import Theme
from trustscale_server.serving.caption import Look
from trustscale_server.serving.card_file import CardFormat, CardOptions, card_of
from trustscale_server.serving.document import Result
from trustscale_server.serving.file_names import REST
from trustscale_server.serving.stored_answer import image_file, stored_result

router = client_router("/v1/results", "bad-request", "not-found", "unauthorized")


@router.get(
    "/{result_id}/card.{format}",
    response_class=Response,
    responses={
        **file_response(*(PICTURE_FORMATS[name].media_type for name in ("png", "webp", "jpeg"))),
        **limited_responses("not-found", "bad-request", "bad-alpha"),
    },
)
async def get_result_card(
    request: Request,
    result_id: ResultId,
    file_format: Annotated[CardFormat, Path(alias="format")],
    state: StateDep,
    _: ClientDep,
    alpha: Alpha = None,
    look: Annotated[
        Look, Query(description="How the card shows what cannot be relied on.")
    ] = "soft",
    theme: Annotated[Theme, Query(description="The colours of its caption.")] = "light",
) -> Response:
    """Fetch the card: the picture with a caption below, made to be sent.

    Drawing it counts as a request of the client.
    """
    result = stored_result(await state.services.stores.results.document(result_id))
    options = CardOptions(result.alpha if alpha is None else alpha, file_format, look, theme)
    await state.charge("requests")
    drawn = await while_connected(request, in_turn(state, _card(state, result, options)))
    return StreamedFile(drawn, PICTURE_FORMATS[file_format].media_type)


async def _card(state: State, result: Result, options: CardOptions) -> bytes:
    mask = await mask_at(state, result, options.alpha)
    image = await state.services.stores.results.blob(result.id, image_file(result))
    rest = await state.services.stores.results.blob(result.id, REST)
    credentials = state.context.credentials
    return await shielded(card_of, result, options, image, mask, rest, credentials)
