"""A parent process that tests kill: ``python parents.py <command>`` gives a worker that command and waits.

Prints the worker's process id once the worker is at it.
"""

from __future__ import annotations

import sys
import time

from children import ENV

from enlight.servicekit.frames import Frame, Kind, TaskBody, pack
from enlight.servicekit.process import ChildProcess


def main(command: str) -> None:
    def on_message(frame: Frame) -> None:
        if frame.kind is Kind.READY and command != "idle":
            child.send(Frame(Kind.TASK, 1, pack(TaskBody((command,), "", ""))))
            time.sleep(0.3)
        if frame.kind in (Kind.READY, Kind.RESULT):
            print(child.pid, frame.payload(), flush=True)

    child = ChildProcess("children:worker", None, name="worker", on_message=on_message, on_exit=lambda: None, env=ENV)
    child.start()
    time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1])
