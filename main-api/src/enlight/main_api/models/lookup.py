"""Which bucket id a tenant's name of a model means, remembered in the cache for a few seconds."""

from __future__ import annotations

from enlight.main_api.cache.cache_keys import metadata_key
from enlight.main_api.cache.metadata_cache import MetadataCache
from enlight.main_api.models.names import ModelNames


class ModelLookup:
    """`ModelNames` for the routes that are asked often.

    Args:
        names: The truth.
        cache: Remembers it.
        ttl_s: How long a name is believed. A name that is not there is asked for each time.
    """

    def __init__(self, names: ModelNames, cache: MetadataCache, *, ttl_s: float) -> None:
        self._names = names
        self._cache = cache
        self._ttl_s = ttl_s

    def bucket_id(self, tenant: str, name: str) -> str:
        """The bucket id. Raises: NotFound, for another tenant's name too; DatabaseUnavailable."""
        found = self._cache.get_or_load(_key(tenant, name), lambda: self._names.bucket_id(tenant, name), self._ttl_s)
        return str(found)

    def forget(self, tenant: str, name: str) -> bool:
        """After a change of the name: asks the database again. True when the cache confirmed it."""
        return self._cache.delete(_key(tenant, name))

    def note_use(self, bucket_id: str) -> None:
        """Writes down that the model was used now; never raises."""
        self._names.note_use(bucket_id)


def _key(tenant: str, name: str) -> str:
    return metadata_key(tenant=tenant, kind="model", name=name)
