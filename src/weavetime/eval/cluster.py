"""A run spread over a Ray cluster: a worker a GPU, each with an engine of its own, and groups handed out longest first.

Rows come to the driver one by one as they are made, and only the driver keeps them: what a worker's death costs is the
rows of its group that had not come yet, which another worker answers.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import StreamConfig
from ..errors import ClusterError, WeaveTimeError
from .row import Key, Row
from .rows import difference
from .run import Fed, Group, Run, answered, groups

if TYPE_CHECKING:
    from ..loading import Engine

LOCAL = "local"
"""The address of a cluster that is started here and ends with the run."""
TRIES = 3  # workers that one group, or loading in a row, may end
CORES = 4  # of a worker, where the cluster has no GPU and nobody says how many workers
BYTES_A_SECOND = 125_000  # of a video of unknown length: 1 Mbit/s
PATIENCE = 120.0  # seconds without a worker after which it is said why that may be
REACH = 5.0  # seconds to reach an address
STORE = 100 * 2**20  # bytes of a local cluster's object store; rows are small

Tell = Callable[[str], None]
"""Told in a line what went wrong and did not stop the run."""


@dataclass(frozen=True)
class Job:
    """What every worker is told. model, settings: as `load` takes them. stream: settings of the streams, in place of
    the config that `run` has. about: more of what the results file is to say of the run.
    """

    model: str
    settings: Mapping[str, Any]
    run: Run
    stream: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)

    def everywhere(self) -> Job:
        """The same with paths that hold wherever a worker stands."""
        paths = {k: _absolute(v) for k, v in self.settings.items() if k == "adapter" and v is not None}
        run = replace(self.run, root=self.run.root.absolute())
        return replace(self, model=_absolute(self.model), settings={**self.settings, **paths}, run=run)


@dataclass(frozen=True)
class Loaded:
    """What a worker says once its engine is there: as Run.head and protocol.about have it."""

    config: StreamConfig
    head: dict[str, Any]
    about: dict[str, Any]


class Worker:
    """One engine in a process of its own."""

    def __init__(self, job: Job, cores: int) -> None:
        self.job, self.cores = job, cores

    def load(self) -> Loaded:
        """Load the engine; once, before anything is asked."""
        import torch
        from transformers.utils import logging

        from ..loading import few_threads, load
        from .protocol import about

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        job = self.job
        self.engine: Engine = load(job.model, **job.settings)
        torch.set_num_threads(1 if few_threads(self.engine) else self.cores)
        self.run = replace(job.run, config=self.engine.stream(**job.stream).config)
        told = about(self.engine, job.model, job.settings.get("adapter"), **job.about)
        return Loaded(self.run.config, self.run.head(self.engine), told)

    def answers(self, group: Group) -> Iterator[tuple[Row, int]]:
        """Each missing row of a group, with how many frames were encoded since the one before."""
        fed = [0]

        def on_fed(count: int) -> None:
            fed[0] += count

        for row in answered(self.engine, self.run, group, on_fed):
            yield row, fed[0]
            fed[0] = 0


@dataclass
class _Task:
    """A group to be answered. ended: how many workers it ended so far."""

    group: Group
    length: float
    ended: int = 0

    @property
    def turn(self) -> tuple[int, float]:
        """Longest first; what ended a worker after all that did not, so that nothing else waits for it."""
        return self.ended, -self.length


class _LostError(Exception):
    """A worker is gone."""


class Fleet:
    """Workers of one job. loaded: what the first says of itself, and all must say. run: with the streams' settings."""

    loaded: Loaded
    run: Run

    def __init__(self, ray: Any, job: Job, count: int, needs: Mapping[str, float], cores: int, tell: Tell) -> None:
        self._ray, self._tell, self._cores = ray, tell, cores
        self._job = ray.put(job)
        self._kind = ray.remote(**needs)(Worker)
        self._loading: dict[Any, Any] = {}  # what is to be Loaded: its worker
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, _Task]] = {}  # rows to come: whose they are, and of what
        self._ended = 0  # workers in a row that ended while they loaded
        self._first: Loaded | None = None
        for _ in range(count):
            self._start()
        try:
            while self._first is None:
                self._arrived(self._wait())
        except BaseException:
            self.close()
            raise
        self.loaded = self._first
        self.run = replace(job.run, config=self.loaded.config)

    def measure(self, *, done: Collection[Key] = frozenset(), on_fed: Fed = lambda n: None) -> Iterator[Row]:
        """Every missing row of the run, in the order in which they are made (run.measure gives the same)."""
        waiting = [_Task(group, length(self.run, group)) for group in groups(self.run, done)]
        while waiting or self._busy:
            self._hand_out(waiting)
            ready = self._wait()
            if ready in self._loading:
                self._arrived(ready)
                continue
            worker, task = self._busy[ready]
            try:
                row, fed = self._get(partial(next, ready))
            except StopIteration:
                del self._busy[ready]
                self._idle.append(worker)
            except _LostError as e:
                del self._busy[ready]
                waiting.append(self._again(worker, task, str(e)))
            else:
                task.group = replace(task.group, missing=task.group.missing - {row.key})
                on_fed(fed)
                yield row

    def close(self) -> None:
        """End every worker."""
        for worker in (*self._idle, *self._loading.values(), *(worker for worker, _ in self._busy.values())):
            self._ray.kill(worker)
        self._idle, self._loading, self._busy = [], {}, {}

    def _start(self) -> None:
        worker = self._kind.remote(self._job, self._cores)
        self._loading[worker.load.remote()] = worker

    def _hand_out(self, waiting: list[_Task]) -> None:
        waiting.sort(key=lambda task: task.turn)
        while waiting and self._idle:
            worker, task = self._idle.pop(), waiting.pop(0)
            self._busy[worker.answers.options(num_returns="streaming").remote(task.group)] = worker, task

    def _wait(self) -> Any:
        """Whatever is ready next."""
        patience = None if self._first else PATIENCE
        while True:
            ready, _ = self._ray.wait([*self._busy, *self._loading], num_returns=1, timeout=patience)
            if ready:
                return ready[0]
            self._tell(f"no worker is ready after {PATIENCE:.0f} s: the model is large, or the cluster is busy")
            patience = None

    def _arrived(self, ready: Any) -> None:
        worker = self._loading.pop(ready)
        try:
            loaded = self._get(lambda: ready)
        except _LostError as e:
            self._ended += 1
            if self._ended == TRIES:
                raise ClusterError(
                    f"{TRIES} workers ended while they loaded the model ({e}): look at memory, or ask for fewer workers"
                ) from None
            self._tell(f"a worker ended while it loaded the model ({e}): starting another")
            self._start()
            return
        self._ended = 0
        self._first = self._first or loaded
        if loaded.head != self._first.head:
            raise ClusterError(f"workers do not have the same model ({difference(self._first.head, loaded.head)})")
        self._idle.append(worker)

    def _again(self, worker: Any, task: _Task, why: str) -> _Task:
        """What is left of a task whose worker is gone, and a new worker in its place."""
        self._ray.kill(worker)  # where it is only out of reach, its rows are no longer wanted
        task.ended += 1
        video = task.group.video
        if task.ended == TRIES:
            raise ClusterError(
                f"{video}: each of {TRIES} workers that took it ended ({why}). The rows of other videos are kept: "
                "look at its file and at memory, then start again"
            )
        self._tell(f"a worker ended at {video} ({why}): another takes it up")
        self._start()
        return task

    def _get(self, ref: Callable[[], Any]) -> Any:
        """What a worker gave. Raises _LostError where it is gone, and an error of ours as the worker raised it."""
        try:
            return self._ray.get(ref())
        except self._ray.exceptions.RayTaskError as e:
            raise (e.cause if isinstance(e.cause, WeaveTimeError) else e) from None
        except self._ray.exceptions.RayError as e:
            lines = str(e).splitlines() or [type(e).__name__]
            raise _LostError(lines[0].rstrip(".")) from None


@contextmanager
def fleet(
    job: Job, *, address: str = LOCAL, workers: int | None = None, tell: Tell = lambda text: None
) -> Iterator[Fleet]:
    """Workers of a cluster, ended when the block is left.

    address: LOCAL starts a cluster here, "auto" or HOST:PORT joins the one that this machine is part of; a program
    that has joined one already stays in it. workers: how many; default one a GPU, or one for every four cores of a
    cluster without. Raises ClusterError.
    """
    ray = _ray()
    mine = not ray.is_initialized()
    if mine:
        _join(ray, address)
    try:
        count, needs, cores = sizes(ray.cluster_resources(), job.settings, workers)
        found = Fleet(ray, job.everywhere(), count, needs, cores, tell)
        try:
            yield found
        finally:
            found.close()
    finally:
        if mine:
            ray.shutdown()


def sizes(
    resources: Mapping[str, float], settings: Mapping[str, Any], workers: int | None
) -> tuple[int, dict[str, float], int]:
    """How many workers, what each asks Ray for, and its CPU threads. Raises ClusterError."""
    device = str(settings.get("device") or "")
    if settings.get("device_map") is not None:
        raise ClusterError("a device map spreads one model over several cards, Ray one model a card: leave one out")
    if device not in ("", "cpu", "cuda"):
        raise ClusterError(f"Ray gives each worker a card of its own: leave out the device {device}")
    cores, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    if device == "cuda" and not gpus:
        raise ClusterError("the cluster has no GPU: leave out the device, or join another cluster")
    if gpus and device != "cpu":
        count = workers or gpus
        return count, {"num_cpus": 0, "num_gpus": 1 / math.ceil(count / gpus)}, max(1, cores // count)
    count = workers or max(1, cores // CORES)
    if count > cores:
        raise ClusterError(f"{count} workers are more than the cluster's {cores} cores: ask for fewer")
    return count, {"num_cpus": cores // count}, cores // count


def length(run: Run, group: Group) -> float:
    """Seconds of video to encode for a group; as the file's size has it where a span is open, 0 where nothing does."""
    seconds = sum(end - start for start, end in (*group.before, (group.start, group.end)))
    if math.isfinite(seconds):
        return seconds
    places = run.benchmark.videos(run.root, group.asked[0][1])
    return next((path.stat().st_size for path in places if path.is_file()), 0) / BYTES_A_SECOND


def _absolute(name: str) -> str:
    path = Path(name)
    return str(path.absolute()) if path.exists() else name


def _ray() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when a cluster starts: nothing is told to anyone
    try:
        import ray
    except ImportError as e:
        raise ClusterError("Ray is not installed: pip install 'weavetime[ray]'") from e
    return ray


def _join(ray: Any, address: str) -> None:
    import logging

    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    here = {"include_dashboard": False, "object_store_memory": STORE} if address == LOCAL else {}
    if address not in (LOCAL, "auto"):
        _reach(address)
    try:
        ray.init(address=address, **quiet, **here)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as e:
        lines = str(e).splitlines() or [type(e).__name__]
        token = "" if address == "auto" else "; one that asks for a token wants RAY_AUTH_MODE=token"
        raise ClusterError(f"no Ray cluster at {address} can be joined ({lines[0].rstrip('.')}){token}") from e


def _reach(address: str) -> None:
    """Refuse an address where nobody listens, which Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():  # Ray Client (ray://) gives no row before a whole group is done
        raise ClusterError(f"{address!r} is no address of a Ray cluster: say HOST:PORT, or auto on a machine of it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()
    except (OSError, OverflowError) as e:
        raise ClusterError(f"nothing answers at {address} ({getattr(e, 'strerror', None) or e})") from e
