"""Large blocks are used again: counted in page faults, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource, sys
from enlight.servicekit.freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def bodies():
    return [bytearray(13_000_000) for _ in range(3)]  # received, answered, kept
bodies()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bodies()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    program = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(program.stdout)


def test_large_blocks_are_used_again() -> None:
    assert page_faults("give back") > 10_000
    assert page_faults("keep") < 1_000
