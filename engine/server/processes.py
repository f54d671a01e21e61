"""How do several processes answer on one port?

One process writes, and answers as any server does. The others open the data folder for reading, answer what needs nothing
else, and forward the rest to the writer over a socket that only this user can open. The system spreads connections over
them (SO_REUSEPORT). Every one is a whole interpreter with a lock of its own, so queries use as many cores as there are
processes; each loads the model.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path

from engine.embedded import EmbeddedEngine
from engine.errors import InvalidArgument
from engine.local import ModelOptions
from engine.server.config import CannotBind, ServerConfig, split_address
from engine.server.server import Server, serve

log = logging.getLogger(__name__)

RESTART_S = 1.0
START_S = 120.0
SOCKET = "writer.sock"


def serve_processes(
    engine: EmbeddedEngine, config: ServerConfig, processes: int, *, on_ready: Callable[[Server], None] | None = None
) -> None:
    """Serves as `engine.server.serve` does, with so many processes. For the main thread.

    Args:
        engine: what to serve; closed on return, whatever happens.
        config: of every process. With a metrics port above 0, the processes have that one and those that follow.
        processes: all together, the one that writes included.
        on_ready: called once when all accept calls, with the server of this process.

    Raises:
        CannotBind: the address is taken. InvalidArgument: the configuration cannot be used.
    """
    if processes == 1:
        return serve(engine, config, prepare=engine.prepare, on_ready=on_ready)
    if not hasattr(socket, "SO_REUSEPORT"):
        raise InvalidArgument("processes", "this system cannot share a port between processes; use 1")
    _check_free(config.address)
    with tempfile.TemporaryDirectory(prefix="landmark-") as private:  # nobody else may open it
        shared = replace(config, shared_port=True, writer_socket=Path(private) / SOCKET)

        @contextmanager
        def readers(server: Server) -> Iterator[None]:
            group = Readers(engine.path, engine.options, replace(shared, address=server.address), processes - 1)
            try:
                yield
            finally:
                group.stop()

        serve(engine, shared, prepare=engine.prepare, beside=readers, on_ready=on_ready)


class Readers:
    """Processes that read beside the one that writes. One that dies is started again.

    Args:
        path: the data folder.
        options: of its models.
        config: the writer's, with the address that the system gave it.
        count: how many.

    Raises:
        InvalidArgument: they cannot start; the log says why.
    """

    def __init__(self, path: Path, options: ModelOptions, config: ServerConfig, count: int) -> None:
        self._context: SpawnContext = multiprocessing.get_context("spawn")
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        assert config.writer_socket is not None
        reading = replace(config, writer_socket=None, forward_to=config.writer_socket)
        ports = [config.metrics_port and config.metrics_port + 1 + i for i in range(count)]
        self._arguments = [(path, options, replace(reading, metrics_port=port), count + 1) for port in ports]
        self._running = [self._start(place) for place in range(count)]
        try:
            for _, ready in self._running:
                if not ready.poll(START_S) or not _received(ready):
                    raise InvalidArgument("processes", "a process that reads did not start; the log says why")
        except BaseException:
            self.stop()
            raise
        threading.Thread(target=self._restart_the_dead, name="landmark-readers", daemon=True).start()

    def stop(self) -> None:
        """Lets them drain; returns when all have ended."""
        with self._starting:  # none is started any more
            self._stopping.set()
        for process, _ in self._running:
            process.terminate()
        for process, _ in self._running:
            process.join()

    def _start(self, place: int) -> tuple[SpawnProcess, Connection]:
        """A process, and the pipe on which it says that it accepts calls; the pipe must be kept until then."""
        ready, there = self._context.Pipe(duplex=False)
        level = logging.getLogger().level
        process = self._context.Process(target=_read, args=(*self._arguments[place], level, there), daemon=True)
        process.start()
        there.close()  # so that the end of the process ends the pipe
        return process, ready

    def _restart_the_dead(self) -> None:
        while not self._stopping.is_set():
            wait([process.sentinel for process, _ in self._running], timeout=RESTART_S)
            for place, (process, _) in enumerate(self._running):
                if not process.is_alive() and not self._stopping.wait(RESTART_S):
                    log.warning("a process that reads ended (exit code %s); starting another", process.exitcode)
                    with self._starting:
                        if not self._stopping.is_set():
                            self._running[place] = self._start(place)


def _received(ready: Connection) -> bool:
    try:
        ready.recv()
    except EOFError:
        return False
    return True


def _read(
    path: Path, options: ModelOptions, config: ServerConfig, processes: int, log_level: int, ready: Connection
) -> None:
    """The main function of a process that reads."""
    os.setsid()  # Ctrl-C is for the process that writes, which ends the others in order
    # Before torch is loaded: all processes together have as many threads as there are cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    from engine import open_reader

    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    threading.Thread(target=_end_with_the_writer, daemon=True).start()
    engine = open_reader(path, **options)
    serve(engine, config, prepare=engine.prepare, on_ready=lambda _: ready.send(None))


def _end_with_the_writer() -> None:
    writer = multiprocessing.parent_process()
    assert writer is not None
    writer.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _check_free(address: str) -> None:
    """A shared port would also be shared with a server that has it already: look before.

    Raises:
        CannotBind: somebody listens there.
    """
    host, port = split_address(address)
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            raise CannotBind(address) from error
