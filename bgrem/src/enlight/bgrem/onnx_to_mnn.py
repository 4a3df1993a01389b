"""Command line: writes an ONNX file anew as MNN's. ``python -m enlight.bgrem.onnx_to_mnn network.onnx network.mnn``

The weights go into a file beside it, ``network.mnn.weight``: MNN forgets that one once it has loaded a network.

A process of its own, because MNN's converter keeps Python's lock and takes five times the file in memory. It is called
past MNN's own command, which installs a package and reports to its makers what was converted.
"""

from __future__ import annotations

import sys

from _tools import mnnconvert


def main(source: str, target: str) -> int:
    """Whether it worked is seen by the file: the converter says on standard output what it did, and returns nothing."""
    options = ["-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--saveExternalData", "--bizCode", "bgrem"]
    mnnconvert([sys.argv[0], *options])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
