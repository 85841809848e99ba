"""Several processes on this machine that train one cell together: gloo between CPUs, NCCL between GPUs.

Started here rather than by torchrun, so that `dvc repro` stays the only command and an error keeps
its class and exit code.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from medslm.errors import DataError, Interrupted, MedslmError, ParamsError, WorkerLost
from medslm.models import Loaded, choose_dtype, find, load_causal_lm
from medslm.signals import deferred
from medslm.student.cells import CellTrainer, Inputs, Job
from medslm.student.engines import Base, base_of
from medslm.student.group import Ranks
from medslm.student.settings import ComputeParams, StudentParams, TuneParams
from medslm.student.sharding import shard

# Long enough for a killed process to be seen before the complaints of those it leaves hanging.
_SEEN_DEAD_S = 2.0
_LOOK_UP_S = 0.5


class ManyProcesses:
    """``compute.processes`` ranks that hold the base and share every batch; none outlives this process."""

    def __init__(self, student: StudentParams, tune: TuneParams, compute: ComputeParams) -> None:
        import torch

        size = compute.processes
        gpus = torch.cuda.device_count()
        if 0 < gpus < size:
            raise ParamsError(f"compute.processes: {size} asked of a machine with {gpus} GPU(s)")
        student = _with_dtype(student, on_gpu=gpus > 0)
        threads = max(1, (compute.cpus_per_cell or torch.get_num_threads()) // size)
        context = multiprocessing.get_context("spawn")
        find(student.model, student.revision)  # unpacked once, before all ranks want to
        self._folder = tempfile.TemporaryDirectory(prefix="medslm-ranks-")
        meeting = Path(self._folder.name) / "meeting"
        self._pipes: list[Connection] = []
        self._processes = []
        self._inputs: Inputs | None = None
        for rank in range(size):
            ours, theirs = context.Pipe()
            arguments = (rank, size, threads, meeting, student, tune, compute.strategy, theirs)
            process = context.Process(
                target=_rank_main, args=arguments, name=f"rank {rank}", daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        try:
            self.base: Base = agreed(self._answers())
        except DataError:
            self.close()
            raise

    def train(self, inputs: Inputs, job: Job) -> None:
        """Train one cell; WorkerLost if a rank dies, the ranks' own errors as themselves."""
        news = inputs if self._inputs is not inputs else None
        self._inputs = inputs
        for pipe in self._pipes:
            with contextlib.suppress(BrokenPipeError):  # dead: seen below
                pipe.send((news, job))
        self._answers()

    def close(self) -> None:
        """End all ranks at once; what they wrote is whole or absent."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        self._folder.cleanup()

    def _answers(self) -> list[Any]:
        """Wait for every rank's answer and return them by rank."""
        found: dict[int, Any] = {}
        with deferred(lambda: None) as stopping:
            while len(found) < len(self._pipes):
                open_pipes = {p: r for r, p in enumerate(self._pipes) if r not in found}
                sentinels = [p.sentinel for p in self._processes]
                ready = wait([*open_pipes, *sentinels], timeout=_LOOK_UP_S)
                if stopping.signum:
                    self.close()
                    name = signal.Signals(stopping.signum).name
                    raise Interrupted(f"stopped by {name}; run again to go on", stopping.signum)
                for pipe, rank in open_pipes.items():
                    if pipe in ready:
                        found[rank] = self._answer(pipe)
                if any(s in ready for s in sentinels):
                    self._lost()
        return [found[rank] for rank in sorted(found)]

    def _answer(self, pipe: Connection) -> Any:
        try:
            answer = pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._lost()
        if isinstance(answer, _Bug):
            if any((code or 0) < 0 for code in self._exit_codes().values()):
                self._lost()
            self.close()
            raise RuntimeError(f"a rank failed:\n{answer.text}")
        if isinstance(answer, Exception):
            self.close()
            raise answer
        return answer

    def _lost(self) -> None:
        codes = self._exit_codes()
        self.close()
        killed = {name: code for name, code in codes.items() if code is not None and code < 0}
        gone = killed or {name: code for name, code in codes.items() if code is not None}
        name, code = next(iter(gone.items()), ("a rank", None))
        how = f"was killed by signal {-code}" if code and code < 0 else f"ended with code {code}"
        raise WorkerLost(
            f"{name} of {len(codes)} {how} (out of memory?); its checkpoints are kept: run again to go on"
        )

    def _exit_codes(self) -> dict[str, int | None]:
        """Return how each process ended, None for the living; waits a moment for the first to end."""
        ended = wait([p.sentinel for p in self._processes], timeout=_SEEN_DEAD_S)
        for process in self._processes:
            if process.sentinel in ended:
                process.join(_SEEN_DEAD_S)  # its files are closed before it can be reaped
        return {p.name: p.exitcode for p in self._processes}


def agreed(bases: Sequence[Base]) -> Base:
    """Return what all ranks hold; DataError naming two that differ: their gradients are not to be summed."""
    for rank, base in enumerate(bases):
        if base != bases[0]:
            raise DataError(
                f"rank 0 has base {bases[0]}, rank {rank} has {base}; "
                "set student.dtype, or use GPUs of one kind"
            )
    return bases[0]


def _with_dtype(student: StudentParams, *, on_gpu: bool) -> StudentParams:
    """Choose the dtype once for all ranks: on a CPU each would measure for itself, beside the others.

    A GPU is asked and not measured, by its own rank.
    """
    if on_gpu:
        return student
    return student.model_copy(update={"dtype": choose_dtype(student.dtype, "cpu")})


class _Bug:
    """An error that is none of ours, as text: it may hold what cannot be sent."""

    def __init__(self, text: str) -> None:
        self.text = text


def _rank_main(
    rank: int,
    size: int,
    threads: int,
    meeting: Path,
    student: StudentParams,
    tune: TuneParams,
    strategy: str,
    pipe: Connection,
) -> None:
    """Live as one rank: load, then train cell after cell until the starter is gone."""
    _prepare(rank, threads)
    try:
        loaded = _join(rank, size, meeting, student, tune, strategy, threads)
        pipe.send(base_of(loaded))
        cells: CellTrainer | None = None
        while True:
            news, job = pipe.recv()
            if news is not None:
                cells = CellTrainer(loaded, news, Ranks())
            assert cells is not None
            cells.train(job)
            pipe.send(None)
    except (EOFError, BrokenPipeError):
        return
    except (MedslmError, OSError) as exc:
        pipe.send(exc)
    except Exception:  # noqa: BLE001 - the starter raises it
        pipe.send(_Bug(traceback.format_exc()))


def _prepare(rank: int, threads: int) -> None:
    """Set what has to be set before torch is imported, and die with the starter."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # all ranks are on this machine, whose name may not resolve
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the starter decides
    level = logging.INFO if rank == 0 else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    starter = multiprocessing.parent_process()
    assert starter is not None

    def follow(sentinel: int) -> None:
        wait([sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    # a killed starter holds no lock any more: ranks that went on would write beside the next run
    threading.Thread(target=follow, args=(starter.sentinel,), daemon=True).start()


def _join(
    rank: int,
    size: int,
    meeting: Path,
    student: StudentParams,
    tune: TuneParams,
    strategy: str,
    threads: int,
) -> Loaded:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(threads)
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        init_method=meeting.as_uri(),
        rank=rank,
        world_size=size,
    )
    spread = strategy == "fsdp"
    loaded = load_causal_lm(
        student.model,
        revision=student.revision,
        dtype=student.dtype,
        quantize=tune.quantize,
        on_cpu=spread,
    )
    if spread:
        shard(loaded, tune)
    return loaded


def ranks_of(trainer: ManyProcesses) -> Sequence[int]:
    """Return the process ids by rank."""
    return [p.pid for p in trainer._processes if p.pid is not None]
