"""PUT /v1/results/{id}/share: keep a result for those who get its link, under a name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, Field

from trustscale_server.http.access import ClientDep, client_router
from trustscale_server.http.routes.results import ResultId
from trustscale_server.http.state import StateDep, state_of
from trustscale_server.platform.errors import NotFound
from trustscale_server.web.routes import Preview

router = client_router("/v1/results", "bad-request", "not-found", "unauthorized")


class Sharing(BaseModel):
    """What a shared result is called."""

    name: Annotated[str, Field(min_length=1, max_length=200)]


class SharedResult(BaseModel):
    """A result that is kept for longer."""

    path: str = Field(description="Its page.")
    expires: datetime


@router.put("/{result_id}/share")
async def share_result(
    result_id: ResultId, sharing: Sharing, state: StateDep, _: ClientDep
) -> SharedResult:
    """Keep a result as long as shared ones (`shared_result_ttl_s`), from now on.

    Its page then has its name as the title, and its card as a preview where no key is needed. A
    full store may remove it earlier.
    """
    results = state.services.stores.results
    document = json.loads(await results.document(result_id))
    document["shared_as"] = sharing.name
    expires = await results.extend(
        result_id, json.dumps(document).encode(), ttl_s=state.services.settings.shared_result_ttl_s
    )
    return SharedResult(
        path=f"{state.services.settings.path_prefix}/r/{result_id}",
        expires=datetime.fromtimestamp(expires, UTC),
    )


async def preview(request: Request, result_id: str) -> Preview | None:
    """Return how a link to a result is shown elsewhere; None unless it was shared."""
    state = state_of(request)
    try:
        document = json.loads(await state.services.stores.results.document(result_id))
    except NotFound:
        return None
    name = document.get("shared_as")
    if name is None:
        return None
    has_card = state.client_keys.is_empty and document.get("links", {}).get("card")
    image = f"{request.base_url}v1/results/{result_id}/card.jpeg" if has_card else None
    return Preview(name, image)
