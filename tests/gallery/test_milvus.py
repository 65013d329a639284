"""The Milvus engine against a real server, in a network of its own that only loopback is part of.

The client is that of requirements-milvus.txt; the server is in an environment of its own. Where
they are not installed, only what needs no client is tested.
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
# `make test-milvus` makes the environment that has the server.
SERVER_PYTHON = Path(__file__).resolve().parents[2] / ".venv-milvus" / "bin" / "python"


def own_network():
    """The command that runs another in a network of its own, or None where that is not allowed."""
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if shutil.which(command[0]) and subprocess.run(
                command + ["true"], stderr=subprocess.DEVNULL).returncode == 0:
            return command
    return None


@pytest.mark.skipif(not importlib.util.find_spec("pymilvus") or not SERVER_PYTHON.exists(),
                    reason="pymilvus or the server is not installed: make test-milvus")
def test_a_real_server(tmp_path):
    command = own_network()
    if command is None:
        pytest.skip("no network of its own for the server is allowed here (unshare --net)")
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes a certificate, is not installed")
    process = subprocess.run(
        command + [sys.executable, str(SESSION), str(SERVER_PYTHON), str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600, universal_newlines=True)
    assert process.returncode == 0, process.stdout + process.stderr
    print(process.stdout)
    assert "with TLS" in process.stdout


@pytest.mark.parametrize("uri, expected", [
    ("localhost:19530", "http://localhost:19530"), ("db.example", "http://db.example:19530"),
    ("http://10.0.0.1:1", "http://10.0.0.1:1"), ("https://db:443/", "https://db:443"),
    ("[::1]:5", "http://[::1]:5")])
def test_addresses(uri, expected):
    assert milvus.check_uri(uri) == expected


@pytest.mark.parametrize("uri", [None, "", "host:port", "ftp://host:1", "host:99999", "host:1/path",
                                 "user:secret@host:1"])
def test_what_is_no_address_is_refused(uri):
    with pytest.raises(UserError) as refusal:
        milvus.check_uri(uri)
    assert "secret" not in str(refusal.value)


def test_no_error_shows_a_token():
    with pytest.raises(UserError) as refusal:
        with milvus._refusals("searching"):
            raise RuntimeError("denied: token=abcdef, Authorization: abcdef")
    assert "abcdef" not in str(refusal.value)
