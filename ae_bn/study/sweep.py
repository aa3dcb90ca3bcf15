"""Many runs in parallel, on this machine or on a cluster, that survive the death of workers.

`sweep` submits runs to executors of `concurrent.futures`: one per worker process on this machine
(loky), or Dask's on a cluster.  A run belongs to the process that holds the lock in its directory,
so any number of sweeps can share a directory.  A lock is released when its process dies.
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

import theano
from filelock import FileLock, Timeout
from joblib.externals.loky import ProcessPoolExecutor
from tqdm import tqdm

from ae_bn.errors import UserError
from ae_bn.files import write_json
from ae_bn.study.compiled import graph
from ae_bn.study.perform import perform
from ae_bn.study.plan import Run
from ae_bn.study.record import Record
from ae_bn.study.results import results_of
from ae_bn.theano_setup import check_locks, cpu_count, require_compiler

DEATHS = 3  # number of workers that may die with a run before it counts as failed
GRACE = 5  # seconds for workers to write their checkpoints when a sweep is stopped
CONNECTING = 10  # seconds to wait for the scheduler of a cluster
SHARING = 60  # seconds to wait for a file that another machine wrote to a shared directory
THREADS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]


def sweep(
    runs: list[Run],
    jobs: int,
    cluster: str | None = None,
    name: str = "runs",
    record: Record | None = None,
) -> None:
    """Do all runs that are neither finished nor recorded, with a progress bar.

    The runs of the first seed come first, so that a sweep that is stopped has some seeds complete.

    A run that raises an exception, or whose worker dies for the third time, leaves a
    ``failure.json`` in its directory, and the other runs continue.  A run that another process is
    doing is left to that process, and the sweep waits for it.

    Parameters
    ----------
    runs : list of Run
        The runs to do.
    jobs : int
        The number of worker processes on this machine; the threads are shared equally among them.
    cluster : str, optional
        The address of a Dask scheduler; "local" starts one on this machine, with ``jobs`` workers.
    name : str
        The text in front of the progress bar.
    record : Record, optional
        The record; runs in it are not done again.

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
                    tqdm.write(f"{run.arm}, seed {run.seed}: {run.directory}")
    if elsewhere:
        print(f"{elsewhere} runs were done by another process")
    _await_files(runs, record)


def attempt(run: Run) -> str:
    """Do a run in a worker, unless another process has its lock.

    Parameters
    ----------
    run : Run
        The run to do.

    Returns
    -------
    str
        "done" (if it failed, its directory has ``failure.json``), "finished" (another process has
        finished it) or "held" (another process is doing it).

    Raises
    ------
    UserError
        If the run's directory cannot be written to.
    """
    try:
        run.directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run.directory / "lock", timeout=0).acquire()
    except Timeout:
        check_locks(run.directory)
        return "held"
    except (OSError, NotImplementedError) as error:
        raise UserError(f"cannot lock {run.directory}: {error}") from None
    with lock:
        if run.finished:
            return "finished"
        for leftover in run.directory.glob(".*.tmp"):  # from a process that was killed
            leftover.unlink()
        try:
            perform(run)
        except Exception as error:  # a mistake or a bug, which must not stop the other runs
            message = str(error) if isinstance(error, UserError) else repr(error)
            write_failure(run, message, traceback.format_exc())
    return "done"


def write_failure(run: Run, reason: str, details: str = "") -> None:
    """Write why a run failed, without the path of the run, so that equal reasons are counted."""
    reason = " ".join(reason.replace(f"{run.directory}{os.sep}", "").split())[:500]
    write_json(run.directory / "failure.json", {"reason": reason, "details": details})


def _unfinished(runs: list[Run], record: Record | None) -> list[Run]:
    """Return the runs to do, and print how many are finished and which are damaged."""
    pending = []
    runs = list({run.identity: run for run in runs}.values())  # two arms may need the same run
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
            "about a minute on a new machine, seconds after that"
        )
    return pending


def _choose(pending, graphs, executor, compiled) -> Run:
    """Return a run of the first seed, with a graph that this worker, or none, has compiled."""
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
        raise UserError(f"--cluster {cluster}: the scheduler has stopped: start it again") from None
    except Exception as error:
        if isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker":  # Dask's
            return "died"
        if cluster and not isinstance(error, UserError):
            raise UserError(
                f"--cluster {cluster}: its workers cannot do runs ({error!r:.200}): give them the "
                "packages of this machine"
            ) from error
        raise


def _await_files(runs: list[Run], record: Record | None) -> None:
    """Wait until results that other machines wrote appear in a shared directory."""
    deadline = time.monotonic() + SHARING
    for run in runs:
        if record and record.results(run.identity):
            continue
        while not any((run.directory / name).exists() for name in ("metrics.json", "failure.json")):
            if time.monotonic() > deadline:
                raise UserError(
                    f"the results of {run.directory} do not appear here: put --out into a "
                    "directory that all machines of the cluster share"
                )
            time.sleep(1)


@contextmanager
def _local_workers(jobs: int) -> Iterator[Callable[[], Executor]]:
    """Yield a function that starts a worker, and stop all workers at the end.

    A worker is an executor with one process, so a worker that dies affects only its own run.
    """
    share = str(max(1, cpu_count() // jobs))
    threads = {name: os.environ.get(name, share) for name in THREADS}
    others, started = multiprocessing.active_children(), []
    try:
        multiprocessing.Lock()
    except (ImportError, OSError) as error:  # semaphores are files in /dev/shm
        print(
            f"no worker processes: /dev/shm cannot be used ({error}); this process does the runs "
            "one at a time"
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
        if stopped:  # SIGTERM makes a worker write its checkpoint and exit
            workers = [child for child in multiprocessing.active_children() if child not in others]
            for worker in workers:
                worker.terminate()
            deadline = time.monotonic() + GRACE
            for worker in workers:
                worker.join(max(0, deadline - time.monotonic()))
        for executor in started:
            executor.shutdown(kill_workers=stopped)


class _InThisProcess(Executor):
    """An executor whose `submit` does the work before it returns."""

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[override]
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _follow(parent: int):
    """Stop a worker when its sweep terminates it or dies, but not at Ctrl-C, which it also gets."""
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
            # By default Dask gives up a worker that is lost for 15 seconds.
            dask.config.set({"distributed.deploy.lost-worker-timeout": "1000 days"})
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # workers inherit this
            scheduler = LocalCluster(jobs, threads_per_worker=1, dashboard_address=":0")
            signal.signal(signal.SIGINT, handler)
        client = Client(scheduler, timeout=CONNECTING)
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        raise UserError(
            f"--cluster {address}: no Dask scheduler answers ({error}): start one with "
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
