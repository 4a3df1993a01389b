"""Settings of the gateway, read once from ``MAIN_API_*`` and passed down as an argument."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from enlight.dreambooth_api.requests import StoreConfig
from enlight.dreambooth_api.training_defaults import BaseModelSettings, TrainingDefaults
from enlight.servicekit.service_settings import MIB, HttpSettings

KIB = 1024
GIB = 1024**3
_PORTS = {"dreambooth_urls": 5000, "bgrem_urls": 4000, "upsampler_urls": 4455, "realesrgan_urls": 11111}


_SERVICE_URL = re.compile(r"https?://[^/?#@\s]+")


def _local(port: int) -> list[str]:
    return [f"http://127.0.0.1:{port}"]


class Settings(TrainingDefaults, BaseModelSettings, HttpSettings):
    """Every field is the environment variable ``MAIN_API_<FIELD>``; units are in the names."""

    model_config = SettingsConfigDict(env_prefix="MAIN_API_", frozen=True, extra="forbid")

    port: int = Field(8040, ge=1, le=65535, description="Port to listen on.")
    keys: Literal["on", "off"] = Field(
        "on", description="`off`: no key is asked for; only where the gateway listens on a loopback address."
    )
    public_url: str = Field(
        "",
        description="Where clients reach the gateway, such as `https://pictures.example.com`: what links to pictures "
        "begin with. Empty: each request's own address.",
    )
    data_folder: Path = Field(Path("data"), description="Holds the buckets whose URL is not set.")

    # Where state lives
    mongo_url: str = Field("mongodb://127.0.0.1:27117", repr=False, description="MongoDB: jobs, models, keys, usage.")
    mongo_database: str = Field("enlight", min_length=1, max_length=63, description="Name of the database.")
    mongo_timeout_s: float = Field(5, gt=0, le=60, description="Limit of one call to MongoDB.")
    queue_url: str = Field(
        "redis://127.0.0.1:6390/0", repr=False, description="Redis or Valkey of the queue; keeps its data (AOF)."
    )
    cache_urls: list[str] = Field(
        default_factory=lambda: ["redis://127.0.0.1:6379/0"],
        repr=False,
        description="Redis or Valkey of the cache, JSON list: one URL, or several nodes of one cluster; empty: none.",
    )
    redis_timeout_s: float = Field(0.2, gt=0, le=10, description="Limit of one call to the queue or the cache.")
    models_url: str = Field(
        "", description="Bucket of models, `gs://bucket[/prefix]` or `file:///folder`; empty: `modelids` in the folder."
    )
    jobs_url: str = Field(
        "", description="Bucket of jobs' photos and checkpoints; empty: `job-objects` in the data folder."
    )
    cache_objects_url: str = Field(
        "", description="Bucket of large cached answers; empty: `cached-answers` in the data folder."
    )
    pictures_url: str = Field("", description="Bucket of kept pictures; empty: `pictures` in the data folder.")
    files_url: str = Field(
        "",
        description="Bucket of photos that OpenAI's clients upload to train with; empty: `uploaded-files` in the data "
        "folder.",
    )
    storage_timeout_s: float = Field(10, gt=0, le=600, description="Limit of one call to a bucket.")
    storage_retry_total_s: float = Field(
        30, ge=0, le=3600, description="Limit of one bucket operation with all of its retries."
    )

    # The services behind
    dreambooth_urls: list[str] = Field(
        default_factory=lambda: _local(_PORTS["dreambooth_urls"]), description="dreambooth-api's addresses, JSON list."
    )
    bgrem_urls: list[str] = Field(
        default_factory=lambda: _local(_PORTS["bgrem_urls"]), description="bgrem's addresses, JSON list."
    )
    upsampler_urls: list[str] = Field(
        default_factory=lambda: _local(_PORTS["upsampler_urls"]), description="upsampler's addresses, JSON list."
    )
    realesrgan_urls: list[str] = Field(
        default_factory=lambda: _local(_PORTS["realesrgan_urls"]), description="realesrgan's addresses, JSON list."
    )
    dreambooth_instance_urls: list[str] = Field(
        default_factory=list,
        description="dreambooth-api's processes themselves, for `GET /v1/workers`, where the address is that of a "
        "balancer: JSON list. The name in a URL stands for all addresses that it has. Empty: as `DREAMBOOTH_URLS`.",
    )
    bgrem_instance_urls: list[str] = Field(default_factory=list, description="The same of bgrem.")
    upsampler_instance_urls: list[str] = Field(default_factory=list, description="The same of upsampler.")
    realesrgan_instance_urls: list[str] = Field(default_factory=list, description="The same of realesrgan.")
    connect_timeout_s: float = Field(2, gt=0, le=60, description="Limit of reaching a service.")
    image_timeout_s: float = Field(600, gt=0, description="Limit of a service's silence on a picture route; then 504.")
    inference_timeout_s: float = Field(660, gt=0, description="Limit of dreambooth-api's silence; then 504.")
    upstream_check_every_s: float = Field(5, gt=0, le=3600, description="Time between two looks at each dependency.")

    # How much at once
    max_requests: int = Field(
        64, ge=1, le=1024, description="Requests handed on at once, over all routes; one more gets 503."
    )
    max_buffered_bytes: int = Field(
        512 * MIB, ge=1, description="Bodies held in memory at once, over all requests; one that does not fit gets 503."
    )
    max_answer_bytes: int = Field(256 * MIB, ge=1, description="Largest answer of a service that is read into memory.")
    max_small_body_bytes: int = Field(1 * MIB, ge=1, description="Largest body of a route that takes no pictures.")
    max_train_body_bytes: int = Field(256 * MIB, ge=1, description="Largest body of a training request.")

    # Keys, limits of a tenant
    key_cache_s: float = Field(5, ge=0, le=5, description="How long a key is believed without asking MongoDB.")
    requests_per_minute: int = Field(0, ge=0, description="Requests of one tenant in a minute; 0: no limit.")
    gpu_seconds_per_hour: int = Field(
        0, ge=0, description="GPU seconds of one tenant in an hour, workers' time on trainings included; 0: no limit."
    )
    max_pictures: int = Field(
        10_000, ge=1, le=10_000_000, description="Kept pictures of one tenant; one more gets 429."
    )
    max_files_bytes: int = Field(
        2 * GIB, ge=1, description="Uploaded files of one tenant, all together; one more gets 429."
    )
    max_usage_records_waiting: int = Field(
        10_000, ge=1, le=1_000_000, description="Usage records that wait for MongoDB; more are dropped, and counted."
    )

    # Cached answers
    cache_secret: SecretStr | None = Field(
        None,
        description="Signs what is put into the cache, at least 32 characters; empty: one of this process alone, so "
        "that no other gateway can read its cache.",
    )
    cache_ttl_s: float = Field(24 * 3600, gt=0, description="How long an answer is kept.")
    cache_inline_bytes: int = Field(256 * KIB, ge=0, description="Larger answers are kept in the bucket.")
    cache_max_answer_bytes: int = Field(32 * MIB, ge=0, description="Larger answers are not kept; 0: none is.")
    metadata_ttl_s: float = Field(5, ge=0, le=3600, description="How long a model's name is believed.")

    # Jobs
    lease_s: float = Field(30, gt=0, le=3600, description="A worker that is silent this long has lost its job.")
    max_training_attempts: int = Field(3, ge=1, le=10, description="Workers that may die of one job.")
    reap_every_s: float = Field(5, gt=0, le=3600, description="Time between two searches for lost jobs.")
    ended_photos_kept_s: float = Field(
        24 * 3600, ge=0, description="How long the photos of a training without a model are kept, to try it again."
    )
    max_queued_trainings: int = Field(
        10, ge=1, le=100_000, description="Trainings of one tenant that wait or run; one more gets 429."
    )
    max_all_queued_trainings: int = Field(
        1000, ge=1, le=1_000_000, description="Trainings of all tenants that wait; one more gets 503."
    )
    max_training_waiters: int = Field(
        16, ge=1, le=1000, description="Clients of `/train` that wait for an end at once; one more gets 503."
    )
    max_event_streams: int = Field(64, ge=1, le=1000, description="Event streams open at once; one more gets 503.")
    event_poll_s: float = Field(0.25, gt=0, le=10, description="Time between two looks at the followed trainings.")

    # Models that come and go
    model_cache_folder: Path | None = Field(
        None, description="Local copies of models for export; empty: `gateway-model-cache` in the data folder."
    )
    model_cache_quota_bytes: int = Field(20 * GIB, gt=0, description="Quota of these copies.")
    model_fetch_timeout_s: float = Field(600, gt=0, description="Limit of bringing one model from the bucket.")
    max_model_transfers: int = Field(
        4, ge=1, le=100, description="Exports and imports of models at once; one more gets 503."
    )
    max_import_bytes: int = Field(8 * GIB, ge=1, description="Largest file of an imported model.")

    # Webhooks
    webhook_timeout_s: float = Field(10, gt=0, le=60, description="Limit of one delivery.")
    webhook_attempts: int = Field(8, ge=1, le=20, description="Deliveries tried of one event, over about a day.")
    webhook_private_addresses: bool = Field(
        default=False, description="Whether webhooks may go to private and loopback addresses: to one's own network."
    )

    @field_validator("dreambooth_urls", "bgrem_urls", "upsampler_urls", "realesrgan_urls")
    @classmethod
    def _service_urls(cls, urls: list[str]) -> list[str]:
        if not urls or not all(_SERVICE_URL.fullmatch(url) for url in urls):
            raise ValueError("must list at least one address such as http://127.0.0.1:4000, without a path")
        return urls

    @field_validator(
        "dreambooth_instance_urls", "bgrem_instance_urls", "upsampler_instance_urls", "realesrgan_instance_urls"
    )
    @classmethod
    def _instance_urls(cls, urls: list[str]) -> list[str]:
        return cls._service_urls(urls) if urls else urls

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, url: str) -> str:
        if url and not _SERVICE_URL.fullmatch(url):
            raise ValueError("must be an address such as https://pictures.example.com, without a path")
        return url

    @field_validator("cache_secret")
    @classmethod
    def _long_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value()) < 32:
            raise ValueError("must have at least 32 characters")
        return secret

    @model_validator(mode="after")
    def _no_open_door(self) -> Self:
        if self.keys == "off" and not _is_loopback(self.host):
            raise ValueError("KEYS=off is only taken with HOST on a loopback address such as 127.0.0.1")
        return self

    @property
    def http_threads(self) -> int:
        """One for each request handed on, waiting client, event stream and transfer, and the spare ones."""
        return (
            self.max_requests
            + self.max_training_waiters
            + self.max_event_streams
            + self.max_model_transfers
            + self.spare_threads
        )

    @property
    def models_bucket_url(self) -> str:
        """Where models are."""
        return self.models_url or self._folder_url("modelids")

    @property
    def jobs_bucket_url(self) -> str:
        """Where jobs' photos and checkpoints are."""
        return self.jobs_url or self._folder_url("job-objects")

    @property
    def cache_bucket_url(self) -> str:
        """Where large cached answers are."""
        return self.cache_objects_url or self._folder_url("cached-answers")

    @property
    def pictures_bucket_url(self) -> str:
        """Where kept pictures are."""
        return self.pictures_url or self._folder_url("pictures")

    @property
    def files_bucket_url(self) -> str:
        """Where uploaded files are."""
        return self.files_url or self._folder_url("uploaded-files")

    def store_config(self) -> StoreConfig:
        """The bucket of models with a local cache, as dreambooth-api's model store takes it."""
        cache_folder = self.model_cache_folder or self.data_folder / "gateway-model-cache"
        return StoreConfig(
            bucket_url=self.models_bucket_url,
            timeout_s=self.storage_timeout_s,
            retry_total_s=self.storage_retry_total_s,
            cache_folder=cache_folder.absolute(),
            cache_quota_bytes=self.model_cache_quota_bytes,
            alias_ttl_s=0,
            fetch_timeout_s=self.model_fetch_timeout_s,
        )

    def _folder_url(self, name: str) -> str:
        return (self.data_folder.absolute() / name).as_uri()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
