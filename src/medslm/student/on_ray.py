"""Cells on Ray: side by side on the cores, GPUs or machines it has. The only module that imports ray.

A worker holds the base and takes cells until none is left. One that dies gives its cell back, and
the next goes on from that cell's checkpoints, which lie in the project's work folder: with several
machines, that folder is on a file system they share.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medslm.errors import DataError, Interrupted, MedslmError, ParamsError, WorkerLost, work_dir
from medslm.signals import Stopping, deferred
from medslm.student.cells import Finished, Inputs, Job, trained
from medslm.student.engines import Base, taken_up, trainer
from medslm.student.settings import ComputeParams, StudentParams, TuneParams

log = logging.getLogger(__name__)

# Ray puts sockets at <folder>/session_<26 characters of date>_<pid>/sockets/plasma_store.N: 66 characters
# with a pid of seven digits, and the path of a socket may have 107 (103 on macOS).
_LONGEST_FOLDER = 37
# Jobs and examples are a few megabytes; Ray would take 30 % of the memory.
_OBJECT_STORE_BYTES = 100 << 20
_LOOK_UP_S = 0.5


@contextlib.contextmanager
def ray_engine(student: StudentParams, tune: TuneParams, compute: ComputeParams) -> Iterator[OnRay]:
    """Yield an engine on Ray's cluster, or on a Ray of its own that ends with it.

    Raises ParamsError if ray is not installed, the address does not answer, or no machine there is
    large enough for one cell; Interrupted, all workers gone, at Ctrl-C or SIGTERM.
    """
    ray = _ray(compute.address)
    folder = None if compute.address else _folder()
    with deferred(lambda: None):  # gives back the handlers that ray.init replaces
        try:
            _connect(ray, compute, folder)
            with deferred(lambda: None) as stopping:
                on_ray = OnRay(ray, student, tune, compute, stopping)
                try:
                    yield on_ray
                finally:
                    on_ray.close()
        finally:
            ray.shutdown()
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


class OnRay:
    """Hands cells to workers; a lost worker's cell goes to a new one at most ``retries`` times."""

    def __init__(
        self,
        ray: Any,
        student: StudentParams,
        tune: TuneParams,
        compute: ComputeParams,
        stopping: Stopping,
    ) -> None:
        import torch

        self._ray, self._stopping = ray, stopping
        self._threads = compute.cpus_per_cell or torch.get_num_threads()
        self._compute = compute.model_copy(update={"cpus_per_cell": self._threads})
        self._student, self._tune = student, tune
        # Ray's own kill for want of memory is no RayActorError
        self._losing = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)
        self._room = self._places()
        self._workers: list[Any] = []
        self._losses: Counter[str] = Counter()
        self._base: Base | None = None

    def base(self) -> Base:
        """Return the base as the first worker found it: precision too is chosen where cells run."""
        while self._base is None:
            worker = self._started()
            try:
                self._base = self._awaited(worker.base.remote())
            except self._losing as exc:
                self._lost(worker, "the base model", exc)
        return self._base

    def train(self, inputs: Inputs, jobs: Sequence[Job]) -> list[Finished]:
        """Train what is not finished, at most as many at a time as there is room for."""
        earlier = {job: taken_up(inputs, job) for job in jobs}
        waiting = deque(job for job in jobs if earlier[job] is None)
        base, shared = self.base(), self._ray.put(inputs)
        running: dict[Any, tuple[Any, Job]] = {}
        idle = list(
            self._workers
        )  # after base(), which starts one: more than there is room for would wait
        while waiting or running:
            while waiting and len(running) < self._room:
                worker, job = idle.pop() if idle else self._started(), waiting.popleft()
                running[worker.train.remote(shared, base, job)] = worker, job
            for reference in self._ready(list(running)):
                worker, job = running.pop(reference)
                try:
                    self._raise(self._ray.get(reference))
                    idle.append(worker)
                    log.info("%s: trained", job.name)
                except self._losing as exc:
                    self._lost(worker, job.name, exc)
                    waiting.appendleft(job)
        return [earlier[job] or trained(inputs.work, job) for job in jobs]

    def close(self) -> None:
        """Kill all workers, and what they started."""
        for worker in self._workers:
            self._ray.kill(worker)

    def _started(self) -> Any:
        environment = {k: v for k in ("DVC_ROOT", "HF_HUB_OFFLINE") if (v := os.environ.get(k))}
        worker_class = self._ray.remote(Worker).options(
            num_cpus=self._threads, num_gpus=self._compute.gpus_per_cell, max_restarts=0
        )
        worker = worker_class.remote(
            Path.cwd(), environment, self._student, self._tune, self._compute
        )
        self._workers.append(worker)
        return worker

    def _lost(self, worker: Any, what: str, exc: Exception) -> None:
        self._workers.remove(worker)
        self._ray.kill(worker)  # in case it lives: two must not train one cell
        self._losses[what] += 1
        why = " ".join(str(exc).split())[:300]
        if self._losses[what] > self._compute.retries:
            raise WorkerLost(
                f"{what}: lost its worker {self._losses[what]} time(s), compute.retries is "
                f"{self._compute.retries}; checkpoints are kept: run again to go on ({why})"
            )
        log.warning("%s: lost its worker, goes to another one (%s)", what, why)

    def _ready(self, references: list[Any]) -> list[Any]:
        """Wait until one of these is done or somebody asks to stop."""
        while True:
            ready, _ = self._ray.wait(references, timeout=_LOOK_UP_S)
            if self._stopping.signum:
                name = signal.Signals(self._stopping.signum).name
                raise Interrupted(f"stopped by {name}; run again to go on", self._stopping.signum)
            if ready:
                return list(ready)

    def _awaited(self, reference: Any) -> Any:
        [ready] = self._ready([reference])
        return self._raise(self._ray.get(ready))

    def _raise(self, answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _places(self) -> int:
        """Return how many cells fit on the machines; ParamsError if not a single one does."""
        gpus = self._compute.gpus_per_cell
        places, largest = 0, {"CPU": 0.0, "GPU": 0.0}
        for node in self._ray.nodes():
            if not node["Alive"]:
                continue
            has = {kind: node["Resources"].get(kind, 0.0) for kind in largest}
            largest = {kind: max(largest[kind], has[kind]) for kind in largest}
            fits = has["CPU"] // self._threads
            places += int(min(fits, has["GPU"] / gpus if gpus else fits))
        if not places:
            raise ParamsError(
                f"compute: a cell asks for {self._threads} CPU(s) and {gpus:g} GPU(s); the largest machine "
                f"that Ray has offers {largest['CPU']:g} and {largest['GPU']:g}"
            )
        return places


class Worker:
    """Runs in a process of Ray's: loads the base once and trains cells.

    Errors of ours are returned, not raised: Ray would add its traceback to their line.
    """

    def __init__(
        self,
        root: Path,
        environment: dict[str, str],
        student: StudentParams,
        tune: TuneParams,
        compute: ComputeParams,
    ) -> None:
        self._failed: Exception | None = None
        self._inputs: Inputs | None = None
        self._open = contextlib.ExitStack()
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        os.environ.update(environment)
        os.environ["OMP_NUM_THREADS"] = str(compute.cpus_per_cell)
        if compute.gpus_per_cell == 0:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # else every worker would take the first GPU
        try:
            if not root.is_dir():
                raise DataError(
                    f"{socket.gethostname()}: {root} is not there; machines of a Ray cluster must share it"
                )
            os.chdir(root)
            self._trainer = self._open.enter_context(trainer(student, tune, compute))
        except (MedslmError, OSError) as exc:
            self._failed = exc

    def base(self) -> Base | Exception:
        """Return the base in memory, or why there is none."""
        return self._failed or self._trainer.base

    def train(self, inputs: Inputs, expected: Base, job: Job) -> Exception | None:
        """Train one cell on the expected base; return None or what went wrong."""
        if self._failed is not None:
            return self._failed
        if self._trainer.base != expected:
            return DataError(
                f"{socket.gethostname()}: has base {self._trainer.base}, the first worker has {expected}; "
                "set student.dtype, or use machines of one kind"
            )
        if self._inputs is None or self._inputs.work != inputs.work:
            self._inputs = inputs  # every call brings a copy: the first one keeps its fold's tokens
        try:
            self._trainer.train(self._inputs, job)
        except (MedslmError, OSError) as exc:
            return exc
        return None


def _ray(address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        # A secret of this run, which ray reads once, when it is imported: without one it would leave a
        # token in the user's home.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError:
        raise ParamsError(
            "compute.engine: ray is not installed; run: pip install 'medslm[ray]'"
        ) from None
    return ray


def _connect(ray: Any, compute: ComputeParams, folder: Path | None) -> None:
    common = {"log_to_driver": True, "logging_level": logging.WARNING, "namespace": "medslm"}
    if folder is not None:
        ray.init(
            address="local",
            _node_ip_address="127.0.0.1",
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=str(folder),
            **common,
        )
        return
    try:
        ray.init(address=compute.address, **common)
    except (ConnectionError, ValueError, RuntimeError) as exc:
        first = str(exc).strip().splitlines()[0]
        raise ParamsError(f"compute.address: no Ray at {compute.address}: {first}") from exc


def _folder() -> Path:
    """Return an empty folder for Ray's files: in the work folder unless its path is too long for sockets."""
    inside = work_dir().absolute() / "ray"
    if len(os.fsencode(inside / "12345678")) > _LONGEST_FOLDER:
        return Path(tempfile.mkdtemp(prefix="ray-"))
    inside.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="", dir=inside))
