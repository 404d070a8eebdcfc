"""Faults. Each function injects a fault, and returns as soon as the service is expected to work again.

`Cluster.repair` restores the rest of the cluster afterwards.
"""
import dataclasses
import os
import signal
import time
from typing import Callable

from cluster import ClosingBalancer


@dataclasses.dataclass
class Fault:
    name: str
    inject: Callable
    # `True` if only variants with a balancer have the fault.
    needs_balancer: bool = False


FAULTS = {}


def fault(name, needs_balancer=False):
    def register(function):
        FAULTS[name] = Fault(name, function, needs_balancer)
        return function

    return register


@fault("none")
def break_nothing(cluster, start):
    """Injects no fault, to measure the load alone."""
    time.sleep(3)


@fault("postmaster-killed")
def kill_postmaster(cluster, start):
    """Kills the primary's postmaster. Patroni starts it again on the same host."""
    os.kill(cluster.primary().postmaster(), signal.SIGKILL)
    cluster.writes.wait(start, 60)


@fault("host-lost")
def lose_host(cluster, start):
    """Simulates a power loss of the primary's host: it sends no more packets, not even to close connections."""
    primary = cluster.primary()
    primary.connect_cable(False)
    primary.kill()
    cluster.writes.wait(start, 60)


@fault("host-killed")
def kill_host(cluster, start):
    """Kills all processes of the primary's host. Its kernel closes their connections."""
    cluster.primary().kill()
    cluster.writes.wait(start, 60)


@fault("host-frozen")
def freeze_host(cluster, start):
    """Stops all processes of the primary's host, and continues them 3 s after another primary accepts writes.

    Its kernel acknowledges packets meanwhile, so that neither keepalives nor timeouts of TCP show the fault.
    """
    primary = cluster.primary()
    primary.signal(signal.SIGSTOP)
    cluster.writes.wait(start, 60)
    time.sleep(3)
    primary.signal(signal.SIGCONT)
    time.sleep(5)


@fault("switchover")
def switch_over(cluster, start):
    """Makes the synchronous standby primary, as an operator does before maintenance."""
    primary, standby = cluster.primary(), cluster.synchronous_standby()
    primary.api("POST", "/switchover", {"leader": primary.name, "candidate": standby.name}, timeout=30)
    cluster.writes.wait(start, 15)


@fault("standby-frozen")
def freeze_standby(cluster, start):
    """Stops all processes of the synchronous standby's host, so that commits wait for it."""
    cluster.synchronous_standby().signal(signal.SIGSTOP)
    cluster.writes.wait(start, 30)


@fault("etcd-lost")
def lose_etcd(cluster, start):
    """Kills etcd for 25 s. Patroni makes the primary read-only, since it cannot renew its lock."""
    cluster.etcd.kill()
    time.sleep(25)
    cluster.etcd.start()
    cluster.writes.wait(start, 60)


@fault("all-killed")
def kill_all(cluster, start):
    """Kills all processes of all database hosts, and starts them again after 2 s."""
    for node in cluster.nodes:
        node.kill()
    time.sleep(2)
    for node in cluster.nodes:
        node.start()
    cluster.writes.wait(start, 90)


@fault("balancer-restarted", needs_balancer=True)
def restart_balancer(cluster, start):
    """Kills the balancers and starts them again after 1 s."""
    balancers = [service.balancer for service in cluster.services if service.balancer]
    for balancer in balancers:
        balancer.kill()
    time.sleep(1)
    for balancer in balancers:
        balancer.start()


@fault("balancer-closes", needs_balancer=True)
def close_at_balancer(cluster, start):
    """Has the balancers accept each connection and close it immediately, for 8 s."""
    balanced = [service for service in cluster.services if service.balancer]
    for service in balanced:
        service.balancer.kill()
    closing = [ClosingBalancer(service.balancer_port) for service in balanced]
    time.sleep(8)
    for balancer, service in zip(closing, balanced):
        balancer.stop()
        service.balancer.start()
