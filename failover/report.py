"""Metrics of a fault, the goals, and the table."""
import collections
import concurrent.futures
import dataclasses
import time

import postgres
from load import is_unknown

# Seconds from the first commit on the new primary to the first sign-in, with a list of hosts.
FIRST_SIGN_IN_GOAL = 2.0
SIGN_INS = ("sign_in", "sign_in_repeated", "redeem")


@dataclasses.dataclass
class Result:
    """Metrics of one variant during one fault. Times are in seconds."""

    variant: str
    fault: str
    # Acknowledged sign-ins and refreshes, and how many of them are missing afterwards.
    acknowledged: int = 0
    lost: int = 0
    redeemed_twice: int = 0
    wrong_4xx: int = 0
    status_500: int = 0
    status_503: int = 0
    # Requests without a response within the time limit of the client, or with a broken connection.
    no_response: int = 0
    # Interruption of commits, seen by the suite on the database hosts.
    database_outage: float = 0.0
    # From the end of that interruption to the first successful sign-in.
    first_sign_in: float | None = None
    # Longest time without a successful sign-in.
    outage: float = 0.0
    longest_response: float = 0.0
    longest_operation: str = ""
    # Share of successful reads during the interruption. `None` if no read was sent.
    reads: float | None = None
    # Highest number of connections to the database. The servers open 20 at most.
    connections: int = 0
    missed: list = dataclasses.field(default_factory=list)
    evidence: list = dataclasses.field(default_factory=list)


def measure(fault, service, clients, cluster, start, interruption, ready):
    """Returns the metrics from the responses since `start`. The service is expected to work from `ready` on."""
    result = Result(service.variant, fault.name)
    responses = [response for response in clients.responses if response.time + response.duration >= start]
    result.wrong_4xx = sum(response.wrong for response in responses)
    result.status_500 = sum(response.status == 500 for response in responses)
    result.status_503 = sum(response.status == 503 for response in responses)
    result.no_response = sum(response.status == 0 for response in responses)
    longest = max(responses, key=lambda response: response.duration)
    result.longest_response, result.longest_operation = longest.duration, longest.operation
    signed_in = [r.time + r.duration for r in clients.responses if r.operation in SIGN_INS and r.status == 200]
    signed_in = sorted(time for time in signed_in if time >= start - 2)
    result.outage = max((after - before for before, after in zip(signed_in, signed_in[1:])), default=0.0)
    result.first_sign_in = next((time - ready for time in signed_in if time >= ready), None)
    if interruption:
        result.database_outage = interruption[1] - interruption[0]
        reads = [r for r in responses if r.operation == "read" and interruption[0] <= r.time < interruption[1]]
        reads = [r.status == 200 for r in reads]
        result.reads = sum(reads) / len(reads) if reads else None
    result.connections = cluster.connections.peaks[service.database]
    result.acknowledged = sum(r.status == 200 for r in responses if r.operation in (*SIGN_INS, "refresh"))
    lost, twice = find_lost(service, clients, cluster, start)
    result.lost, result.redeemed_twice = len(lost), len(twice)
    result.evidence = lost + twice + describe(responses, start) + service.new_log_lines()
    judge(result, service)
    return result


def find_lost(service, clients, cluster, start):
    """Compares acknowledged data with the database and the API. Returns lost data, and codes redeemed twice."""
    database = postgres.Connection(cluster.primary().address, service.database, timeout=10)
    with database:
        users = {tuple(row) for row in database.query("SELECT id, phone FROM referral.users")}
        sessions = {row[0] for row in database.query("SELECT id FROM referral.sessions WHERE revoked_at IS NULL")}
        statement = "SELECT phone, count(*) FROM referral.sessions JOIN referral.users u ON u.id = user_id GROUP BY 1"
        counts = dict(database.query(statement))
    lost, intact = [], []
    for session in clients.sign_ins:
        when = f"acknowledged at {session.time - start:+.2f} s"
        if (session.user, session.phone) not in users:
            lost.append(f"lost user {session.user}, {when}")
        elif session.session not in sessions:
            lost.append(f"lost session {session.session}, {when}")
        else:
            intact.append(session)
    # Lost data counts for one fault only.
    clients.sign_ins = intact
    twice = []
    for phone, redeemed in clients.redemptions.items():
        count = int(counts.get(phone, 0))
        if redeemed > 1 or count > 1:
            twice.append(f"code of {phone} redeemed twice: {redeemed} responses, {count} sessions")

    def check(session):
        """Uses the tokens of a session. Returns a description if one does not work."""
        requests = {
            "verify_access": ("GET", "/users/current_user/", None, session.access),
            "verify_refresh": ("POST", "/auth/jwt/refresh/", {"refresh": session.refresh}),
        }
        for operation, arguments in requests.items():
            status = patiently(lambda: clients.request(operation, *arguments)[0])
            if status != 200:
                when = f"acknowledged at {session.time - start:+.2f} s"
                return f"{operation} {status} of session {session.session}, {when}"
        return None

    fresh = [s for s in intact if s.time >= start and s.session not in clients.in_chains]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        lost += filter(None, pool.map(check, fresh))
    for chain in clients.chains:
        session = chain.session
        if session:
            status = patiently(lambda: chain.refresh("verify_refresh"))
            if status != 200:
                lost.append(f"refresh {status} of session {session.session}, last at {session.time - start:+.2f} s")
    return lost, twice


def patiently(request):
    """Repeats a request until its outcome is known, and returns the status."""
    for _ in range(10):
        status = request()
        if not is_unknown(status):
            break
        time.sleep(0.5)
    return status


def describe(responses, start):
    """Counts the errors by operation and names the first and the last of each kind."""
    groups = collections.defaultdict(list)
    for response in responses:
        if response.status != 200:
            groups[response.wrong, response.operation, response.status, response.code].append(response.time - start)
    lines = []
    for (wrong, operation, status, code), times in sorted(groups.items(), reverse=True):
        mark = "wrong " if wrong else ""
        span = f"{min(times):+.1f} s to {max(times):+.1f} s"
        lines.append(f"{mark}{operation}: {len(times)} x {status or 'no response'} {code} ({span})")
    return lines


def judge(result, service):
    """Lists the goals that the result misses."""
    for name in ("lost", "redeemed_twice", "wrong_4xx", "status_500"):
        if getattr(result, name):
            result.missed.append(name)
    if result.first_sign_in is None:
        result.missed.append("no sign-in")
    elif result.variant == "hosts" and result.first_sign_in > FIRST_SIGN_IN_GOAL:
        result.missed.append("first_sign_in")
    for process in service.processes:
        if not process.is_running():
            result.missed.append(f"{process.name} exited")


COLUMNS = (
    "Variant",
    "Fault",
    "Lost",
    "Twice",
    "Wrong 4xx",
    "500",
    "503",
    "No response",
    "Database outage",
    "First sign-in after",
    "Outage",
    "Longest response",
    "Reads meanwhile",
    "Connections",
    "Missed",
)
HEADER = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def row(result):
    first = "never" if result.first_sign_in is None else f"{result.first_sign_in:.1f} s"
    reads = "" if result.reads is None else f"{result.reads:.0%}"
    cells = [
        result.variant,
        result.fault,
        f"{result.lost} of {result.acknowledged}",
        result.redeemed_twice,
        result.wrong_4xx,
        result.status_500,
        result.status_503,
        result.no_response,
        f"{result.database_outage:.1f} s",
        first,
        f"{result.outage:.1f} s",
        f"{result.longest_response:.1f} s ({result.longest_operation})",
        reads,
        result.connections,
        ", ".join(result.missed),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"
