"""Clients of one variant: their requests, the responses, and the data that the service acknowledged.

Sign-ins, reads and concurrent redemptions start at a fixed rate, whether earlier ones have finished or not. So an
outage does not reduce the load. Chains of refreshes run one after another, as an app does.
"""
import base64
import collections
import http.client
import itertools
import json
import random
import socket
import threading
import time

# Longer than the server's own limit of 10 s, so that a client sees each response.
CLIENT_TIMEOUT = 15
PAUSE_AFTER_FAILURE = 0.3
CHAINS = 6
# Seconds between two starts of an operation, for all clients of a variant together.
INTERVALS = {"sign_in_new": 0.4, "sign_in_known": 0.4, "redeem_twice": 1.0, "read": 0.1}

Response = collections.namedtuple("Response", "time duration server operation status code wrong")
Acknowledged = collections.namedtuple("Acknowledged", "time user phone session access refresh")


class Clients:
    """All clients of one variant. They continue with their sessions from one fault to the next."""

    def __init__(self, ports):
        self.ports = ports
        self.servers = itertools.cycle(ports)
        # Phones of users that sign in again, each in one request at a time.
        self.known = collections.deque()
        self.phones = (f"+7960{number:07}" for number in itertools.count(1_000_000))
        self.responses = []
        self.sign_ins = []
        # Sessions whose tokens a chain refreshes.
        self.in_chains = set()
        # Phones with the number of successful responses to the one code that each was sent.
        self.redemptions = {}
        self.chains = [Chain(self) for _ in range(CHAINS)]
        self.running = False
        self.threads = []

    def start(self):
        self.running = True
        self.threads = []
        for chain in self.chains:
            self.spawn(chain.run)
        for operation, interval in INTERVALS.items():
            self.spawn(self.repeat, getattr(self, operation), interval)

    def stop(self):
        """Ends the load and waits for the responses."""
        self.running = False
        for thread in self.threads:
            thread.join()

    def spawn(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        self.threads.append(thread)

    def repeat(self, operation, interval):
        next_start = time.time() + interval * random.random()
        while self.running:
            self.spawn(operation)
            next_start += interval
            time.sleep(max(0, next_start - time.time()))

    def request(self, operation, method, path, body=None, access=None, port=None, allowed=()):
        """Sends a request and records the response. Returns the status, 0 for none, and the body.

        A response 4xx is recorded as wrong unless its status is in `allowed`.
        """
        port = port or next(self.servers)
        headers = {"Content-Type": "application/json"}
        if access:
            headers["Authorization"] = f"Bearer {access}"
        start, status, content = time.time(), 0, {}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CLIENT_TIMEOUT)
        try:
            connection.request(method, "/api/v1" + path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            content = json.loads(response.read())
            status = response.status
        except (OSError, http.client.HTTPException, ValueError) as error:
            content = {"code": "timeout" if isinstance(error, socket.timeout) else type(error).__name__}
        finally:
            connection.close()
        wrong = 400 <= status < 500 and status not in allowed
        code = "" if status == 200 else content.get("code", "")
        self.responses.append(Response(start, time.time() - start, port, operation, status, code, wrong))
        return status, content

    def sign_in(self, phone):
        """Signs in. After a response that leaves the outcome open, the same code is tried once more."""
        status, sent = self.request("send_code", "POST", "/auth/send_code/", {"phone": phone})
        if status != 200:
            return None
        body = {"phone": phone, "code": sent["code"], "challenge_id": sent["challenge_id"]}
        status, tokens = self.request("sign_in", "POST", "/auth/jwt/get_by_phone/", body)
        if is_unknown(status):
            time.sleep(PAUSE_AFTER_FAILURE)
            # If the first attempt was committed, the code is already redeemed.
            status, tokens = self.request("sign_in_repeated", "POST", "/auth/jwt/get_by_phone/", body, allowed=[403])
        if status != 200:
            return None
        session = acknowledged(phone, tokens)
        self.sign_ins.append(session)
        return session

    def sign_in_new(self):
        session = self.sign_in(next(self.phones))
        if session:
            self.known.append(session.phone)
            for port in self.ports:
                self.request("read_after_sign_in", "GET", "/users/current_user/", access=session.access, port=port)

    def sign_in_known(self):
        if self.known:
            phone = self.known.popleft()
            self.sign_in(phone)
            self.known.append(phone)

    def read(self):
        session = self.chains[0].session
        if session:
            self.request("read", "GET", "/users/current_user/", access=session.access)

    def redeem_twice(self):
        """Redeems one code on both servers at the same moment."""
        phone = next(self.phones)
        status, sent = self.request("send_code", "POST", "/auth/send_code/", {"phone": phone})
        if status != 200:
            return
        body = {"phone": phone, "code": sent["code"], "challenge_id": sent["challenge_id"]}
        self.redemptions[phone] = 0
        results = []

        def redeem(port):
            result = self.request("redeem", "POST", "/auth/jwt/get_by_phone/", body, port=port, allowed=[403])
            results.append(result)
            if result[0] == 200:
                self.sign_ins.append(acknowledged(phone, result[1]))

        threads = [threading.Thread(target=redeem, args=[port]) for port in self.ports]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = [status for status, _ in results]
        self.redemptions[phone] = statuses.count(200)
        if statuses == [403, 403]:
            self.responses.append(Response(time.time(), 0, 0, "redeem", 403, "both_refused", True))


class Chain:
    """A session of an app that refreshes its tokens again and again."""

    def __init__(self, clients):
        self.clients = clients
        self.session = None

    def run(self):
        while self.clients.running:
            if self.session is None:
                self.session = self.clients.sign_in(next(self.clients.phones))
                if self.session:
                    self.clients.in_chains.add(self.session.session)
            elif self.refresh() == 200 and random.random() < 0.5:
                self.clients.request("read_after_refresh", "GET", "/users/current_user/", access=self.session.access)
            time.sleep(PAUSE_AFTER_FAILURE)

    def refresh(self, operation="refresh"):
        """Refreshes with the newest acknowledged token. Any failure leaves that token for the next attempt."""
        session = self.session
        status, tokens = self.clients.request(operation, "POST", "/auth/jwt/refresh/", {"refresh": session.refresh})
        if status == 200:
            self.session = session._replace(time=time.time(), access=tokens["access"], refresh=tokens["refresh"])
        elif not is_unknown(status):
            self.session = None
        return status


def is_unknown(status):
    """Returns `True` if the request may have been carried out or not: no response, or an error of the server."""
    return status == 0 or status >= 500


def acknowledged(phone, tokens):
    session = claims(tokens["access"])["sid"]
    return Acknowledged(time.time(), tokens["user_id"], phone, session, tokens["access"], tokens["refresh"])


def claims(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
