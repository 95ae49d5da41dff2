"""A Ray cluster of two nodes on loopback, made by `ray start` twice, whose processes can be killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import ray

# Ray replaces 127.0.0.1 by an address that others could reach; all of 127.0.0.0/8 is loopback.
HOSTS = ("127.0.0.2", "127.0.0.3")
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
STORE_BYTES = 80 * 2**20
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}


class Cluster:
    """Two nodes with so many cores each; its processes end with it.

    Attributes:
        address: For `--ray-address`.
    """

    def __init__(self, cores: int = 1) -> None:
        with socket.socket() as free:
            free.bind((HOSTS[0], 0))
            port = free.getsockname()[1]
        self.address = f"{HOSTS[0]}:{port}"
        self._cores = cores
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets need a short path
        self._head = ["--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", str(self._folder)]
        self._nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        os.environ.update(QUIET)
        self._nodes = [self._start_node(HOSTS[0], self._head)]
        wait_until(lambda: has_raylet(self._nodes[0].pid), "the head node didn't start")
        ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        self._nodes.append(self._start_second())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ray.shutdown()
        for node in reversed(self._nodes):
            kill_all(children_of(node.pid))
            node.kill()
            node.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def actors(self) -> list[psutil.Process]:
        """The processes of actors that hold a model."""
        found = [child for node in self._nodes for child in children_of(node.pid)]
        return [each for each in found if "ray::Holder" in name_of(each)]

    def second_node(self) -> list[psutil.Process]:
        """All processes of the second node, its own first."""
        return [psutil.Process(self._nodes[1].pid), *children_of(self._nodes[1].pid)]

    def wait_for_death(self) -> None:
        """Until the cluster knows that the second node is dead."""
        self._nodes[1].wait()
        wait_until(lambda: not has_node(HOSTS[1]), "the second node didn't die")

    def mend(self) -> None:
        """Starts the second node again where it was killed."""
        if self._nodes[1].poll() is not None:
            self._nodes[1] = self._start_second()

    def _start_second(self) -> subprocess.Popen[bytes]:
        node = self._start_node(HOSTS[1], ["--address", self.address])
        wait_until(lambda: has_node(HOSTS[1]), "the second node didn't start")
        return node

    def _start_node(self, host: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        common = ["--node-ip-address", host, "--num-cpus", str(self._cores), "--block"]
        store = ["--object-store-memory", str(STORE_BYTES), "--disable-usage-stats"]
        return subprocess.Popen(
            [*RAY, "start", *arguments, *common, *store],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def wait_until(true: Callable[[], bool], otherwise: str, timeout_s: float = 120.0) -> None:
    """Waits for a condition.

    Raises:
        TimeoutError: it doesn't come.
    """
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(otherwise)
        time.sleep(0.1)


def has_node(host: str) -> bool:
    """Whether the cluster knows a living node of that address."""
    return any(node["Alive"] and node["NodeManagerAddress"] == host for node in ray.nodes())


def has_raylet(pid: int) -> bool:
    """Whether a node's own process runs below one."""
    return any("/raylet " in name_of(child) for child in children_of(pid))


def children_of(pid: int) -> list[psutil.Process]:
    """All processes below one, its grandchildren too."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def name_of(process: psutil.Process) -> str:
    """A process's command line."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""


def kill_all(processes: Iterable[psutil.Process]) -> int:
    """SIGKILLs processes; how many were alive."""
    killed = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            killed += 1
    return killed
