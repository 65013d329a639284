"""The workers of a run and their addresses: TF_CONFIG, ports, which of them answer."""

import ctypes
import dataclasses
import os
import re
import socket
import struct
import sys
import time
from contextlib import closing

from config import Config
from runtime.errors import UserError
from runtime.files import parse_json
from runtime.settings import setting

ADDRESS = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*):([0-9]{1,5})\Z")
ANSWER_SECONDS = 2.0  # a healthy server answers at once
# What a gRPC client sends first (HTTP/2's preface and an empty SETTINGS frame). A live server
# answers with its own SETTINGS. A stopped process accepts the connection, but stays silent.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
SO_ATTACH_FILTER = 26  # of Linux; Python has no name for it


@dataclasses.dataclass(frozen=True)
class WorkerSettings:
    """How a run is spread over processes; no result depends on it, and each start may change it."""

    num_workers: int = setting(
        1, "processes that share each batch on this machine, each on a GPU of its own where there "
        "are any; on several machines: TF_CONFIG (docs/distributed.md)", 1, 1024)
    worker_timeout: float = setting(
        600.0, "seconds after which a silent worker or an unfinished step counts as lost", 1)

    __post_init__ = Config.__post_init__


class Cluster:
    """The workers of one run, of which this process is one.

    Args:
        addresses: list of "host:port", one per worker.
        index: which of them this process is.
        timeout: seconds to wait for another worker.
    """

    def __init__(self, addresses, index, timeout):
        self.addresses, self.index, self.timeout = addresses, index, timeout
        self.count = len(addresses)

    def check_own_address(self):
        """Raises UserError unless this process can serve at its address."""
        host, port = self._own()
        where = f"worker {self.index}'s address, {self.addresses[self.index]},"
        try:
            ip = socket.gethostbyname(host)
        except OSError as error:
            raise UserError(f"{where} cannot be found: {error.strerror or error}; TF_CONFIG must "
                            "name a host that is known here")
        others = [address for address in self.addresses if not _is_loopback(address)]
        if _is_loopback(ip) and others:
            raise UserError(f"{where} is {ip} here, which {others[0]} cannot reach; give the "
                            "machine's IP address in TF_CONFIG")
        try:
            with closing(_listening_socket(ip, port)):
                pass
            with closing(_listening_socket("", port)):  # what TensorFlow will do
                pass
        except PermissionError:
            raise UserError(f"{where} needs a port above 1023")
        except OSError as error:
            if "in use" in (error.strerror or ""):
                raise UserError(f"{where} is in use by another process; end it, or give another "
                                "port")
            raise UserError(f"{where} is not an address of this machine ({error.strerror}); "
                            "task.index in TF_CONFIG says which of cluster.worker this machine is")

    def shield(self):
        """Makes TensorFlow's server reachable only at its own address and from this machine.

        The server listens on all of the machine's addresses and takes commands from anybody. On
        Linux, a filter in the kernel drops what arrives at another address. Elsewhere nothing
        changes.
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
            (equal, 9, 0, address),           # ours? then accept
            (equal, 8, 9, 0x7f000001),        # 127.0.0.1?
            (load, 0, 0, header + 24),        # version 6: is the destination ::1?
            (equal, 0, 7, 0), (load, 0, 0, header + 28),
            (equal, 0, 5, 0), (load, 0, 0, header + 32),
            (equal, 0, 3, 0), (load, 0, 0, header + 36),
            (equal, 0, 1, 1),
            (end, 0, 0, 0xffffffff),          # accept
            (end, 0, 0, 0)))                  # drop it
        kept = ctypes.create_string_buffer(program)
        for server in _sockets_listening_at(port):
            with closing(server):
                server.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                                  struct.pack("HP", len(program) // 8, ctypes.addressof(kept)))

    def wait_for_all(self):
        """Waits until all workers answer; returns a list of those that did not in time."""
        absent, started = [index for index in range(self.count) if index != self.index], time.time()
        while True:
            absent = [index for index in absent if self.state(index) != "answers"]
            if not absent or time.time() - started > self.timeout:
                return absent
            time.sleep(0.2)

    def state(self, index):
        """"answers", "gone" (its machine says that no server is there) or "silent"."""
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
        """Text to append to a command so that it starts the same workers."""
        if all(_is_loopback(address) for address in self.addresses):
            return f" --num_workers {self.count}"
        return " (on each machine, with its TF_CONFIG)"

    def describe(self, indices):
        """Text: "worker 1 (10.0.0.2:2222)", or "workers ..." of several."""
        names = ", ".join(f"{index} ({self.addresses[index]})" for index in indices)
        return f"worker{'s' if len(indices) > 1 else ''} {names}"

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
        value = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"TF_CONFIG is not JSON ({error})")
    if value == {}:
        return None
    addresses = _worker_addresses(value)
    index = _task_index(value, len(addresses))
    if settings.num_workers not in (1, len(addresses)):
        raise UserError(f"--num_workers is {settings.num_workers}, but TF_CONFIG names "
                        f"{len(addresses)} workers; leave one of the two out")
    return Cluster(addresses, index, settings.worker_timeout) if len(addresses) > 1 else None


def _worker_addresses(value):
    cluster = value.get("cluster") if isinstance(value, dict) else None
    addresses = cluster.get("worker") if isinstance(cluster, dict) else None
    if not isinstance(addresses, list) or not addresses:
        _refuse("it has no cluster.worker, a list of addresses")
    foreign = sorted(set(cluster) - {"worker"})
    if foreign:
        _refuse(f"cluster has {foreign[0]!r:.40}; there are only workers, of which worker 0 is the "
                "chief")
    for address in addresses:
        match = ADDRESS.match(address) if isinstance(address, str) else None
        if not match or not 0 < int(match.group(2)) < 65536:
            _refuse(f"cluster.worker has {address!r:.60}; an address is a host's name or IPv4 "
                    "address, a colon and a port from 1 to 65535")
        if addresses.count(address) > 1:
            _refuse(f"cluster.worker has {address} twice")
    return addresses


def _task_index(value, count):
    task = value.get("task")
    index = task.get("index") if isinstance(task, dict) else None
    if type(index) is not int or not 0 <= index < count or task.get("type") != "worker":
        _refuse(f"task is {task!r:.60}; its type must be \"worker\", and its index, from 0 to "
                f"{count - 1}, says which of cluster.worker this process is")
    return index


def _refuse(reason):
    raise UserError(f'TF_CONFIG: {reason}; it must be like {{"cluster": {{"worker": ["host:port", '
                    '...]}, "task": {"type": "worker", "index": 0}}')


def free_addresses(count):
    """Loopback addresses of `count` unused ports."""
    sockets = [_listening_socket("127.0.0.1", 0) for _ in range(count)]
    try:
        return [f"127.0.0.1:{taken.getsockname()[1]}" for taken in sockets]
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
        except OSError:  # not a socket, or closed since
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
