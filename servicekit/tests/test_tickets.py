"""Tickets, without a worker."""

from __future__ import annotations

import threading

import pytest

from enlight.servicekit.errors import QueueFull
from enlight.servicekit.tickets import MAX_KEPT_EVENTS, Ticket


def test_result_waits_for_the_answer() -> None:
    ticket = Ticket(1, on_cancel=lambda ticket: None)
    assert not ticket.wait(0.01)
    threading.Timer(0.05, lambda: ticket.finish("answer")).start()
    assert ticket.result() == "answer"
    assert ticket.done
    assert ticket.wait(0.0)


def test_the_first_answer_counts() -> None:
    ticket = Ticket(1, on_cancel=lambda ticket: None)
    ticket.finish(error=QueueFull("Full."))
    ticket.finish("late")
    with pytest.raises(QueueFull):
        ticket.result()


def test_cancel_is_passed_on_once_and_not_after_the_answer() -> None:
    cancelled: list[int] = []
    ticket = Ticket(1, on_cancel=lambda ticket: cancelled.append(ticket.id))
    ticket.cancel()
    ticket.cancel()
    assert cancelled == [1]
    answered = Ticket(2, on_cancel=lambda ticket: cancelled.append(ticket.id))
    answered.finish()
    answered.cancel()
    assert cancelled == [1]


def test_a_slow_reader_gets_the_latest_events() -> None:
    ticket = Ticket(1, on_cancel=lambda ticket: None)
    for number in range(MAX_KEPT_EVENTS + 10):
        ticket.report(number)
    ticket.finish()
    assert list(ticket.events()) == list(range(10, MAX_KEPT_EVENTS + 10))
    assert ticket.on_progress == MAX_KEPT_EVENTS + 9
