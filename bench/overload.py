#!/usr/bin/env python3
"""Measures the resident memory of the server under attacks, and checks whether an honest client is served meanwhile.

    ulimit -n 20000
    bench/overload.py target/release/referral-server [VARIANT...]

Attackers and the honest client come from the same address. CONNECTIONS sets the number of connections (10240),
SECONDS the length of an attack (10).
"""
import collections
import http.client
import json
import os
import re
import resource
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time

CONNECTIONS = int(os.environ.get("CONNECTIONS", "10240"))
SECONDS = float(os.environ.get("SECONDS", "10"))
PATH = b"/api/v1/auth/send_code/"


def http1(method, path, headers=b""):
    return method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + headers


def post(length, sent):
    headers = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length
    return http1(b"POST", PATH, headers) + b" " * sent


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def text(value):
    """Encodes a string of up to 126 bytes in HPACK."""
    return bytes([len(value)]) + value


def fields(method, path, more=b""):
    return b"\x02" + text(method) + b"\x86\x01" + text(b"localhost") + b"\x04" + text(path) + more


def requests(streams, headers, flags):
    return b"".join(frame(1, flags, 2 * index + 1, headers) for index in streams)


def data(count, size):
    return b"".join(frame(0, 0, 2 * index + 1, b" " * size) for index in range(count))


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP2 = PREFACE + frame(4, 0, 0)
NO_WINDOW = PREFACE + frame(4, 0, 0, b"\0\4\0\0\0\0")
POST = fields(b"POST", PATH)
WIDE = fields(b"POST", PATH, (b"\0" + text(b"x") + text(b"y")) * 180)
INDEXED = fields(b"POST", PATH, b"".join(b"\x40" + text(b"%d" % number) + text(b"") for number in range(110)))
DOCS = fields(b"GET", b"/docs/")
HEAD = fields(b"HEAD", b"/health/live")
RESETS = b"".join(frame(1, 4, 2 * i + 1, POST) + frame(3, 0, 2 * i + 1, b"\0\0\0\x08") for i in range(15))

# Bytes that are sent on each connection, and whether the attacker reads the responses.
VARIANTS = {
    "idle": (b"", True),
    "http1-keep-alive": (http1(b"GET", b"/health/live", b"\r\n"), True),
    "http1-first-byte": (b"G", True),
    "http1-half-headers": (http1(b"GET", b"/", b"X: " + b"x" * 7900), True),
    "http1-half-body": (post(16384, 16383), True),
    "http1-half-large-body": (post(100_000, 60_000), True),
    "http1-pipelining": (http1(b"GET", b"/health/live", b"\r\n") * 400, False),
    "http1-slow-reader": (http1(b"GET", b"/docs/", b"\r\n") * 50, False),
    "http2-idle": (HTTP2, True),
    "http2-100-posts": (HTTP2 + requests(range(100), POST, 4), True),
    "http2-posts": (HTTP2 + requests(range(32), POST, 4), True),
    "http2-wide-posts": (HTTP2 + requests(range(32), WIDE, 4), True),
    "http2-half-bodies": (HTTP2 + requests(range(32), POST, 4) + data(15, 16000), True),
    "http2-half-frame": (HTTP2 + requests(range(1), POST, 4) + data(1, 16384)[:16380], True),
    "http2-half-headers": (HTTP2 + frame(1, 0, 1, b"\x82" * 16000)[:16000], True),
    "http2-header-table": (HTTP2 + requests(range(1), INDEXED, 4), True),
    "http2-no-window": (NO_WINDOW + requests(range(32), fields(b"GET", b"/health/live"), 5), False),
    "http2-slow-reader": (HTTP2 + requests(range(32), DOCS, 5), False),
    "http2-slow-head-requests": (HTTP2 + requests(range(2), DOCS, 5) + requests(range(2, 32), HEAD, 5), False),
    "http2-pings": (HTTP2 + frame(6, 0, 0, b"12345678") * 1000, True),
    "http2-resets": (HTTP2 + RESETS, True),
}


class Server:
    def __init__(self, program):
        self.directory = tempfile.TemporaryDirectory()
        arguments = ["--listen", "127.0.0.1:0", "--data-dir", self.directory.name, "--log", "warn"]
        self.process = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(re.search(r":(\d+)\s*$", self.process.stdout.readline()).group(1))

    def memory(self, field):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(field + r":\s+(\d+)", status.read()).group(1)) // 1024

    def stop(self):
        self.process.kill()
        self.process.wait()


class Honest(threading.Thread):
    """Sends requests, alternately on a new connection and on a kept one, and counts the outcomes."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.running, self.outcomes, self.times = port, True, collections.Counter(), []

    def run(self):
        kept = self.connect()
        for turn in range(sys.maxsize):
            if not self.running:
                break
            start = time.monotonic()
            connection = kept if turn % 2 else self.connect()
            try:
                if turn % 4 < 2:
                    connection.request("GET", "/health/ready")
                else:
                    body = json.dumps({"phone": "+7960%07d" % turn})
                    connection.request("POST", PATH.decode(), body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
                self.outcomes[response.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.outcomes[type(error).__name__] += 1
                kept = self.connect()
            self.times.append(time.monotonic() - start)
            time.sleep(0.01)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)


def attack(port, payload, reads):
    """Opens connections, sends the payload on each, and replaces those that are closed."""
    poll, clients, sent, opened = select.epoll(), {}, 0, 0
    waits_for = select.EPOLLRDHUP | (select.EPOLLIN if reads else 0)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for _ in range(min(200, CONNECTIONS - len(clients))):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            clients[client.fileno()] = [client, payload]
            poll.register(client, select.EPOLLOUT | select.EPOLLRDHUP)
            opened += 1
        for number, events in poll.poll(0.05):
            client, rest = clients[number]
            try:
                if events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP):
                    raise ConnectionResetError
                if events & select.EPOLLIN and not client.recv(65536):
                    raise ConnectionResetError
                if events & select.EPOLLOUT:
                    written = client.send(rest) if rest else 0
                    sent += written
                    clients[number][1] = rest = rest[written:]
                    if not rest:
                        poll.modify(client, waits_for)
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(client)
                client.close()
                del clients[number]
    print(opened, len(clients), sent)


def measure(program, name):
    server = Server(program)
    time.sleep(0.5)
    before = server.memory("VmRSS")
    honest = Honest(server.port)
    honest.start()
    # The attacker is a separate process, because it needs as many open files as the server.
    command = [sys.executable, __file__, "--attack", str(server.port), name]
    opened, held, sent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    peak = server.memory("VmHWM")
    honest.running = False
    honest.join(25)
    outcomes = ", ".join(f"{outcome}: {count}" for outcome, count in honest.outcomes.items())
    print(f"| {name} | {opened} | {held} | {int(sent) / 1e6:.1f} MB | {before} MiB | {peak} MiB | {outcomes} | {max(honest.times):.1f} s |", flush=True)
    server.stop()


if __name__ == "__main__":
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if sys.argv[1] == "--attack":
        attack(int(sys.argv[2]), *VARIANTS[sys.argv[3]])
    else:
        print("| variant | opened | held | sent | RSS before | RSS peak | responses to an honest client | slowest |")
        print("|---|---|---|---|---|---|---|---|")
        for variant in sys.argv[2:] or VARIANTS:
            measure(sys.argv[1], variant)
