"""The four services behind the gateway, as the settings name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from enlight.main_api.settings import Settings
from enlight.main_api.upstreams.client_watch import ClientWatch
from enlight.main_api.upstreams.upstream import Upstream


@dataclass(frozen=True)
class ServicesBehind:
    """Who computes."""

    dreambooth: Upstream
    bgrem: Upstream
    upsampler: Upstream
    realesrgan: Upstream

    def all(self) -> tuple[Upstream, ...]:
        """Each of them."""
        return self.dreambooth, self.bgrem, self.upsampler, self.realesrgan

    def close(self) -> None:
        """Closes idle connections."""
        for upstream in self.all():
            upstream.close()


def services_behind(settings: Settings, watch: ClientWatch) -> ServicesBehind:
    """The services at the settings' addresses; nothing is sent."""

    def upstream(name: str, urls: list[str], timeout_s: float) -> Upstream:
        return Upstream(
            name,
            urls,
            connect_timeout_s=settings.connect_timeout_s,
            read_timeout_s=timeout_s,
            limit_bytes=settings.max_answer_bytes,
            watch=watch,
        )

    return ServicesBehind(
        dreambooth=upstream("dreambooth-api", settings.dreambooth_urls, settings.inference_timeout_s),
        bgrem=upstream("bgrem", settings.bgrem_urls, settings.image_timeout_s),
        upsampler=upstream("upsampler", settings.upsampler_urls, settings.image_timeout_s),
        realesrgan=upstream("realesrgan", settings.realesrgan_urls, settings.image_timeout_s),
    )


def instance_urls(settings: Settings) -> dict[str, list[str]]:
    """By service: where its processes themselves are."""
    return {
        "dreambooth-api": settings.dreambooth_instance_urls or settings.dreambooth_urls,
        "bgrem": settings.bgrem_instance_urls or settings.bgrem_urls,
        "upsampler": settings.upsampler_instance_urls or settings.upsampler_urls,
        "realesrgan": settings.realesrgan_instance_urls or settings.realesrgan_urls,
    }


def version_of(seen: Mapping[str, object], service: str) -> str:
    """The version of a service as it was seen last; of all its addresses, when they differ. Empty: not known.

    Args:
        seen: What `Upstream.looks` gave, by service.
        service: Which one.
    """
    looks = seen.get(service)
    if not isinstance(looks, list):
        return ""
    return ",".join(sorted({look["version"] for look in looks} - {""}))
