"""The connection to the agent: JSON objects, one a line, over a Unix socket."""

import json
import logging
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger("vllm.kvasir")

PROTOCOL = 1
# Messages that may wait for the agent to read them. One that reads so slowly is
# not worth waiting for: the connection starts over.
_MAX_WAITING = 4096
_HANDSHAKE_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Refused(Exception):
    """The agent said why it does not want this connection."""


class LineReader:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines if line]


class Link:
    """One connection, made again whenever it breaks, with threads of its own:
    nobody who sends or listens ever waits for the agent."""

    def __init__(self, path: str, hello: dict[str, Any]) -> None:
        self._path = path
        self._hello = {"op": "hello", "version": PROTOCOL, **hello}
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None  # while connected
        self._out: queue.Queue[bytes | None] = queue.Queue()
        self._closed = threading.Event()
        self._complaint = ""

    def start(
        self,
        up: Callable[[dict[str, Any], dict[str, Any] | None, int], None],
        down: Callable[[], None],
        heard: Callable[[dict[str, Any]], None],
    ) -> None:
        """up(hello, geometry, fd) is told of a connection, down() of its end, and
        heard(message) of everything else that the agent says. All are called by one
        thread. geometry and fd are those of the agent's memory; a scheduler gets
        none."""
        self._up, self._down, self._heard = up, down, heard
        threading.Thread(target=self._run, name="kvasir-link", daemon=True).start()

    @property
    def connected(self) -> bool:
        return self._sock is not None

    def send(self, op: str, **fields: Any) -> bool:
        """Queues a message; false if there is nobody to send it to."""
        message = json.dumps({"op": op, **fields}, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._sock is None:
                return False
            if self._out.qsize() >= _MAX_WAITING:
                self._hang_up(self._sock)
                return False
            self._out.put(message)
            return True

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            if self._sock is not None:
                self._hang_up(self._sock)

    @staticmethod
    def _hang_up(sock: socket.socket) -> None:
        """Wakes up whoever reads or writes; the reader cleans up."""
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closed.is_set():
            try:
                self._serve()
                pause = _FIRST_PAUSE
            except (OSError, ValueError, KeyError, Refused) as e:
                self._complain(str(e))
            self._closed.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _complain(self, what: str) -> None:
        """Says once what is wrong, not at each attempt."""
        if what != self._complaint and not self._closed.is_set():
            log.warning("no Kvasir agent at %s; the engine works without its tiers: %s", self._path, what)
        self._complaint = what

    def _serve(self) -> None:
        """One connection's life; returns when one that stood has ended."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_HANDSHAKE_SECONDS)
            sock.connect(self._path)
            sock.sendall(json.dumps(self._hello).encode() + b"\n")
            reader = LineReader()
            hello, geometry, fd, rest = self._handshake(sock, reader)
            sock.settimeout(None)
            out: queue.Queue[bytes | None] = queue.Queue()
            writer = threading.Thread(target=self._write, args=(sock, out), name="kvasir-send", daemon=True)
            writer.start()
            with self._lock:
                self._sock, self._out = sock, out
            log.info("connected to the Kvasir agent at %s", self._path)
            self._complaint = ""
            try:
                self._up(hello, geometry, fd)
                while True:
                    for message in rest:
                        if "error" in message:
                            raise Refused(message["error"])
                        self._heard(message)
                    data = sock.recv(1 << 16)
                    if not data:
                        raise Refused("the agent hung up")
                    rest = reader.feed(data)
            except (OSError, ValueError, KeyError, Refused) as e:
                self._complain(str(e))
            finally:
                with self._lock:
                    self._sock = None
                self._down()
                out.put(None)
                self._hang_up(sock)
                writer.join()

    @staticmethod
    def _handshake(
        sock: socket.socket, reader: LineReader
    ) -> tuple[dict[str, Any], dict[str, Any] | None, int, list[dict[str, Any]]]:
        """Waits for the agent's hello. A descriptor comes beside the geometry,
        and would be lost to an ordinary recv."""
        geometry: dict[str, Any] | None = None
        fd = -1
        while True:
            data, fds, _, _ = socket.recv_fds(sock, 1 << 16, 1)
            if fds:
                fd = fds[0]
            if not data:
                raise Refused("the agent hung up")
            messages = reader.feed(data)
            for i, message in enumerate(messages):
                if "error" in message:
                    raise Refused(message["error"])
                if "hello" in message:
                    return message["hello"], geometry, fd, messages[i + 1 :]
                geometry = message

    def _write(self, sock: socket.socket, out: "queue.Queue[bytes | None]") -> None:
        try:
            while (message := out.get()) is not None:
                sock.sendall(message)
        except OSError:
            self._hang_up(sock)
