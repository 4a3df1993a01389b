"""Answers that need not be computed again: the same request of the same tenant, kept or under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from enlight.main_api.cache.cache_keys import response_key
from enlight.main_api.cache.response_cache import CachedResponse, ResponseCache
from enlight.main_api.cache.single_flight import SingleFlight
from enlight.main_api.upstreams.answers import UpstreamAnswer

SMALL_BYTES = 256 * 1024
"""Keeping more than this takes a while: it is done when the client has its answer."""
OF_ONE_RUN = frozenset({"x-run-seconds", "x-queued-seconds", "x-batch-images", "x-cache-tier"})
"""Headers about how an answer came about, which is not true of a kept one."""


@dataclass(frozen=True)
class Question:
    """All that an answer depends on."""

    tenant: str
    route: str
    query: tuple[tuple[str, str], ...]
    content_type: str
    accept: str
    body_sha256: str
    code_version: str
    """Of the service that answers; empty: not known, nothing is kept."""
    model_version: str = ""
    """Of the model that takes part, if one does."""

    def key(self) -> str:
        """Its name in the cache."""
        return response_key(
            tenant=self.tenant,
            route=self.route,
            query=self.query,
            model_version=self.model_version,
            body_sha256=self.body_sha256,
            code_version=self.code_version,
            content_type=self.content_type,
            accept=self.accept,
        )


@dataclass(frozen=True, eq=False)
class Found:
    """An answer, and how it came."""

    answer: UpstreamAnswer
    computed: bool
    """Whether this request had it computed: then it counts, and `keep` keeps it."""
    keep: Callable[[], object]


class KeptAnswers:
    """Looks an answer up, or has it computed once for all who ask for it at that time.

    Args:
        cache: Where answers are kept.
        wait_s: How long an equal request's computation is waited for.
        looked_up: Is told of each answer its route, and ``hit``, ``miss``, ``coalesced`` (with an equal request that
            was under way) or ``unkept``.
    """

    def __init__(
        self,
        cache: ResponseCache,
        *,
        wait_s: float,
        looked_up: Callable[[str, str], object] = lambda route, result: None,
    ) -> None:
        self._cache = cache
        self._flights: SingleFlight[Found] = SingleFlight()
        self._wait_s = wait_s
        self._looked_up = looked_up

    def find(
        self,
        question: Question,
        compute: Callable[[], UpstreamAnswer],
        client_gone: Callable[[], bool],
        *,
        is_to_question: Callable[[UpstreamAnswer], bool] = lambda answer: True,
    ) -> Found:
        """The answer; raises what ``compute`` raises, and ClientGone.

        ``is_to_question``: whether a computed answer is one to that very question. Another one is not kept.
        """

        def compute_to_keep() -> Found:
            answer = compute()
            return self._computed(key, answer) if is_to_question(answer) else computed_only(answer)

        if not question.code_version:
            found = computed_only(compute())
            self._looked_up(question.route, "unkept")
            return found
        key = question.key()
        kept = self._look_up(key)
        if kept is not None:
            self._looked_up(question.route, "hit")
            return kept
        found, own = self._flights.run(
            key, lambda: self._look_up(key) or compute_to_keep(), wait_s=self._wait_s, gone=client_gone
        )
        if not own:
            self._looked_up(question.route, "coalesced")
        else:
            self._looked_up(question.route, "miss" if found.computed else "hit")
        return found if own else Found(found.answer, computed=False, keep=_nothing)

    def _look_up(self, key: str) -> Found | None:
        kept = self._cache.get(key)
        if kept is None:
            return None
        answer = UpstreamAnswer(kept.status, kept.content_type, kept.headers, kept.body)
        return Found(answer, computed=False, keep=_nothing)

    def _computed(self, key: str, answer: UpstreamAnswer) -> Found:
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in OF_ONE_RUN}
        response = CachedResponse(answer.status, answer.content_type, headers, answer.body)
        if len(answer.body) > SMALL_BYTES:
            return Found(answer, computed=True, keep=lambda: self._cache.put(key, response))
        # Before the next equal request can begin: between the two there is no moment in which it is computed again.
        self._cache.put(key, response)
        return computed_only(answer)


def computed_only(answer: UpstreamAnswer) -> Found:
    """An answer that nothing more is done with."""
    return Found(answer, computed=True, keep=_nothing)


def _nothing() -> None:
    pass
