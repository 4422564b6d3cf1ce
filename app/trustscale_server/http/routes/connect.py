"""Upscalers that are not configured yet: an entry from what a server says, tried by one call."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from trustscale_server.calibration.canaries import MAX_CANARIES
from trustscale_server.http.access import AdminDep, admin_router
from trustscale_server.http.forms import MAX_JSON_BYTES
from trustscale_server.http.state import StateDep
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.platform.errors import BadRequest
from trustscale_server.platform.telemetry.logs import log_action
from trustscale_server.sampling.spec import DEFAULT_SAMPLES
from trustscale_server.upscalers.config import RemoteConfig
from trustscale_server.upscalers.connect.request import ConnectRequest, upscaler_config_of
from trustscale_server.upscalers.connect.suggest import suggest
from trustscale_server.upscalers.connect.trial import attempt
from trustscale_server.upscalers.entries import toml_of

router = admin_router("upscalers", "bad-request", "upscaler-unavailable", "upscaler-failed")

_PICTURES = 100  # enough for a steady mask


class ProbeIn(BaseModel):
    """What to connect."""

    model_config = ConfigDict(extra="forbid")

    address: str = Field(
        max_length=2000,
        json_schema_extra={"format": "uri"},
        description="URL of a model on Replicate, a Gradio app or Space, or a server with `/v2` or "
        "an OpenAPI description; on the machine of the command also an ONNX file.",
    )
    call: bool = Field(
        False, description="Make one call with a small picture, which may cost money."
    )
    token: SecretStr = Field(
        SecretStr(""),
        description="The token for this request only, which is neither stored nor logged. "
        "The entry names the "
        "variable that will hold it, `settings.token_env`.",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of the entry that go before what is found: `name`, `model`, …",
    )

    @field_validator("token")
    @classmethod
    def _can_be_sent(cls, token: SecretStr) -> SecretStr:
        text = token.get_secret_value()
        if not (text.isascii() and text.isprintable()):
            raise ValueError("it has characters that no token has")
        return token


class CalibrationCost(BaseModel):
    """What a calibration takes."""

    pictures: int
    kinds: int = Field(description="How many kinds of upload each picture is measured as.")
    calls: int = Field(description="The calls, with those that watch for changes of the model.")
    price: float | None = Field(
        description="The price at `price_per_call`; null if that is not set."
    )
    seconds: float | None = Field(
        description="The time at the pace of the trial; null without a trial."
    )


class ProbeOut(BaseModel):
    """An entry of `[[upscalers]]`, complete after a call."""

    what: str = Field(description="What the server is, for people.")
    entry: dict[str, Any]
    toml: str = Field(description="The entry as text for the file of settings.")
    needs: list[str] = Field(description="Settings that nobody can guess, without which it fails.")
    notes: list[str] = Field(description="What a person should look at.")
    tried: bool
    scale: int | None = Field(description="The scale that the call showed.")
    seconds: float | None = Field(description="How long the call took, in seconds.")
    calibration: CalibrationCost


@router.post("/probe", max_body_size=MAX_JSON_BYTES)
async def probe_upscaler(probe: ProbeIn, state: StateDep, actor: AdminDep) -> ProbeOut:
    """Suggest the settings of an upscaler from its address.

    With `call` it is tried by one call. It is served once the entry is in the file of settings and
    the service was restarted.
    """
    is_own = state.operator is not None  # the caller's process, and so the caller's network
    if not is_own and "://" not in probe.address:
        raise BadRequest(
            "A URL is needed. An ONNX file is connected by `trustscale connect FILE`, where the "
            "service runs."
        )
    variable = {"token_env": "UPSCALER_TOKEN"} if probe.token.get_secret_value() else {}
    connection = ConnectRequest(
        probe.address,
        probe.token,
        variable | probe.settings,
        allow_private=is_own or "connect" in state.services.settings.allow_private_networks,
    )
    suggestion = await suggest(connection)
    if not is_own:
        log_action("upscaler.probe", actor, upscaler=suggestion.entry["name"], call=probe.call)
    suggested, notes, scale, seconds = suggestion.entry, suggestion.notes, None, None
    if probe.call:
        if suggestion.needs:
            raise BadRequest(f"Set {', '.join(suggestion.needs)} first: the model asks for it.")
        tried = await attempt(suggestion.entry, connection, suggestion.polls)
        suggested, scale, seconds = tried.entry, tried.scale, tried.seconds
        notes = [*notes, *tried.notes]
    return ProbeOut(
        what=suggestion.what,
        entry=suggested,
        toml=toml_of(suggested),
        needs=suggestion.needs,
        notes=notes,
        tried=probe.call,
        scale=scale,
        seconds=None if seconds is None else round(seconds, 3),
        calibration=_cost(suggested, seconds),
    )


def _cost(suggested: dict[str, Any], seconds: float | None) -> CalibrationCost:
    kinds, config = len(TYPICAL_UPLOADS.variants()), upscaler_config_of(suggested)
    is_watched = isinstance(config, RemoteConfig) and config.canary != "off"
    canaries = MAX_CANARIES if is_watched else 0
    calls, price = _PICTURES * kinds * DEFAULT_SAMPLES + canaries, config.price_per_call
    return CalibrationCost(
        pictures=_PICTURES,
        kinds=kinds,
        calls=calls,
        price=None if price is None else calls * price,
        seconds=None if seconds is None else round(calls * seconds / config.concurrency),
    )
