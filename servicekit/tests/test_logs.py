"""JSON log lines."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from enlight.servicekit.logs import (
    MAX_MESSAGE_CHARS,
    JsonFormatter,
    JsonHandler,
    configure_logging,
    configured_logging,
    current_job_id,
    current_request_id,
    gunicorn_logging,
    in_this_context,
    log_context,
)

logger = logging.getLogger("servicekit-test")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    logging.captureWarnings(capture=False)
    root.setLevel(level)
    root.handlers[:] = handlers


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_says_when_where_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("bgrem", "info")
    logger.info("%d pictures", 3, extra={"duration_s": 0.25, "sizes": [1, 2]})
    (line,) = lines(capsys)
    assert line["time"].endswith("Z")
    assert (line["level"], line["logger"], line["service"]) == ("info", "servicekit-test", "bgrem")
    assert (line["message"], line["duration_s"], line["sizes"]) == ("3 pictures", 0.25, "[1, 2]")
    assert "request_id" not in line


def test_ids_belong_to_the_code_within_the_context(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("bgrem")
    with log_context(request_id="r1"):
        with log_context(job_id="j1"):
            logger.info("both")
            assert (current_request_id(), current_job_id()) == ("r1", "j1")
        logger.info("one")
        other = threading.Thread(target=logger.info, args=("none",))
        other.start()
        other.join()
    ids = [(line.get("request_id"), line.get("job_id")) for line in lines(capsys)]
    assert ids == [("r1", "j1"), ("r1", None), (None, None)]


def test_a_thread_logs_under_the_ids_of_whoever_made_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("bgrem")
    with log_context(request_id="r1", job_id="j1"):
        other = threading.Thread(target=in_this_context(lambda: logger.info("theirs")))
    with log_context(request_id="r2"):
        other.start()
        other.join()
    assert [(line["request_id"], line["job_id"]) for line in lines(capsys)] == [("r1", "j1")]


def test_nothing_can_forge_a_line_or_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("bgrem")
    logger.info("prompt: %s", 'a\r\n{"level": "error"}\x1b[2J\x9b\u2028é', extra={"field": "\n\x1b"})
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert text.isascii()
    assert "\x1b" not in text


def test_long_texts_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("bgrem")
    logger.info("x" * 1_000_000, extra={"field": "y" * 1_000_000})
    (line,) = lines(capsys)
    assert len(line["message"]) < MAX_MESSAGE_CHARS + 100
    assert "(1000000 characters)" in line["message"]
    assert len(line["field"]) < MAX_MESSAGE_CHARS + 100


def test_a_trace_is_one_field(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("bgrem")
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        logger.exception("Failed")
    (line,) = lines(capsys)
    assert line["exception"].endswith("ZeroDivisionError: why")
    assert line["level"] == "error"


def test_a_wrong_format_string_does_not_lose_the_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%d pictures", ("three",), None)
    assert "%d pictures" in json.loads(JsonFormatter("bgrem").format(record))["message"]


def test_configuring_twice_gives_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("bgrem", "debug")
    configure_logging("bgrem", "warning")
    logger.info("not shown")
    logger.warning("shown")
    assert [line["message"] for line in lines(capsys)] == ["shown"]
    settings = configured_logging()
    assert settings is not None
    assert settings.level == "warning"


def test_other_handlers_stay(caplog: pytest.LogCaptureFixture) -> None:
    configure_logging("bgrem")
    logger.info("for the test, too")
    assert "for the test, too" in caplog.text


@pytest.mark.filterwarnings("default")
def test_warnings_become_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("bgrem")
    warnings.warn("old", stacklevel=1)
    (line,) = [line for line in lines(capsys) if line["logger"] == "py.warnings"]
    assert "old" in line["message"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging("bgrem", "loud")


def test_gunicorns_own_lines_are_json_too() -> None:
    code = (
        "import logging, logging.config, sys\n"
        "from enlight.servicekit.logs import gunicorn_logging\n"
        "logging.config.dictConfig(gunicorn_logging('bgrem'))\n"
        "logging.getLogger('gunicorn.error').info('Listening at: %s', 'http://127.0.0.1')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["message"] == "Listening at: http://127.0.0.1"
    assert run.stderr == ""
    assert gunicorn_logging("bgrem", "debug")["root"] == {"level": "DEBUG", "handlers": ["json"]}


def test_the_handler_follows_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    handler = JsonHandler("bgrem")
    handler.emit(logging.makeLogRecord({"msg": "hello"}))
    assert json.loads(capsys.readouterr().out)["message"] == "hello"
