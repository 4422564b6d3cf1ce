"""The settings of one process, and what follows from them, in one frozen object.

Order of precedence: environment `TRUSTSCALE_*`, then the file that `TRUSTSCALE_CONFIG` names (or
`trustscale.toml` in the working folder, if it exists), then the defaults of `fields.py`. In the
file, `${NAME}` inside a string stands for an environment variable; keys may only be given that way.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from trustscale_server.bootstrap.fields import SettingFields
from trustscale_server.bootstrap.sources import (
    ENV_PREFIX,
    OTHER_VARIABLES,
    read_file,
    referenced_names,
)
from trustscale_server.images.limits import Limits
from trustscale_server.platform.config_errors import (
    did_you_mean,
    field_names,
    in_one_sentence,
    reason,
)
from trustscale_server.platform.errors import ConfigError
from trustscale_server.serving.credentials import Credentials
from trustscale_server.upscalers.base import AUTO
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedConfig
from trustscale_server.upscalers.outbound.fetch import ImageHosts
from trustscale_server.upscalers.outbound.webhooks import Webhooks, secret_of
from trustscale_server.upscalers.registry import UpscalerConfig

_OF_KUBERNETES: Final = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)$")
"""Variables that it sets in every pod for each Service, such as `TRUSTSCALE_GATEWAY_PORT`."""

_file: ContextVar[Mapping[str, Any]] = ContextVar("file", default={})  # noqa: B039 - never changed
"""What `load_settings` has read."""


class Settings(SettingFields):
    """The effective configuration of one process."""

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        names = [upscaler.name for upscaler in self.upscalers]
        if len(set(names)) < len(names):
            raise ValueError("two upscalers have the same name")
        if AUTO in names:
            raise ValueError(f"no upscaler can be called {AUTO}")
        known = {*names, AUTO} if self.active_routing else {*names}
        if self.default_upscaler is not None and self.default_upscaler not in known:
            raise ValueError(
                f"there is no upscaler {self.default_upscaler!r} for default_upscaler; there is "
                f"{', '.join(sorted(known))}"
            )
        if "routing" in self.model_fields_set and not self.active_routing:
            raise ValueError("routing names an upscaler that there is not, or has no pattern *")
        pixels = self.client_pixels_per_minute
        # Otherwise a large image would be rate-limited for ever.
        if pixels is not None and pixels < self.limits.max_pixels:
            raise ValueError("client_pixels_per_minute is smaller than max_input_pixels")
        if self.webhook_hosts and not self.webhook_secrets:
            raise ValueError("webhook_hosts needs webhook_secrets")
        return self

    @property
    def webhooks(self) -> Webhooks:
        """Receivers of ended jobs."""
        secrets = tuple(secret_of(secret.get_secret_value()) for secret in self.webhook_secrets)
        return Webhooks(
            tuple(self.webhook_hosts), secrets, "webhooks" in self.allow_private_networks
        )

    @property
    def image_sources(self) -> ImageHosts:
        """Hosts that pictures may be fetched from."""
        allow_private = "image_url" in self.allow_private_networks
        return ImageHosts(tuple(self.image_url_allowed_hosts), allow_private)

    @property
    def signer(self) -> Credentials | None:
        """What signs pictures. Raises ConfigError."""
        if self.credentials is None:
            return None
        return Credentials.from_pem(self.credentials.get_secret_value())

    @property
    def not_offered(self) -> str | None:
        """A warning if configured upscalers replace shipped models, else None."""
        models = {entry.model for entry in self.upscalers if isinstance(entry, EmbeddedConfig)}
        missing = [name for name in SHIPPED_MODELS if name not in models]
        if "upscalers" not in self.model_fields_set or self.active_routing or not missing:
            return None
        entries = ", ".join(
            f'{{name="{name}", model="{name}", kind="embedded"}}' for name in missing
        )
        return (
            f"upscalers replaces the shipped models: {' and '.join(missing)} and {AUTO} are not "
            f"offered; to have them, add {entries}"
        )

    @property
    def default(self) -> str:
        """The upscaler that is used where none is named and no upload can decide."""
        first = self.upscalers[0].name
        return first if self.default_upscaler in {None, AUTO} else self.default_upscaler or first

    @property
    def active_routing(self) -> dict[str, str]:
        """The upscalers by patterns of classes; empty, so without `auto`, if one is missing."""
        names = {upscaler.name for upscaler in self.upscalers}
        return (
            self.routing if "*" in self.routing and names.issuperset(self.routing.values()) else {}
        )

    @property
    def prefers_auto(self) -> bool:
        """Whether a request without an upscaler means `auto`."""
        return bool(self.active_routing) and self.default_upscaler in {None, AUTO}

    def upscaler(self, name: str) -> UpscalerConfig | None:
        """Return the entry of an upscaler, or None if there is none."""
        return next((entry for entry in self.upscalers if entry.name == name), None)

    def price_per_call(self, name: str) -> float | None:
        """Return the price of a call of an upscaler, if configured."""
        entry = self.upscaler(name)
        return None if entry is None else entry.price_per_call

    @property
    def asks_first(self) -> frozenset[str]:
        """Upscalers that are not called where nothing would be promised."""
        priced = {entry.name for entry in self.upscalers if entry.price_per_call}
        return frozenset(priced)

    @property
    def gateway_runs_jobs(self) -> bool:
        """Whether `trustscale serve` runs jobs."""
        return (
            self.queue.startswith("memory:")
            if self.embedded_job_worker is None
            else self.embedded_job_worker
        )

    @property
    def limits(self) -> Limits:
        """Bounds on an uploaded image."""
        max_pixels = self.max_input_pixels
        if "max_input_pixels" not in self.model_fields_set:
            max_pixels = min(max_pixels, self.client_pixels_per_minute or max_pixels)
        return Limits(self.max_upload_bytes, max_pixels)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return (init_settings, env_settings, InitSettingsSource(settings_cls, dict(_file.get())))


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of this process.

    Raises:
        ConfigError: one line that names every wrong setting and what is wrong with it.
    """
    document, mistakes = read_file()
    entries = _entries(overrides, document)
    mistakes += _unknown_variables(entries)
    token = _file.set(document)
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        names = [_name_of(entry) for entry in entries]
        known = field_names(Settings)
        problems = [
            (_place(item["loc"], names), reason(item, known))
            for item in error.errors(include_input=False, include_url=False)
        ]
        text = "; ".join([*mistakes, in_one_sentence(problems)])
        raise ConfigError(f"Wrong configuration: {text}") from None
    except ValueError as error:  # an environment variable that is not the JSON it should be
        text = "; ".join([*mistakes, str(error)])
        raise ConfigError(f"Wrong configuration: {text}.") from None
    finally:
        _file.reset(token)
    if mistakes:
        text = "; ".join(mistakes)
        raise ConfigError(f"Wrong configuration: {text}{'' if text.endswith('?') else '.'}")
    return settings


def _place(loc: tuple[int | str, ...], names: Sequence[str | None]) -> str:
    """The place of a mistake, with the name of the upscaler."""
    match loc:
        case ("upscalers", int(number), *rest) if number < len(names) and names[number]:
            # The first of the rest is the kind, where that is known.
            where = [str(step) for step in (rest[1:] if len(rest) > 1 else rest)]
            return ": ".join(filter(None, [f"upscaler {names[number]!r}", ".".join(where)]))
        case _:
            return ".".join(map(str, loc)) or "settings"


def _entries(overrides: Mapping[str, Any], document: Mapping[str, Any]) -> list[Any]:
    """The entries of `upscalers` as given."""
    try:
        entries = overrides.get("upscalers") or json.loads(
            os.environ.get(f"{ENV_PREFIX}UPSCALERS", "0")
        )
    except ValueError:
        entries = None
    entries = entries or document.get("upscalers")
    return list(entries) if isinstance(entries, list | tuple) else []


def _name_of(entry: Any) -> str | None:
    name = _value(entry, "name")
    return name if isinstance(name, str) else None


def _value(entry: Any, field: str) -> Any:
    return entry.get(field) if isinstance(entry, dict) else getattr(entry, field, None)


def unknown_variables(environ: Mapping[str, str], used: Collection[str] = ()) -> list[str]:
    """Return `TRUSTSCALE_*` variables that nothing reads; they are misspelt, or of another release.

    used: names that the settings themselves refer to.
    """
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    return sorted(
        name
        for name in environ
        if name.startswith(ENV_PREFIX)
        and name not in {*OTHER_VARIABLES, *used}
        and name.split("__")[0] not in known
        and not _OF_KUBERNETES.search(name)
    )


def _unknown_variables(entries: Sequence[Any]) -> list[str]:
    """Mistakes in the environment, each in words."""
    tokens = {name for entry in entries if isinstance(name := _value(entry, "token_env"), str)}
    return [
        f"the environment variable {name}: there is no such setting"
        f"{did_you_mean(name.removeprefix(ENV_PREFIX), Settings.model_fields)}"
        for name in unknown_variables(os.environ, {*referenced_names(), *tokens})
    ]
