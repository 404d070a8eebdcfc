"""The cluster under test: three PostgreSQL hosts under Patroni, etcd, balancers, poolers and servers.

Each database host is a network namespace with a cable to a bridge, so that it can lose its network like a real
host. Everything else runs beside the bridge, at `HUB`.
"""
import collections
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import postgres

HUB = "10.77.0.1"
PASSWORD = "failover"
AS_POSTGRES = "setpriv --reuid=postgres --regid=postgres --init-groups".split()
VARIANTS = ("hosts", "haproxy", "haproxy-loose", "pgbouncer")

# Roles of standbys of which each, or at least one, has every acknowledged commit.
SYNCHRONOUS = ("sync_standby", "quorum_standby")

# Time without a commit, seen by the suite, from which the database counts as interrupted.
INTERRUPTION = 0.7

# Connections that PostgreSQL accepts for each variant: its default of max_connections.
CONNECTION_LIMIT = 100

# The lowest ttl that Patroni accepts; newer versions raise a lower one. Twice retry_timeout and loop_wait must fit.
TTL, LOOP_WAIT, RETRY_TIMEOUT = 20, 2, 5

PATRONI = """\
scope: referral
name: {name}
restapi: {{listen: "{address}:8008", connect_address: "{address}:8008"}}
{etcd}: {{host: "{hub}:2379"}}
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: {loop_wait}
    retry_timeout: {retry_timeout}
    # An acknowledged commit is on two hosts, and only a host that has all of them becomes primary.
    synchronous_mode: {synchronous_mode}
    postgresql:
      use_pg_rewind: true
      parameters:
        synchronous_commit: "on"
        max_connections: 500
        wal_log_hints: "on"
        wal_retrieve_retry_interval: 500ms
        wal_keep_size: 256MB
        log_line_prefix: "%m [%p] %d "
  initdb: [{{encoding: UTF8}}, {{locale: C}}, no-sync]
postgresql:
  listen: "{address}:5432"
  connect_address: "{address}:5432"
  bin_dir: {binaries}
  data_dir: {directory}/data
  pgpass: {directory}/pgpass
  use_unix_socket: true
  remove_data_directory_on_rewind_failure: true
  remove_data_directory_on_diverged_timelines: true
  parameters: {{unix_socket_directories: {directory}}}
  pg_hba:
    - local all all trust
    - host all postgres 10.77.0.0/24 trust
    - host replication postgres 10.77.0.0/24 trust
    # Not SCRAM: it takes a debug build of the server 0.2 s of computing for each connection.
    - host all all 10.77.0.0/24 password
  authentication:
    superuser: {{username: postgres}}
    replication: {{username: postgres}}
"""

HAPROXY = """\
defaults
    mode tcp
    timeout connect 2s
    timeout check 2s
    timeout client 30m
    timeout server 30m
listen primary
    bind {hub}:{port}
    option httpchk GET /primary
    http-check expect status 200
    default-server check port 8008 inter 1s fall 2 rise 2 {marked_down}
"""

PGBOUNCER = """\
[databases]
* = host={hub} port={balancer} user=referral password={password}
[pgbouncer]
listen_addr = {hub}
listen_port = {port}
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = 20
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
idle_transaction_timeout = 10
; By default 15 s: after a failed login it rejects clients for that long.
server_login_retry = 1
server_connect_timeout = 3
; A pooled connection to a host that lost power ends after this time, and not after 15 minutes.
tcp_user_timeout = 5000
query_timeout = 10
"""


class Process:
    """A program in the background, with its output in a log file."""

    def __init__(self, name, command, log, **options):
        self.name, self.command, self.log, self.options = name, command, log, options
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self.options
            )

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()


class Node:
    """A database host: a network namespace in which Patroni runs PostgreSQL."""

    def __init__(self, number, tools, synchronous_mode, directory, logs):
        self.name, self.address = f"node{number}", f"10.77.0.{10 + number}"
        self.cable = f"cable{number}"
        self.directory = directory / self.name
        self.directory.mkdir()
        shutil.chown(self.directory, "postgres", "postgres")
        for command in (
            f"ip netns add {self.name}",
            f"ip link add {self.cable} type veth peer name eth0 netns {self.name}",
            f"ip link set {self.cable} master hub up",
            f"ip -n {self.name} address add {self.address}/24 dev eth0",
            f"ip -n {self.name} link set eth0 up",
            f"ip -n {self.name} link set lo up",
        ):
            run(command)
        configuration = logs / f"{self.name}.yml"
        configuration.write_text(
            PATRONI.format(
                name=self.name,
                address=self.address,
                hub=HUB,
                etcd=tools.etcd_api,
                ttl=TTL,
                loop_wait=LOOP_WAIT,
                retry_timeout=RETRY_TIMEOUT,
                synchronous_mode=synchronous_mode,
                binaries=tools.postgres,
                directory=self.directory,
            )
        )
        command = ["ip", "netns", "exec", self.name, *AS_POSTGRES, tools.patroni, str(configuration)]
        path = f"{tools.postgres}:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {"PATH": path, "HOME": str(self.directory), "LC_ALL": "C"}
        self.patroni = Process(self.name, command, logs / f"{self.name}.log", env=environment, cwd=self.directory)

    def start(self):
        self.patroni.start()

    def processes(self):
        """Returns the ids of all processes of this host."""
        namespace = os.stat(f"/run/netns/{self.name}").st_ino
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.stat(entry / "ns/net").st_ino == namespace:
                        found.append(int(entry.name))
                except OSError:
                    pass
        return found

    def signal(self, number):
        """Sends a signal to all processes of this host, also to those that start meanwhile."""
        known = set()
        while new := set(self.processes()) - known:
            for process in new:
                try:
                    os.kill(process, number)
                except ProcessLookupError:
                    pass
            known |= new

    def kill(self):
        self.signal(signal.SIGKILL)
        self.patroni.process.wait()

    def connect_cable(self, connected):
        run(f"ip link set {self.cable} {'up' if connected else 'down'}")

    def postmaster(self):
        return int((self.directory / "data/postmaster.pid").read_text().split()[0])

    def api(self, method, path, body=None, timeout=2):
        """Sends a request to Patroni and returns the status and the body."""
        return http_request(self.address, 8008, method, path, body, timeout)


class Servers:
    """Two referral servers of one variant, with the balancer and the pooler in front of the database."""

    def __init__(self, variant, tools, nodes, directory, logs):
        self.nodes = nodes
        index = VARIANTS.index(variant)
        self.variant, self.tools = variant, tools
        self.database = "referral_" + variant.replace("-", "_")
        self.ports = [8100 + 2 * index, 8101 + 2 * index]
        self.balancer_port, self.pooler_port = 6000 + index, 6100 + index
        self.balancer = self.pooler = None
        if variant == "hosts":
            hosts = ",".join(f"{node.address}:5432" for node in nodes)
            self.url = self.url_of(hosts) + "?target_session_attrs=read-write"
        else:
            self.url = self.url_of(f"{HUB}:{self.balancer_port}")
            self.balancer = self.haproxy(nodes, logs)
        options = ["--database-url", self.url]
        if variant == "pgbouncer":
            self.pooler = self.pgbouncer(logs)
            pooled = self.url_of(f"{HUB}:{self.pooler_port}")
            options = ["--database-pooler", "--database-url", pooled, "--database-migration-url", self.url]
        self.processes = []
        self.read_until = {}
        for port in self.ports:
            # Both use the keys in the same directory, which the first one creates.
            command = [tools.server, "--listen", f"127.0.0.1:{port}", "--data-dir", str(directory / variant), *options]
            command += ["--policy", "development", "--return-codes-to-anyone", "--codes-per-phone", "off"]
            self.processes.append(Process(f"{variant}:{port}", command, logs / f"server-{variant}-{port}.log"))

    def new_log_lines(self):
        """Counts the warnings and errors that the servers logged since the last call."""
        counts = collections.Counter()
        for process in self.processes:
            with open(process.log) as log:
                log.seek(self.read_until.get(process.log, 0))
                for line in log:
                    if " WARN " in line or " ERROR " in line:
                        # Without the time, ids and statements.
                        text = line.strip().split(maxsplit=1)[1].split(" db.statement=")[0]
                        counts[re.sub(r'(request_id|session)="?[-0-9a-f]+"? ', "", text)[:240]] += 1
                self.read_until[process.log] = log.tell()
        return [f"log: {count} x {text}" for text, count in counts.most_common(10)]

    def url_of(self, hosts):
        return f"postgres://referral:{PASSWORD}@{hosts}/{self.database}"

    def haproxy(self, nodes, logs):
        marked_down = "" if self.variant == "haproxy-loose" else "on-marked-down shutdown-sessions"
        text = HAPROXY.format(hub=HUB, port=self.balancer_port, marked_down=marked_down)
        text += "".join(f"    server {node.name} {node.address}:5432\n" for node in nodes)
        file = logs / f"haproxy-{self.variant}.cfg"
        file.write_text(text)
        name = f"haproxy-{self.variant}"
        return Process(name, [self.tools.haproxy, "-db", "-f", str(file)], logs / f"{name}.log")

    def pgbouncer(self, logs):
        users, file = logs / "pgbouncer-users.txt", logs / "pgbouncer.ini"
        users.write_text(f'"referral" "{PASSWORD}"\n')
        ports = {"port": self.pooler_port, "balancer": self.balancer_port}
        file.write_text(PGBOUNCER.format(hub=HUB, password=PASSWORD, users=users, **ports))
        return Process("pgbouncer", [*AS_POSTGRES, self.tools.pgbouncer, str(file)], logs / "pgbouncer.log")

    def start(self):
        for process in (self.balancer, self.pooler):
            if process:
                process.start()
        if self.balancer:
            wait_for(f"HAProxy of {self.variant}", 15, self.leads_to_primary)
        for process, port in zip(self.processes, self.ports):
            process.start()
            wait_for(f"server {process.name}", 20, lambda: self.is_ready(process, port))

    def leads_to_primary(self):
        """Returns `True` if HAProxy has marked both standbys as down. At first it uses all hosts, round robin."""
        statement = "SELECT pg_is_in_recovery()"
        return all(postgres.query(HUB, statement, port=self.balancer_port) == [["f"]] for _ in self.nodes)

    def is_ready(self, process, port):
        if not process.is_running():
            tail = pathlib.Path(process.log).read_text().strip().splitlines()[-3:]
            raise SystemExit(f"failover: server {process.name} exited: " + " | ".join(tail))
        return http_request("127.0.0.1", port, "GET", "/health/ready")[0] == 200


class Cluster:
    """All processes, and the changes that faults and repairs make to them."""

    def __init__(self, tools, variants, synchronous_mode, directory, logs):
        self.directory, self.logs = directory, logs
        run("ip link add hub type bridge")
        run(f"ip address add {HUB}/24 dev hub")
        run("ip link set hub up")
        self.etcd = Process(
            "etcd",
            [tools.etcd, "--data-dir", str(directory / "etcd"), "--listen-client-urls", f"http://{HUB}:2379"]
            + ["--advertise-client-urls", f"http://{HUB}:2379", "--listen-peer-urls", f"http://{HUB}:2380"]
            + (["--enable-v2"] if tools.etcd_api == "etcd" else []),
            logs / "etcd.log",
        )
        self.nodes = [Node(number, tools, synchronous_mode, directory, logs) for number in (1, 2, 3)]
        self.services = [Servers(variant, tools, self.nodes, directory, logs) for variant in variants]
        self.writes = Writes(self.nodes)
        self.connections = Connections(self.nodes)

    def start(self):
        self.etcd.start()
        wait_for("etcd", 10, lambda: http_request(HUB, 2379, "GET", "/health")[0] == 200)
        for node in self.nodes:
            node.start()
        wait_for("Patroni with a primary and two standbys", 60, self.is_whole)
        primary = self.primary().address
        postgres.query(primary, f"CREATE ROLE referral LOGIN PASSWORD '{PASSWORD}'")
        postgres.query(primary, "CREATE TABLE writes (at timestamptz)")
        for service in self.services:
            options = f"OWNER referral TEMPLATE template0 CONNECTION LIMIT {CONNECTION_LIMIT}"
            postgres.query(primary, f"CREATE DATABASE {service.database} {options}", timeout=10)
            service.start()
        self.writes.start()
        self.connections.start()

    def members(self):
        """Returns the members of the cluster by name, as the first reachable Patroni knows them."""
        for node in self.nodes:
            try:
                status, body = node.api("GET", "/cluster")
            except OSError:
                continue
            if status == 200:
                return {member["name"]: member for member in json.loads(body)["members"]}
        return {}

    def node_with_role(self, *roles):
        names = [name for name, member in self.members().items() if member["role"] in roles]
        return next((node for node in self.nodes if node.name in names), None)

    def primary(self):
        return self.node_with_role("leader")

    def synchronous_standby(self):
        return self.node_with_role(*SYNCHRONOUS)

    def is_whole(self):
        """Returns `True` if all hosts run, standbys are streaming and one of them is synchronous."""
        members = self.members().values()
        states = [member["state"] in ("running", "streaming") for member in members]
        if len(states) != len(self.nodes) or not all(states) or not self.primary() or not self.synchronous_standby():
            return False
        statement = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        return postgres.query(self.primary().address, statement) == [["2"]]

    def repair(self):
        """Ends every fault and waits until the cluster is whole."""
        if not self.etcd.is_running():
            self.etcd.start()
        for node in self.nodes:
            node.connect_cable(True)
            node.signal(signal.SIGCONT)
            if not node.patroni.is_running():
                node.start()
        for service in self.services:
            for process in (service.balancer, service.pooler):
                if process and not process.is_running():
                    process.start()
        wait_for("a whole cluster after the fault", 90, self.is_whole)


class Writes:
    """Commits a row on each node every 100 ms, each on a new connection, and records those that succeed."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.times = []

    def start(self):
        for node in self.nodes:
            threading.Thread(target=self.probe, args=[node.address], daemon=True).start()

    def probe(self, address):
        while True:
            start = time.time()
            try:
                # The timeout is long, since PostgreSQL keeps the connection of a commit that was given up.
                postgres.query(address, "INSERT INTO writes VALUES (now())", timeout=5)
                self.times.append(time.time())
            except (OSError, postgres.PostgresError):
                pass
            time.sleep(max(0, start + 0.1 - time.time()))

    def outage(self, since):
        """Returns start and end of the longest time without a commit, and `None` as the end if it continues."""
        times = [time for time in sorted(self.times) if time >= since - 2]
        gaps = [(end - start, start, end) for start, end in zip(times, times[1:]) if end > since]
        if times:
            gaps.append((time.time() - times[-1], times[-1], None))
        return max(gaps)[1:] if gaps else (since, None)

    def wait(self, since, limit):
        """Waits until commits succeed again after an interruption, for `limit` seconds at most."""
        end_of_wait = time.time() + limit
        while time.time() < end_of_wait:
            start, end = self.outage(since)
            if end and end - start >= INTERRUPTION:
                return
            time.sleep(0.05)


class Connections(threading.Thread):
    """Counts the connections to each database every 500 ms."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.nodes = nodes
        # Highest counts by database.
        self.peaks = collections.Counter()

    def run(self):
        while True:
            counts = collections.Counter()
            for node in self.nodes:
                try:
                    statement = "SELECT datname, count(*) FROM pg_stat_activity WHERE datname IS NOT NULL GROUP BY 1"
                    counts.update({name: int(count) for name, count in postgres.query(node.address, statement)})
                except (OSError, postgres.PostgresError):
                    pass
            self.peaks |= counts
            time.sleep(0.5)


class ClosingBalancer(threading.Thread):
    """A balancer that accepts each connection and closes it immediately."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.socket = socket.create_server((HUB, port))
        self.socket.settimeout(0.1)
        self.running = True
        self.start()

    def run(self):
        while self.running:
            try:
                self.socket.accept()[0].close()
            except TimeoutError:
                pass
        self.socket.close()

    def stop(self):
        self.running = False
        self.join()


def run(command):
    subprocess.run(command.split(), check=True)


def http_request(host, port, method, path, body=None, timeout=2):
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


def wait_for(name, seconds, condition):
    """Waits until the condition returns a true value. An unreachable host counts as false."""
    end = time.time() + seconds
    while True:
        try:
            if condition():
                return
        except (OSError, postgres.PostgresError):
            pass
        if time.time() > end:
            raise SystemExit(f"failover: timed out after {seconds} s while waiting for {name}")
        time.sleep(0.1)
