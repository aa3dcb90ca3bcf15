"""Many runs: in parallel on this machine or on a cluster, whatever dies meanwhile.

`sweep` hands runs to executors of `concurrent.futures`: one per worker process here (loky), or
Dask's on a cluster.  A run belongs to the process that holds the lock in its directory, so any
number of sweeps can share a directory; the lock of a process that died is free by itself.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import Counter, defaultdict
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Iterator

import joblib
import theano
from filelock import FileLock, Timeout
from joblib.externals.loky import ProcessPoolExecutor
from tqdm import tqdm

from ae_bn.errors import UserError
from ae_bn.files import write_json
from ae_bn.study.compiled import graph
from ae_bn.study.record import Record
from ae_bn.study.run import Run, perform, results_of
from ae_bn.theano_setup import require_compiler

DEATHS = 3  # of workers with the same run, before it counts as failed
GRACE = 5  # seconds for workers to write their checkpoints when a sweep is stopped
CONNECTING = 10  # seconds to wait for the scheduler of a cluster
SHARING = 60  # seconds until a file of another machine is seen in a shared directory
THREADS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]


def sweep(
    runs: list[Run],
    jobs: int,
    cluster: str | None = None,
    name: str = "runs",
    record: Record | None = None,
) -> None:
    """Do all runs that are neither finished nor recorded, with a progress bar.

    The runs of the first seed come first, so that what is finished when a sweep is stopped is
    complete for some seeds.

    A run that raises an exception, or whose worker dies for the third time, leaves a
    ``failure.json`` in its directory, and the others go on.  A run that another process is at is
    left to it, and waited for.

    Parameters
    ----------
    runs : list of Run
    jobs : int
        Processes on this machine; each gets its share of the cores' threads.
    cluster : str, optional
        Address of a Dask scheduler; "local" starts one here, with so many workers.
    name : str
        The name in front of the progress bar.
    record : Record, optional
        The runs that need not be done, besides those with a finished directory.

    Raises
    ------
    UserError
        If there is no compiler, the cluster does not answer, or files cannot be written.
    """
    pending = _unfinished(runs, record)
    if not pending:
        return
    require_compiler()
    n_workers = len(pending) if cluster else min(jobs, len(pending))  # Dask has its own queue
    workers = _cluster_workers(cluster, jobs) if cluster else _local_workers(jobs)
    graphs = {run.directory: not run.reference and graph(run.config) for run in pending}
    compiled: dict[Executor, set] = defaultdict(set)  # graphs
    deaths: Counter[Path] = Counter()  # by directory
    running: dict = {}
    held: list = []
    elsewhere = 0
    with workers as start, tqdm(total=len(pending), desc=name, unit="run") as bar:
        idle = [start() for _ in range(n_workers)]
        while pending or running or held:
            while pending and idle:
                executor = idle.pop(0)
                run = _choose(pending, graphs, executor, compiled)
                pending.remove(run)
                compiled[executor].add(graphs[run.directory])
                try:
                    future = executor.submit(attempt, run)
                except BrokenExecutor:  # it died while it was idle
                    executor = start()
                    future = executor.submit(attempt, run)
                running[future] = run, executor
            if not running:
                bar.set_postfix_str(f"waiting for {len(held)} runs of another process")
                time.sleep(1)
                pending, held = held, []
                continue
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run, executor = running.pop(future)
                outcome = _outcome(future, cluster)
                if outcome == "died":
                    executor = start()
                    deaths[run.directory] += 1
                    if deaths[run.directory] == DEATHS:
                        write_failure(run, f"its worker died {DEATHS} times (out of memory?)")
                        outcome = "done"
                idle.append(executor)
                if outcome == "held":
                    held.append(run)
                elif outcome == "died":
                    pending.append(run)
                else:
                    elsewhere += outcome == "finished"
                    bar.update()
    if elsewhere:
        print(f"{elsewhere} runs were done by another process")
    _await_files(runs, record)


def attempt(run: Run) -> str:
    """Do a run if it is free; this is what workers do.

    Returns
    -------
    str
        done (it may have failed: see its directory), finished (by someone else, meanwhile) or
        held (someone else is at it).

    Raises
    ------
    UserError
        If the run's directory cannot be written to.
    """
    try:
        run.directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run.directory / "lock", timeout=0).acquire()
    except Timeout:
        return "held"
    except (OSError, NotImplementedError) as error:
        raise UserError(f"cannot lock {run.directory}: {error}") from None
    with lock:
        if run.finished:
            return "finished"
        for leftover in run.directory.glob(".*.tmp"):  # of a process that was killed
            leftover.unlink()
        try:
            perform(run)
        except Exception as error:  # a mistake or a bug; other runs may do better
            message = str(error) if isinstance(error, UserError) else repr(error)
            write_failure(run, message, traceback.format_exc())
    return "done"


def write_failure(run: Run, reason: str, details: str = "") -> None:
    """Write down why a run failed; without its own path, so that equal reasons are counted."""
    reason = " ".join(reason.replace(f"{run.directory}{os.sep}", "").split())[:500]
    write_json(run.directory / "failure.json", {"reason": reason, "details": details})


def _unfinished(runs: list[Run], record: Record | None) -> list[Run]:
    """Return the runs to do, and say what is done and what is damaged."""
    pending = []
    runs = list({run.identity: run for run in runs}.values())  # two arms may need the same
    for run in runs:
        try:
            if results_of(run, record) is None:
                pending.append(run)
        except UserError as error:
            print(f"doing a run again, because {error}")
            pending.append(run)
    if len(pending) < len(runs):
        print(f"{len(runs) - len(pending)} of {len(runs)} runs are finished already")
    if pending:
        print(
            f"compiling Theano's functions first, into {theano.config.compiledir}: "
            "a minute or so on a new machine, seconds later"
        )
    return pending


def _choose(pending, graphs, executor, compiled) -> Run:
    """Return a run of the first seed, with a graph the worker has compiled, or that none has."""
    others = set().union(*compiled.values())

    def cost(run):
        graph = graphs[run.directory]
        return run.seed, graph not in compiled[executor], graph in others

    return min(pending, key=cost)


def _outcome(future: Future, cluster: str | None) -> str:
    """Return what `attempt` returned, or "died" if its worker did."""
    try:
        return future.result()
    except CancelledError:
        raise UserError(f"--cluster {cluster}: the scheduler is gone") from None
    except Exception as error:
        if isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker":  # Dask's
            return "died"
        if cluster and not isinstance(error, UserError):
            raise UserError(
                f"--cluster {cluster}: its workers cannot do runs ({error!r:.200}); set them up as "
                "this machine is"
            ) from error
        raise


def _await_files(runs: list[Run], record: Record | None) -> None:
    """Wait until results that other machines wrote are seen here: shared directories are slow."""
    deadline = time.monotonic() + SHARING
    for run in runs:
        if record and record.results(run.identity):
            continue
        while not any((run.directory / name).exists() for name in ("metrics.json", "failure.json")):
            if time.monotonic() > deadline:
                raise UserError(
                    f"the results of {run.directory} do not arrive here: put --out into a "
                    "directory that all machines of the cluster share"
                )
            time.sleep(1)


@contextmanager
def _local_workers(jobs: int) -> Iterator[Callable[[], Executor]]:
    """Yield a function that starts a worker; in the end stop them all.

    A worker is an executor of one process, so that when one dies only its own run is lost.
    """
    share = str(max(1, joblib.cpu_count() // jobs))
    threads = {name: os.environ.get(name, share) for name in THREADS}
    others, started = multiprocessing.active_children(), []
    try:
        multiprocessing.Lock()
    except (ImportError, OSError) as error:  # semaphores are files in /dev/shm
        print(
            f"no worker processes: /dev/shm cannot be used ({error}); this process does one run "
            "after the other"
        )
        yield _InThisProcess
        return

    def start():
        follow = dict(initializer=_follow, initargs=(os.getpid(),))
        started.append(ProcessPoolExecutor(1, env=threads, **follow))
        return started[-1]

    stopped = True
    try:
        yield start
        stopped = False
    finally:
        if stopped:  # SIGTERM makes a worker write its checkpoint and go
            workers = [child for child in multiprocessing.active_children() if child not in others]
            for worker in workers:
                worker.terminate()
            deadline = time.monotonic() + GRACE
            for worker in workers:
                worker.join(max(0, deadline - time.monotonic()))
        for executor in started:
            executor.shutdown(kill_workers=stopped)


class _InThisProcess(Executor):
    """An executor that has done what is submitted when `submit` returns."""

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[override]
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _follow(parent: int):
    """Stop a worker when its sweep says so or dies, and not at Ctrl-C, which reaches it too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _cluster_workers(address: str, jobs: int) -> Iterator[Callable[[], Executor]]:
    """Yield a function that returns an executor on a Dask cluster."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise UserError("--cluster needs Dask: pip install 'ae_bn[cluster]'") from None
    scheduler: str | LocalCluster = address
    try:
        if address == "local":
            # By default a worker that is not back after 15 seconds is given up for good.
            dask.config.set({"distributed.deploy.lost-worker-timeout": "1000 days"})
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # workers inherit this
            scheduler = LocalCluster(jobs, threads_per_worker=1, dashboard_address=":0")
            signal.signal(signal.SIGINT, handler)
        client = Client(scheduler, timeout=CONNECTING)
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        raise UserError(
            f"--cluster {address}: no Dask scheduler answers there ({error}); start one with "
            "'dask scheduler', or give local"
        ) from None
    with client:
        where = client.scheduler_info()["address"]
        print(f"cluster: {len(client.nthreads())} workers at {where}")
        try:
            executor = client.get_executor(pure=False)
            yield lambda: executor
        finally:
            if client.cluster is not None:
                with suppress(asyncio.TimeoutError):
                    client.cluster.close(timeout=2 * GRACE)
