"""Settings of the web page."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from enlight.servicekit.service_settings import MIB, HttpSettings

_URL = re.compile(r"https?://[^/?#@\s]+")
_MIN_SECRET_CHARACTERS = 32


class Settings(HttpSettings):
    """``DASHBOARD_...``."""

    model_config = SettingsConfigDict(env_prefix="DASHBOARD_")

    port: int = Field(8050, ge=1, le=65535, description="Port to listen on.")
    main_api_url: str = Field("http://127.0.0.1:8040", description="Address of main-api.")
    auth: Literal["key", "off"] = Field(
        "key",
        description="`key`: people sign in with an API key of main-api. `off`: nobody signs in; only where the page "
        "listens on a loopback address, before a main-api that asks for no keys.",
    )
    secret: SecretStr | None = Field(
        None,
        description="Seals the cookies, at least 32 characters, the same for all instances. Unset: a new one at each "
        "start, so that everybody signs in again after it.",
    )
    session_hours: float = Field(24 * 7, gt=0, le=24 * 90, description="A sign-in lasts this long.")
    https: bool = Field(
        default=False, description="Whether people reach the page by https; cookies are then sent over nothing else."
    )

    max_body_bytes: int = Field(256 * MIB, ge=1, description="Largest body of a request: the photos of a training.")
    max_model_bytes: int = Field(8 * 1024 * MIB, ge=1, description="Largest file of a model that is imported.")
    max_small_body_bytes: int = Field(MIB, ge=1, description="Largest body of a request without photos.")
    max_uploads: int = Field(4, ge=1, le=64, description="Requests with photos or a model at once; one more gets 503.")
    max_requests: int = Field(32, ge=1, le=1024, description="Threads for all other requests; what comes beyond waits.")
    max_event_streams: int = Field(64, ge=1, le=1024, description="Event streams at once; one more gets 503.")
    read_timeout_s: float = Field(30, gt=0, le=600, description="Limit of what main-api answers from its records.")
    work_timeout_s: float = Field(
        900, gt=0, le=3600, description="Limit of main-api's work: a cut-out, an enlargement, a removal."
    )

    @field_validator("main_api_url")
    @classmethod
    def _address(cls, url: str) -> str:
        if not _URL.fullmatch(url):
            raise ValueError("must be an address such as http://127.0.0.1:8040, without a path")
        return url

    @field_validator("secret")
    @classmethod
    def _long_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < _MIN_SECRET_CHARACTERS:
            raise ValueError(f"must have at least {_MIN_SECRET_CHARACTERS} characters")
        return secret

    @model_validator(mode="after")
    def _no_open_door(self) -> Self:
        if self.auth == "off" and not is_loopback(self.host):
            raise ValueError("AUTH=off is only taken with HOST on a loopback address such as 127.0.0.1")
        return self

    @property
    def http_threads(self) -> int:
        """One for each request that may be under way, and the spare ones."""
        return self.max_uploads + self.max_requests + self.max_event_streams + self.spare_threads


def is_loopback(host: str) -> bool:
    """Whether only this machine's own programs reach ``host``, a name or an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
