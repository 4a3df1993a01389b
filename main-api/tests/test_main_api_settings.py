"""The gateway's settings: what stops its start, and where its buckets are."""

from __future__ import annotations

from pathlib import Path

import pytest

from enlight.main_api.settings import Settings
from enlight.servicekit.settings import SettingsError, load_settings


@pytest.mark.parametrize(
    "urls",
    [
        "[]",
        '["bgrem:4000"]',
        '["ftp://bgrem"]',
        '["http://bgrem/path"]',
        '["http://user:password@bgrem"]',
        '["http://"]',
    ],
)
def test_a_service_s_address_is_a_host_and_a_port(urls: str) -> None:
    with pytest.raises(SettingsError, match="MAIN_API_BGREM_URLS"):
        load_settings(Settings, {"MAIN_API_BGREM_URLS": urls})


def test_several_addresses_are_a_json_list() -> None:
    urls = '["http://10.0.0.1:4000", "https://bgrem.example.org"]'
    assert load_settings(Settings, {"MAIN_API_BGREM_URLS": urls}).bgrem_urls == [
        "http://10.0.0.1:4000",
        "https://bgrem.example.org",
    ]


def test_a_short_secret_stops_the_start_and_is_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(Settings, {"MAIN_API_CACHE_SECRET": "enlightai2022"})
    assert "MAIN_API_CACHE_SECRET" in str(caught.value)
    assert "enlightai2022" not in str(caught.value)


def test_passwords_in_urls_and_secrets_are_not_in_a_repr() -> None:
    settings = Settings(
        mongo_url="mongodb://u:hidden1@db",
        queue_url="redis://:hidden2@q",
        cache_urls=["redis://:hidden3@c"],
        cache_secret="hidden4" * 6,
    )
    assert "hidden" not in repr(settings)


def test_buckets_are_in_the_data_folder_unless_set(tmp_path: Path) -> None:
    settings = Settings(data_folder=tmp_path, jobs_url="gs://bucket/jobs")
    assert settings.models_bucket_url == (tmp_path / "modelids").as_uri()
    assert settings.jobs_bucket_url == "gs://bucket/jobs"
    assert settings.store_config().bucket_url == settings.models_bucket_url


def test_the_threads_are_enough_for_all_that_may_wait() -> None:
    settings = Settings(max_requests=3, max_training_waiters=5, max_event_streams=7, spare_threads=11)
    assert settings.http_threads == 3 + 5 + 7 + settings.max_model_transfers + 11
