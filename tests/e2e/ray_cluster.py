"""A Ray cluster on this machine: each node a process group of its own, which can be killed."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e.server import environment, eventually

RAY = Path(sys.executable).with_name("ray")
TOKEN = "0" * 64
NEEDS_RAY = "needs the extra ray"
AGENTS = ("dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent", "metrics-export")


@dataclass(frozen=True)
class Node:
    """One `ray start --block`."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def workers(self) -> list[psutil.Process]:
        """The processes of this node that hold a model."""
        found = []
        for each in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "_RayWorker" in " ".join(each.cmdline()):
                    found.append(each)
            except psutil.Error:  # it has just ended
                continue
        return found

    def kill(self) -> None:
        """End all of it, without a word."""
        try:
            family = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            family = []
        for each in family:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def ray_environment(repository: Path, **settings: object) -> dict[str, str]:
    """What nodes and commands run with: this repository, the cluster's token, and no word to
    anybody elsewhere."""
    ours = {
        "PYTHONPATH": str(repository),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return environment(**settings) | ours


def free_ports() -> list[int]:
    """As many ports as there are agents, which nobody has now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in AGENTS]
        return [sock.getsockname()[1] for sock in sockets]


@contextmanager
def node(folder: Path, repository: Path, *options: str) -> Iterator[Node]:
    """One node with one processor, once it is up.

    Its agents have ports that are known before: Ray waits 15 seconds for them to choose their own,
    which is not enough on a machine that is busy.
    """
    ports = [f"--{name}-port={port}" for name, port in zip(AGENTS, free_ports(), strict=True)]
    log = folder / f"node-{len(list(folder.glob('node-*')))}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(RAY), "start", *options, *ports, "--num-cpus=1", "--block"],
            cwd=repository,
            env=ray_environment(repository),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Node(process, log)
    try:
        eventually(lambda: "Ray runtime started" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield started
    finally:
        started.kill()


@contextmanager
def two_nodes(folder: Path, repository: Path) -> Iterator[tuple[str, Node]]:
    """A cluster's address, and its second node, which may be killed."""
    with ExitStack() as stack:
        options = ("--head", "--port=0", "--include-dashboard=false")
        head = stack.enter_context(node(folder, repository, *options))
        found = re.search(r"--address='([\d.:]+)'", head.log.read_text())
        assert found, head.log.read_text()
        second = stack.enter_context(node(folder, repository, f"--address={found[1]}"))
        yield found[1], second
