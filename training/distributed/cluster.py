"""The workers of a run, and where they are: TF_CONFIG, ports, who answers. No TensorFlow here."""

import ctypes
import dataclasses
import json
import os
import re
import socket
import struct
import sys
import time
from contextlib import closing

from config import Config
from runtime.errors import UserError
from runtime.settings import setting

ADDRESS = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*):([0-9]{1,5})\Z")
ANSWER_SECONDS = 2.0  # a server that is well answers at once
# What a gRPC client says first (HTTP/2's preface and an empty SETTINGS frame), so that a server
# whose process still runs answers with its own SETTINGS; a stopped process accepts, and is silent.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
SO_ATTACH_FILTER = 26  # of Linux; Python has no name for it


@dataclasses.dataclass(frozen=True)
class WorkerSettings:
    """How a run is spread over processes: not part of what it computes, free at each start."""

    num_workers: int = setting(
        1, "processes that share each batch on this machine, each on a GPU of its own where there "
        "are any; on several machines: TF_CONFIG (docs/distributed.md)", 1, 1024)
    worker_timeout: float = setting(
        600.0, "seconds after which a worker that does not answer, or a step, counts as lost", 1)

    __post_init__ = Config.__post_init__


class Cluster:
    """The workers of one run, of which this process is one.

    Args:
        addresses: list of "host:port", one a worker.
        index: which of them this process is.
        timeout: seconds to wait for another worker.
    """

    def __init__(self, addresses, index, timeout):
        self.addresses, self.index, self.timeout = addresses, index, timeout
        self.count = len(addresses)

    def check_own_address(self):
        """Raises UserError unless this process can serve at its address."""
        host, port = self._own()
        where = "worker %d's address, %s," % (self.index, self.addresses[self.index])
        try:
            ip = socket.gethostbyname(host)
        except OSError as error:
            raise UserError("%s cannot be found: %s; TF_CONFIG must name a host that is known here"
                            % (where, error.strerror or error))
        others = [address for address in self.addresses if not _is_loopback(address)]
        if _is_loopback(ip) and others:
            raise UserError("%s is %s here, which %s cannot reach; give the machine's IP address "
                            "in TF_CONFIG" % (where, ip, others[0]))
        try:
            with closing(_listening_socket(ip, port)):
                pass
            with closing(_listening_socket("", port)):  # what TensorFlow will do
                pass
        except PermissionError:
            raise UserError("%s needs a port above 1023" % where)
        except OSError as error:
            if "in use" in (error.strerror or ""):
                raise UserError("%s is in use by another process; end it, or give another port"
                                % where)
            raise UserError("%s is no address of this machine (%s); task.index in TF_CONFIG says "
                            "which of cluster.worker this machine is" % (where, error.strerror))

    def shield(self):
        """Lets TensorFlow's server hear only who calls it by its own address or from this machine.

        It listens on all of the machine's addresses, and takes commands from anybody. A filter in
        the kernel (Linux) drops what comes to another one. Elsewhere nothing changes.
        """
        host, port = self._own()
        if not sys.platform.startswith("linux"):
            return
        address, = struct.unpack("!I", socket.inet_aton(socket.gethostbyname(host)))
        header = 0xfff00000  # SKF_NET_OFF: what follows is an offset into the IP header
        load, equal, end = 0x20, 0x15, 0x06
        program = b"".join(struct.pack("HBBI", *instruction) for instruction in (
            (0x30, 0, 0, header),             # the first byte: version and header length
            (0x74, 0, 0, 4),                  # shifted right by 4
            (equal, 0, 3, 4),                 # version 4? else skip 3
            (load, 0, 0, header + 16),        # its destination
            (equal, 9, 0, address),           # ours? then let it in
            (equal, 8, 9, 0x7f000001),        # 127.0.0.1?
            (load, 0, 0, header + 24),        # version 6: is the destination ::1?
            (equal, 0, 7, 0), (load, 0, 0, header + 28),
            (equal, 0, 5, 0), (load, 0, 0, header + 32),
            (equal, 0, 3, 0), (load, 0, 0, header + 36),
            (equal, 0, 1, 1),
            (end, 0, 0, 0xffffffff),          # let it in
            (end, 0, 0, 0)))                  # drop it
        kept = ctypes.create_string_buffer(program)
        for server in _sockets_listening_at(port):
            with closing(server):
                server.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                                  struct.pack("HP", len(program) // 8, ctypes.addressof(kept)))

    def wait_for_all(self):
        """Waits until all workers answer; returns the list of those that did not in time."""
        absent, started = [index for index in range(self.count) if index != self.index], time.time()
        while True:
            absent = [index for index in absent if self.state(index) != "answers"]
            if not absent or time.time() - started > self.timeout:
                return absent
            time.sleep(0.2)

    def state(self, index):
        """"answers"; "gone", if its machine says that nobody serves there; or "silent"."""
        host, port = _split(self.addresses[index])
        try:
            with closing(socket.create_connection((host, port), ANSWER_SECONDS)) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.sendall(GREETING)
                return "answers" if connection.recv(1) else "gone"
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
            return "gone"
        except OSError:
            return "silent"

    def how_to_start(self):
        """Text for the end of a command that starts as many workers."""
        if all(_is_loopback(address) for address in self.addresses):
            return " --num_workers %d" % self.count
        return " (on each machine, with its TF_CONFIG)"

    def describe(self, indices):
        """Text: "worker 1 (10.0.0.2:2222)", or "workers ..." of several."""
        return "worker%s %s" % ("s" if len(indices) > 1 else "", ", ".join(
            "%d (%s)" % (index, self.addresses[index]) for index in indices))

    def _own(self):
        return _split(self.addresses[self.index])


def read_cluster(settings):
    """The Cluster that the environment variable TF_CONFIG names; None for one process alone.

    Args:
        settings: WorkerSettings.

    Raises:
        UserError: TF_CONFIG is wrong, or contradicts --num_workers.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError("TF_CONFIG is no JSON (%s)" % error)
    if value == {}:
        return None
    addresses = _worker_addresses(value)
    index = _task_index(value, len(addresses))
    if settings.num_workers not in (1, len(addresses)):
        raise UserError("--num_workers is %d, but TF_CONFIG names %d workers; leave one of them out"
                        % (settings.num_workers, len(addresses)))
    return Cluster(addresses, index, settings.worker_timeout) if len(addresses) > 1 else None


def _worker_addresses(value):
    cluster = value.get("cluster") if isinstance(value, dict) else None
    if not isinstance(cluster, dict):
        raise UserError('TF_CONFIG must be like {"cluster": {"worker": ["host:port", ...]}, '
                        '"task": {"type": "worker", "index": 0}}')
    foreign = sorted(set(cluster) - {"worker"})
    if foreign:
        raise UserError("TF_CONFIG: cluster has %.40r; there are only workers here (worker 0 is "
                        "the chief, and there is no parameter server)" % foreign[0])
    addresses = cluster.get("worker")
    if not isinstance(addresses, list) or not addresses:
        raise UserError("TF_CONFIG: cluster.worker must be a list of addresses, host:port")
    for address in addresses:
        match = ADDRESS.match(address) if isinstance(address, str) else None
        if not match or not 0 < int(match.group(2)) < 65536:
            raise UserError("TF_CONFIG: cluster.worker has %.60r; an address is a host's name or "
                            "IPv4 address and a port from 1 to 65535, host:port" % (address,))
        if addresses.count(address) > 1:
            raise UserError("TF_CONFIG: cluster.worker has %s twice; each worker needs an address "
                            "of its own" % address)
    return addresses


def _task_index(value, count):
    task = value.get("task")
    if not isinstance(task, dict) or "index" not in task:
        raise UserError('TF_CONFIG: task must be like {"type": "worker", "index": 0}: which of '
                        "cluster.worker this process is")
    if task.get("type") != "worker":
        raise UserError("TF_CONFIG: task.type is %.40r; it must be \"worker\"" % (
            task.get("type"),))
    index = task["index"]
    if type(index) is not int or not 0 <= index < count:
        raise UserError("TF_CONFIG: task.index is %.40r; with %d workers it is a whole number from "
                        "0 to %d" % (index, count, count - 1))
    return index


def free_addresses(count):
    """Loopback addresses of `count` ports that nobody uses."""
    sockets = [_listening_socket("127.0.0.1", 0) for _ in range(count)]
    try:
        return ["127.0.0.1:%d" % taken.getsockname()[1] for taken in sockets]
    finally:
        for taken in sockets:
            taken.close()


def _split(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def _is_loopback(address):
    return address.startswith(("127.", "localhost"))


def _listening_socket(host, port):
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Without it, a port counts as used for a minute after connections on it have ended.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen(1)
    except OSError:
        server.close()
        raise
    return server


def _sockets_listening_at(port):
    """This process's sockets that listen at a port, each as a duplicate for the caller to close."""
    for name in os.listdir("/proc/self/fd"):
        try:
            candidate = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # no socket, or closed since
            continue
        try:
            listens = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            found = listens and candidate.getsockname()[1] == port
        except (OSError, IndexError, TypeError):  # a socket of another kind
            found = False
        if found:
            yield candidate
        else:
            candidate.close()
