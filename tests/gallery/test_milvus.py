"""The Milvus engine against a real server, in a network of its own that only loopback is part of.

The packages are those of requirements-milvus.txt; where they are not installed, only what needs no
client is tested.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gallery import milvus
from runtime.errors import UserError

SESSION = Path(__file__).with_name("milvus_session.py")
INSTALLED = all(importlib.util.find_spec(name) for name in ("pymilvus", "milvus"))


def own_network():
    """The command that runs another in a network of its own, or None where that is not allowed."""
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if shutil.which(command[0]) and subprocess.run(
                command + ["true"], stderr=subprocess.DEVNULL).returncode == 0:
            return command
    return None


@pytest.mark.skipif(not INSTALLED, reason="pymilvus and milvus are not installed: pip install -r "
                                          "requirements-milvus.txt (Python 3.7)")
def test_a_real_server(tmp_path):
    command = own_network()
    if command is None:
        pytest.skip("no network of its own for the server is allowed here (unshare --net)")
    process = subprocess.run(command + [sys.executable, str(SESSION), str(tmp_path)],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600,
                             universal_newlines=True)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "restart" in process.stdout


@pytest.mark.parametrize("uri, expected", [
    ("localhost:19530", (False, "localhost:19530")), ("db.example", (False, "db.example:19530")),
    ("http://10.0.0.1:1", (False, "10.0.0.1:1")), ("https://db:443/", (True, "db:443")),
    ("[::1]:5", (False, "[::1]:5"))])
def test_addresses(uri, expected):
    assert milvus._parse_uri(uri) == expected


@pytest.mark.parametrize("uri", [None, "", "host:port", "ftp://host:1", "host:99999", "host:1/path",
                                 "user:secret@host:1"])
def test_what_is_no_address_is_refused(uri):
    with pytest.raises(UserError) as refusal:
        milvus._parse_uri(uri)
    assert "secret" not in str(refusal.value)


def test_no_error_shows_a_token():
    with pytest.raises(UserError) as refusal:
        with milvus._refusals("searching"):
            raise RuntimeError("denied: token=abcdef, Authorization: abcdef")
    assert "abcdef" not in str(refusal.value)
