"""Worker processes, one torch thread each, that share out the jobs; on a GPU they share the GPU."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from gallery import Gallery, reference_vector
from personalised_model import PictureMaker
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from subject_jobs import Job, JobResult, JobRunner

from enlight.dreambooth_api.requests import Base
from enlight.models.judge import Judge

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")

_WORKER_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}


class JobFailedError(Exception):
    """A job could not be done; the message says which and why."""


@dataclass(frozen=True)
class Workplace:
    """What every worker process needs."""

    base: Base
    judge_folder: Path
    device: str
    """As the service's device setting, but settled: never ``auto``."""


class _Worker:
    """Of a worker process, filled by `_prepare`."""

    workplace: Workplace
    judge: Judge
    maker: PictureMaker | None = None


def _end_with_parent() -> None:
    """A parent that was killed cannot end its processes, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _prepare(workplace: Workplace) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # fp32 on a GPU is to give the numbers of a CPU
    _Worker.workplace = workplace
    _Worker.judge = Judge.load(workplace.judge_folder)


def _reference(subject: str) -> np.ndarray:
    return reference_vector(_Worker.judge, subject)


def _work_on(
    function: Callable[[JobRunner, ItemT], ResultT], item: ItemT, references: Mapping[str, np.ndarray]
) -> ResultT:
    workplace = _Worker.workplace
    if _Worker.maker is None:
        _Worker.maker = PictureMaker(workplace.base, torch.device(workplace.device))
    runner = JobRunner(workplace.base, _Worker.judge, Gallery(references), _Worker.maker, workplace.device)
    return function(runner, item)


class WorkerPool:
    """Processes that share out work, with a bar on the console.

    Args:
        executor: The processes.
        console: Where the bar is shown.
    """

    def __init__(self, executor: ProcessPoolExecutor, console: Console) -> None:
        self._executor = executor
        self._console = console

    def references(self, subjects: Sequence[str]) -> dict[str, np.ndarray]:
        """The reference vector (D,) of each subject."""
        futures = {self._executor.submit(_reference, subject): subject for subject in subjects}
        return dict(self._finished(futures, "drawing the gallery", str))

    def run(
        self, jobs: Sequence[Job], references: Mapping[str, np.ndarray], done: int = 0
    ) -> Iterator[tuple[Job, JobResult]]:
        """Does the jobs and gives each one with its result, in the order in which they end.

        Args:
            jobs: What to do.
            references: Of every subject that the jobs' pictures may show, and of the distractors.
            done: Jobs that an earlier run did, for the bar.

        Raises:
            JobFailedError: a job failed; those that had not begun are not done.
        """
        # The long ones first, so that the processes come to their ends together.
        order = sorted(jobs, key=_work, reverse=True)
        return self.each(JobRunner.run, order, references, lambda job: job.name, done)

    def each(
        self,
        function: Callable[[JobRunner, ItemT], ResultT],
        items: Sequence[ItemT],
        references: Mapping[str, np.ndarray],
        name: Callable[[ItemT], str],
        done: int = 0,
    ) -> Iterator[tuple[ItemT, ResultT]]:
        """Calls the function in the processes, with what they keep and one item each time; as `run` otherwise."""
        futures = {self._executor.submit(_work_on, function, item, references): item for item in items}
        return self._finished(futures, "subjects", name, done)

    def _finished(
        self, futures: dict[Future[ResultT], ItemT], title: str, name: Callable[[ItemT], str], done: int = 0
    ) -> Iterator[tuple[ItemT, ResultT]]:
        bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        with bar:
            task = bar.add_task(title, total=done + len(futures), completed=done, last="")
            for number, future in enumerate(as_completed(futures), start=done + 1):
                item = futures[future]
                try:
                    result = future.result()
                except Exception as error:  # whatever it is, it ends the run
                    raise JobFailedError(f"{name(item)}: {type(error).__name__}: {error}") from error
                bar.update(task, completed=number, last=name(item))
                if not self._console.is_terminal and title == "subjects":
                    self._console.print(f"{number} of {done + len(futures)}: {name(item)}")
                yield item, result


def _work(job: Job) -> int:
    request = job.request
    return 0 if request is None else request.max_training_steps * request.train_batch_size


@contextmanager
def worker_pool(workplace: Workplace, workers: int, console: Console) -> Iterator[WorkerPool]:
    """Starts the processes; they end with the block."""
    # OpenMP and the tokenizers read it when a process starts, before any line of ours could tell them.
    os.environ.update(_WORKER_ENVIRONMENT)  # noqa: TID251 — handed on to the processes, not read
    executor = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare, initargs=(workplace,)
    )
    others = set(multiprocessing.active_children())
    try:
        yield WorkerPool(executor, console)
    except BaseException:
        # What runs now is lost either way: a job takes up to minutes, and nobody is to wait for it.
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
