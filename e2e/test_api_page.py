"""docs/api.md as a reader finds it: every route of every service is on it, and each example, copied one after the other
from top to bottom into a shell and a Python prompt, gets the answer that the page describes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from local_suite import ROOT, LocalSuite
from page_readers import Asked, Outcome, PythonReader, ShellReader
from PIL import Image

from enlight.main_api.webhooks.webhooks import sign
from enlight.servicekit.local_process import free_port
from enlight.servicekit.local_service import LocalService
from enlight.servicekit.process import WorkerState

PAGE = (ROOT / "docs/api.md").read_text()
SERVICES = ("dreambooth-api", "bgrem", "upsampler", "realesrgan")
SETTINGS = {"MAIN_API_": {"WEBHOOK_PRIVATE_ADDRESSES": "true"}}
PARTS_OF_A_PAGE = {"GET /docs/page.css", "GET /docs/page.js"}


@dataclass(frozen=True)
class Entry:
    """A heading of the page with what stands below it."""

    section: str
    name: str
    text: str

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    @property
    def route(self) -> tuple[str, str] | None:
        """Method and path; None: it is about no single route."""
        method, _, path = self.name.partition(" ")
        return (method, path) if path.startswith("/") else None

    @property
    def answer(self) -> tuple[int, Any]:
        """Status and JSON of a good answer; None: it is no JSON."""
        found = re.search(r"^Answer: (\d+)(?:, `(\{.*\})`)?", self.text, re.MULTILINE)
        assert found, f"{self.name} does not say what it answers"
        return int(found[1]), json.loads(found[2]) if found[2] else None

    @property
    def refusal(self) -> tuple[int, str] | None:
        """Status and code that the suite gives as long as nobody fetched more weights."""
        found = re.search(r"^The examples get (\d+) `(\w+)`", self.text, re.MULTILINE)
        return (int(found[1]), found[2]) if found else None

    @property
    def headers(self) -> set[str]:
        found = re.search(r"^Headers of the answer: (.*)$", self.text, re.MULTILINE)
        return set(re.findall(r"`([\w-]+)`:", found[1])) if found else set()


def entries() -> list[Entry]:
    found = []
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        name, _, text = section.partition("\n")
        head, *parts = re.split(r"^### ", text, flags=re.MULTILINE)
        found.append(Entry(name, name, head))
        found += [Entry(name, *part.split("\n", 1)) for part in parts]
    return found


ENTRIES = entries()
STATES = {state.value for state in WorkerState}
EXAMPLES = [entry for entry in ENTRIES if entry.blocks("bash") or entry.blocks("python")]


@dataclass
class Reading:
    """A suite and its two readers, who keep what they made; ``outcomes`` are those of the Python reader, by entry."""

    suite: LocalSuite
    folder: Path
    shell: ShellReader
    python: PythonReader
    ports: dict[str, str]
    outcomes: dict[Entry, Outcome] = field(default_factory=dict)

    def here(self, block: str) -> str:
        """``block`` with this suite's ports in the place of those that the page has."""
        return re.sub(r'(127\.0\.0\.1(?::|", ))(\d+)', lambda found: found[1] + self.ports[found[2]], block)


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    folder = tmp_path_factory.mktemp("reader")
    (folder / "demo").symlink_to(ROOT / "demo")
    work = folder / "demo-output"
    work.mkdir()
    with ExitStack() as stack:
        suite = stack.enter_context(LocalSuite(folder / "data", folder, services=SERVICES, settings=SETTINGS))
        ports = {port: service_url(suite, name).rpartition(":")[2] for name, port in written_ports().items()}
        ports |= {"8500": str(free_port()), "8501": str(free_port())}  # of receivers that the examples name
        yield Reading(suite, work, stack.enter_context(ShellReader(work)), PythonReader(work), ports)


def written_ports() -> dict[str, str]:
    """The port of each service, as the page has it."""
    return dict(re.findall(r"^## ([\w-]+), port (\d+)$", PAGE, re.MULTILINE))


def service_url(suite: LocalSuite, name: str) -> str:
    return cast(LocalService, suite.parts[name]).url


def shape_problems(written: object, real: object, place: str = "answer") -> list[str]:
    """What of the JSON on the page is otherwise in a real answer: fields that are not there, values of another kind."""
    if isinstance(written, dict) and isinstance(real, dict):
        if written and STATES.issuperset(written):  # how many are in which state: that is of the moment
            return [f"{place}.{key} is no state" for key in real if key not in STATES]
        missing = [f"{place}.{key} is not there" for key in written if key not in real]
        shared = [key for key in written if key in real]
        return missing + [
            problem for key in shared for problem in shape_problems(written[key], real[key], f"{place}.{key}")
        ]
    if isinstance(written, list) and isinstance(real, list):
        return shape_problems(written[0], real[0], f"{place}[0]") if written and real else []
    if None in (written, real) or (isinstance(written, int | float) and isinstance(real, int | float)):
        return []
    return [] if type(written) is type(real) else [f"{place} is {type(real).__name__}, not {type(written).__name__}"]


def is_of(asked: Asked, route: tuple[str, str]) -> bool:
    method, path = route
    return asked.method == method and bool(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), asked.path))


@pytest.mark.parametrize("entry", EXAMPLES, ids=lambda entry: f"{entry.section.partition(',')[0]}: {entry.name}")
def test_the_examples_get_what_the_page_says(reading: Reading, entry: Entry) -> None:
    shell, python = entry.blocks("bash"), entry.blocks("python")
    if entry.route:
        assert (len(shell), len(python)) == (1, 1), f"{entry.name} needs one example for each reader"
    for block in shell:
        outcome = reading.shell.run(reading.here(block))
        check(entry, outcome)
    for block in python:
        outcome = reading.python.run(reading.here(block))
        reading.outcomes[entry] = outcome
        check(entry, outcome)
        if entry.route:
            check_answer(entry, outcome)


def check(entry: Entry, outcome: Outcome) -> None:
    """Nothing failed; the route was asked, and answered with the page's status, and all else besides succeeded."""
    seen = outcome.output[-2000:]
    assert outcome.problems == [], seen
    expected = 200
    if entry.route:
        expected = entry.refusal[0] if entry.refusal else entry.answer[0]
        assert [asked.status for asked in outcome.asked if is_of(asked, entry.route)][-1:] == [expected], seen
    assert all(asked.status < 300 or asked.status == expected for asked in outcome.asked), seen


def check_answer(entry: Entry, outcome: Outcome) -> None:
    """The last answer of the route has the headers and the JSON that the page shows."""
    assert entry.route is not None
    pairs = zip(outcome.asked, outcome.answers, strict=True)
    *_, answer = (answer for asked, answer in pairs if is_of(asked, entry.route))
    if entry.refusal:
        assert answer.json()["error"]["code"] == entry.refusal[1]
        return
    assert {name for name in entry.headers if name not in answer.headers} == set()
    written = entry.answer[1]
    if written is not None:
        assert shape_problems(written, answer.json()) == []


def test_every_route_of_every_service_is_on_the_page(reading: Reading) -> None:
    everywhere = {entry.name for entry in ENTRIES if entry.section == "Every service" and entry.route}
    for name, port in written_ports().items():
        document = requests.get(f"{service_url(reading.suite, name)}/openapi.json", timeout=30).json()
        routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
        own = {entry.name for entry in ENTRIES if entry.section == f"{name}, port {port}" and entry.route}
        assert own | everywhere == routes - PARTS_OF_A_PAGE, name


def test_the_webhook_example_believes_real_deliveries_only(reading: Reading) -> None:
    (entry,) = (entry for entry in ENTRIES if entry.name == "Webhooks")
    names = reading.python.names
    assert f"told: training.cancelled {names['told']['id']}" in reading.outcomes[entry].output
    is_genuine, secret, body, now_s = names["is_genuine"], names["secret"], b'{"id": "evt-1"}', int(time.time())
    assert is_genuine(sign(secret, body, now_s), body)
    assert not is_genuine(sign(secret, body, now_s), body + b" ")
    assert not is_genuine(sign("whsec_of_somebody_else", body, now_s), body)
    assert not is_genuine(sign(secret, body, now_s - 3600), body)


def test_the_examples_leave_the_pictures_that_they_name(reading: Reading) -> None:
    sizes = {}
    for name in ("picture.png", "snow.webp", "cut-out.png", "on-white.png", "large.png", "large.webp", "kept.png"):
        with Image.open(reading.folder / name) as picture:
            picture.load()
            sizes[name] = (*picture.size, picture.mode)
    assert sizes == {
        "picture.png": (64, 64, "RGB"),
        "snow.webp": (64, 64, "RGB"),
        "cut-out.png": (64, 64, "RGBA"),
        "on-white.png": (64, 64, "RGB"),
        "large.png": (1024, 1024, "RGB"),
        "large.webp": (1024, 1024, "RGB"),
        "kept.png": (64, 64, "RGB"),
    }
