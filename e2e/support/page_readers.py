"""Two readers who copy examples from a page, block by block: one has a shell, the other a Python prompt."""

from __future__ import annotations

import code
import contextlib
import io
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import requests

_END = "-- end of a block --"
_WATCHED_SHELL = f"""
set -E -o pipefail
trap 'echo "failed: $BASH_COMMAND"' ERR
curl() {{ command curl "$@" -w '%{{stderr}}\\nasked: %{{http_code}} %{{method}} %{{url}}\\n'; }}
block_ends() {{ echo; echo '{_END}'; }}
"""
"""Says what failed, and the status of each request, to whoever reads the output."""
_ASKED = re.compile(r"^asked: (?P<status>\d+) (?P<method>[A-Z]+) (?P<url>\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Asked:
    """A request, and the answer's facts."""

    method: str
    path: str
    status: int


@dataclass
class Outcome:
    """What a block did.

    Attributes:
        asked: Its requests, in order.
        output: What the reader saw.
        problems: Commands or statements that failed.
        answers: The answers themselves, where the reader has them.
    """

    asked: list[Asked]
    output: str
    problems: list[str]
    answers: list[requests.Response] = field(default_factory=list)


class ShellReader:
    """A ``bash`` that stays open from block to block."""

    def __init__(self, folder: Path) -> None:
        self._bash = subprocess.Popen(
            ["bash"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._tell(_WATCHED_SHELL)

    def run(self, block: str) -> Outcome:
        """Runs ``block`` to its end."""
        self._tell(f"{block}\nblock_ends\n")
        lines: list[str] = []
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            if line.rstrip("\n") == _END:
                break
            lines.append(line)
        output = "".join(lines)
        asked = [
            Asked(found["method"], urlsplit(found["url"]).path, int(found["status"]))
            for found in _ASKED.finditer(output)
        ]
        problems = [line for line in output.splitlines() if line.startswith(("failed: ", "bash: "))]
        if self._bash.poll() is not None:
            problems.append("the shell has ended")
        return Outcome(asked, output, problems)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._bash:
            assert self._bash.stdin is not None
            self._bash.stdin.close()

    def _tell(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(text)
        self._bash.stdin.flush()


class PythonReader(code.InteractiveConsole):
    """Python's prompt, for which an empty line ends what is indented; ``names`` are what the blocks defined."""

    def __init__(self, folder: Path) -> None:
        self.names: dict[str, Any] = {"__name__": "__console__"}
        super().__init__(self.names)
        self._folder = folder
        self._problems: list[str] = []

    def run(self, block: str) -> Outcome:
        """Enters ``block`` line by line."""
        self._problems = []
        output = io.StringIO()
        with (
            contextlib.chdir(self._folder),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
            _answers_noted() as answers,
        ):
            for line in block.splitlines():
                self.push(line)
        if self.buffer:
            self._problems.append(f"unfinished: {self.buffer}")
            self.resetbuffer()
        asked = [
            Asked(answer.request.method or "", urlsplit(answer.url).path, answer.status_code) for answer in answers
        ]
        return Outcome(asked, output.getvalue(), self._problems, answers)

    def write(self, data: str) -> None:
        """Gets the traces of exceptions and syntax errors."""
        self._problems.append(data)


@contextmanager
def _answers_noted() -> Iterator[list[requests.Response]]:
    """Every answer that ``requests`` gets meanwhile."""
    answers: list[requests.Response] = []
    send = requests.Session.send

    def noting(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        answer = send(session, request, **options)
        answers.append(answer)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.Session, "send", noting)
        yield answers
