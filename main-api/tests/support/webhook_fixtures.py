"""The gateway of the tests of webhooks' deliveries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from training_gateway import Gateway, OpenGateway


@pytest.fixture
def gate(open_gateway: OpenGateway) -> Iterator[Gateway]:
    """A gateway whose webhooks may go to this machine; its threads do not run."""
    with open_gateway(webhook_private_addresses=True, started=False) as opened:
        yield opened
