"""A client of PostgreSQL that sends simple queries, with a time limit for each step.

It exists because the suite uses only the standard library, and because starting `psql` thirty times a
second slows down the measured programs. It supports only `trust` authentication.
"""
import socket
import struct

PROTOCOL = 3 << 16


class PostgresError(Exception):
    """Error response of PostgreSQL. Its argument is the text, with the SQLSTATE code in front."""


class Connection:
    """A connection as the superuser. Each wait for the server takes `timeout` seconds at most."""

    def __init__(self, host, database="postgres", port=5432, timeout=1.0):
        self.socket = socket.create_connection((host, port), timeout)
        self.input = self.socket.makefile("rb")
        start = struct.pack("!i", PROTOCOL)
        # Failed commits on standbys would fill the log.
        for text in ("user", "postgres", "database", database, "options", "-c log_min_messages=fatal"):
            start += text.encode() + b"\0"
        self.socket.sendall(struct.pack("!i", len(start) + 5) + start + b"\0")
        self.read_rows()

    def query(self, statement):
        """Runs a statement and returns its rows, each a list of texts."""
        text = statement.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!i", len(text) + 4) + text)
        return self.read_rows()

    def read_rows(self):
        rows, error = [], None
        while True:
            head = self.input.read(5)
            if len(head) < 5:
                raise error or ConnectionError("PostgreSQL closed the connection")
            kind, length = struct.unpack("!ci", head)
            body = self.input.read(length - 4)
            if kind == b"D":
                rows.append(parse_row(body))
            elif kind == b"E":
                error = parse_error(body)
            elif kind == b"Z":
                if error:
                    raise error
                return rows

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.input.close()
        self.socket.close()


def parse_row(body):
    row, position = [], 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        (length,) = struct.unpack_from("!i", body, position)
        position += 4
        row.append(None if length < 0 else body[position : position + length].decode())
        position += max(length, 0)
    return row


def parse_error(body):
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    return PostgresError(f"{fields.get(b'C')}: {fields.get(b'M')}")


def query(host, statement, database="postgres", port=5432, timeout=1.0):
    """Runs one statement on a new connection."""
    with Connection(host, database, port, timeout) as connection:
        return connection.query(statement)
