"""A network in MNN, which computes convolutions of 3 x 3, nearly all that these networks have, by Winograd's method:
with a quarter of the multiplications and less.

MNN reads files of its own. One is made from the checked ONNX file each time a network is loaded, and thrown away: what
is kept would have to be checked as well.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from enlight.bgrem.weights import Model

CONVERSION_TIMEOUT_S = 120.0
_HIGH_PRECISION = 1
"""fp32 on every CPU; MNN takes less for enough on some."""
_END_OF_OUTPUT_CHARS = 300


class WinogradNetwork:
    """One network in memory; may be used from several threads, which take turns: a picture gets all cores.

    Args:
        model: What it is.
        path: Its ONNX file, checked.
        output_name: Of the output that is wanted.
        threads: Of one picture.
        turn: Held while a picture is in a network; networks that share cores share it.

    Raises:
        ImportError: MNN is not installed.
        RuntimeError: MNN cannot convert the file.
        subprocess.TimeoutExpired: nor does it end.
    """

    engine = "mnn"
    shared = True

    def __init__(self, model: Model, path: Path, *, output_name: str, threads: int, turn: threading.Lock) -> None:
        # Only here: it is slow to import, and what it prints then belongs to no process that does without.
        import MNN

        self.model = model
        self._turn = turn
        with tempfile.TemporaryDirectory(prefix="enlight-mnn-") as folder:
            self._interpreter = MNN.Interpreter(str(_converted(path, Path(folder))))
            self._session = self._interpreter.createSession(
                {"backend": "CPU", "numThread": threads, "precision": _HIGH_PRECISION}
            )
        self._input = self._interpreter.getSessionInput(self._session)
        self._output = self._interpreter.getSessionOutput(self._session, output_name)
        # MNN's own tensors may be in blocks of channels; these are not, and MNN copies between the two.
        side = model.input_px
        self._given, self._found = (
            MNN.Tensor(shape, MNN.Halide_Type_Float, MNN.Tensor_DimensionType_Caffe)
            for shape in ((1, 3, side, side), (1, model.classes, side, side))
        )

    def predict(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(classes, side, side) of a (1, 3, side, side) input.

        Raises:
            RuntimeError: MNN could not compute it.
        """
        with self._turn:
            self._given.getNumpyData()[...] = values
            self._input.copyFrom(self._given)
            error = self._interpreter.runSession(self._session)
            if error:
                raise RuntimeError(f"MNN failed with its error {error}")
            self._output.copyToHostTensor(self._found)
            result: npt.NDArray[np.float32] = self._found.getNumpyData()[0].copy()
        return result


def _converted(path: Path, folder: Path) -> Path:
    """The file as MNN reads it, with its weights beside it in the folder."""
    target = folder / "network.mnn"
    command = [sys.executable, "-P", "-m", "enlight.bgrem.onnx_to_mnn", str(path), str(target)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=CONVERSION_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0 or not target.is_file():
        end = " ".join(done.stdout.decode(errors="replace").split())[-_END_OF_OUTPUT_CHARS:]
        raise RuntimeError(f"MNN cannot convert the file: {end}")
    return target
