import json
import os
import queue
import socket
import tempfile
import unittest
from typing import Any

from kvasir_vllm.link import Link, LineReader


class Lines(unittest.TestCase):
    def test_messages_come_in_any_pieces(self) -> None:
        text = b'{"a":1}\n\n{"b":"x"}\n'
        for size in range(1, len(text) + 1):
            reader = LineReader()
            got = [m for at in range(0, len(text), size) for m in reader.feed(text[at : at + size])]
            self.assertEqual(got, [{"a": 1}, {"b": "x"}], f"in pieces of {size}")


class Connection(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "agent")
        self.events: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def listen(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.settimeout(20)
        server.bind(self.path)
        server.listen()
        self.addCleanup(server.close)
        return server

    def link(self) -> Link:
        link = Link(self.path, {"role": "worker"})
        link.start(
            lambda hello, geometry, fd: self.events.put(("up", hello, geometry, os.read(fd, 4) if fd >= 0 else b"")),
            lambda: self.events.put(("down",)),
            lambda message: self.events.put(("heard", message)),
        )
        self.addCleanup(link.close)
        return link

    def event(self) -> tuple[Any, ...]:
        return self.events.get(timeout=20)

    def accept(self, server: socket.socket) -> tuple[socket.socket, dict[str, Any]]:
        conn, _ = server.accept()
        self.addCleanup(conn.close)
        conn.settimeout(20)
        return conn, json.loads(conn.makefile().readline())

    def test_an_agent_that_comes_goes_and_comes_back(self) -> None:
        link = self.link()  # nobody is there yet
        self.assertFalse(link.send("reserve", count=1))
        server = self.listen()
        for _ in range(2):
            conn, hello = self.accept(server)
            self.assertEqual((hello["op"], hello["version"], hello["role"]), ("hello", 1, "worker"))
            memory, other = os.pipe()
            os.write(other, b"kvkv")
            socket.send_fds(conn, [b'{"slots":3}'], [memory])
            conn.sendall(b'\n{"hello":{"pool":"p"}}\n{"granted":{"slots":[1]}}\n')
            self.assertEqual(self.event(), ("up", {"pool": "p"}, {"slots": 3}, b"kvkv"))
            self.assertEqual(self.event(), ("heard", {"granted": {"slots": [1]}}))
            self.assertTrue(link.send("reserve", count=2))
            self.assertEqual(json.loads(conn.makefile().readline()), {"op": "reserve", "count": 2})
            conn.close()
            self.assertEqual(self.event(), ("down",))
            self.assertFalse(link.connected)
            os.close(memory)
            os.close(other)

    def test_a_refusal_is_no_connection(self) -> None:
        server = self.listen()
        self.link()
        with self.assertLogs("vllm.kvasir", "WARNING") as logs:
            for _ in range(2):
                conn, _ = self.accept(server)
                conn.sendall(b'{"error":"not you"}\n')
                conn.close()
            conn, _ = self.accept(server)
            conn.sendall(b'{"hello":{"pool":"p"}}\n')
            self.assertEqual(self.event(), ("up", {"pool": "p"}, None, b""))
        self.assertEqual(len([line for line in logs.output if "not you" in line]), 1)
