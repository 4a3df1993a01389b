"""Where the gateway's state lives: database, queue, buckets, cache. Opening them sends nothing."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from redis import Redis

from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelStore
from enlight.jobkit.database import Documents, database_errors, open_database
from enlight.jobkit.dispatcher import Dispatcher, connect_queue
from enlight.jobkit.job_store import JobStore
from enlight.main_api.cache.client import CacheClient
from enlight.main_api.cache.metadata_cache import MetadataCache
from enlight.main_api.cache.response_cache import ResponseCache
from enlight.main_api.keys.key_store import KeyStore
from enlight.main_api.models.names import ModelNames
from enlight.main_api.settings import Settings
from enlight.servicekit.object_store import ObjectStore, open_store

CACHE_BUCKET_TIMEOUT_S = 2.0
"""A request waits for the bucket of cached answers, which only saves time."""


@dataclass(frozen=True)
class Stores:
    """What is kept, and where."""

    database: Documents
    keys: KeyStore
    jobs: JobStore
    names: ModelNames
    queue: Redis
    dispatcher: Dispatcher
    job_objects: ObjectStore
    model_objects: ObjectStore
    models: ModelStore
    model_copies: ModelCache
    cache: CacheClient
    cached_answers: ObjectStore
    pictures: ObjectStore
    uploaded_files: ObjectStore
    answers: ResponseCache
    metadata: MetadataCache

    def make_indexes(self) -> None:
        """Makes the collections' indexes; safe to call again. Raises DatabaseUnavailable."""
        self.keys.make_indexes()
        self.jobs.make_indexes()
        self.names.make_indexes()

    def check_database(self) -> str:
        """``ready``. Raises DatabaseUnavailable."""
        with database_errors():
            self.database.client.admin.command("ping")
        return "ready"

    def check_queue(self) -> str:
        """``ready``. Raises redis.RedisError."""
        self.queue.ping()
        return "ready"

    def check_cache(self) -> str:
        """``ready`` or ``away``."""
        return "ready" if self.cache.ping() else "away"

    def close(self) -> None:
        """Closes the connections."""
        self.database.client.close()
        self.queue.close()
        self.cache.close()


def open_stores(settings: Settings) -> Stores:
    """Opens everything that the settings name.

    Raises: InvalidField for a URL that is none; StorageUnavailable when a bucket's folder cannot be made.
    """
    database = open_database(settings.mongo_url, settings.mongo_database, timeout_s=settings.mongo_timeout_s)
    cache = CacheClient(settings.cache_urls, budget_s=settings.redis_timeout_s)
    secret = _cache_secret(settings)
    model_objects = _bucket(settings, settings.models_bucket_url)
    models = ModelStore(model_objects)
    copies = settings.store_config()
    cached_answers = open_store(settings.cache_bucket_url, timeout_s=CACHE_BUCKET_TIMEOUT_S, retry_total_s=0)
    return Stores(
        database=database,
        keys=KeyStore(database),
        jobs=JobStore(database, lease_s=settings.lease_s, max_attempts=settings.max_training_attempts),
        names=ModelNames(database),
        queue=connect_queue(settings.queue_url, timeout_s=settings.redis_timeout_s),
        dispatcher=Dispatcher(settings.queue_url, timeout_s=settings.redis_timeout_s),
        job_objects=_bucket(settings, settings.jobs_bucket_url),
        model_objects=model_objects,
        models=models,
        model_copies=ModelCache(
            copies.cache_folder,
            models,
            quota_bytes=copies.cache_quota_bytes,
            alias_ttl_s=copies.alias_ttl_s,
            fetch_timeout_s=copies.fetch_timeout_s,
        ),
        cache=cache,
        cached_answers=cached_answers,
        pictures=_bucket(settings, settings.pictures_bucket_url),
        uploaded_files=_bucket(settings, settings.files_bucket_url),
        answers=ResponseCache(
            cache,
            cached_answers,
            secret=secret,
            ttl_s=settings.cache_ttl_s,
            inline_bytes=settings.cache_inline_bytes,
            max_bytes=settings.cache_max_answer_bytes,
        ),
        metadata=MetadataCache(cache, secret=secret),
    )


def _bucket(settings: Settings, url: str) -> ObjectStore:
    return open_store(url, timeout_s=settings.storage_timeout_s, retry_total_s=settings.storage_retry_total_s)


def _cache_secret(settings: Settings) -> bytes:
    if settings.cache_secret is None:
        return secrets.token_bytes(32)
    return settings.cache_secret.get_secret_value().encode()
