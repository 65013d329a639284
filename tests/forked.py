"""Our commands in processes forked from one that has imported everything. No tests.

Importing TensorFlow, matplotlib and the rest takes 4 seconds, and the figures of a small run's page
another 2. A forked process has the imports, draws no figures and does not flush its files to the
disk. All else is as in `python SCRIPT`: arguments, environment, folder, output, signals and exit
code are its own.
"""

import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 300  # seconds; then the process is killed by SIGALRM


class Process:
    """A process that does what `python ARGUMENTS` does; like a subprocess.Popen with text output.

    Args:
        arguments: list of str, the script's path first.
        cwd: the folder in which it runs.
        env: its environment; by default this process's.

    Attributes:
        pid: of the process.
        stdout: what it prints, a text stream.
        returncode: set once it has ended, by communicate.
    """

    def __init__(self, arguments, cwd, env=None):
        self._folder = tempfile.TemporaryDirectory()
        out, err = [os.path.join(self._folder.name, name) for name in ("stdout", "stderr")]
        os.mkfifo(out)
        self.pid = _ask([arguments, str(cwd), dict(os.environ if env is None else env), out, err])
        self.stdout, self._stderr, self.returncode = open(out), Path(err), None

    def send_signal(self, number):
        """Sends a signal."""
        os.kill(self.pid, number)

    def kill(self):
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self):
        """Waits for its end; returns what it has printed since, and all of its standard error."""
        with self.stdout:
            printed = self.stdout.read()
        status = _ask(self.pid)
        self.returncode = (os.WEXITSTATUS(status) if os.WIFEXITED(status)
                           else -os.WTERMSIG(status))
        errors = self._stderr.read_text()
        self._folder.cleanup()
        return printed, errors


def run(arguments, cwd, env=None):
    """Runs a Process to its end; returns a subprocess.CompletedProcess."""
    process = Process(arguments, cwd, env)
    printed, errors = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, printed, errors)


@functools.lru_cache(maxsize=None)
def _server():
    """The process that forks. It ends with this one, which holds its standard input."""
    return subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, universal_newlines=True, bufsize=1)


def _ask(request):
    """The server's answer, a whole number; see _serve."""
    _server().stdin.write(json.dumps(request) + "\n")
    return int(_server().stdout.readline())


def _import_everything():
    sys.path[0] = str(ROOT)
    for name in ("main", "evaluate", "reproduce", "prepare", "describe", "search"):
        __import__(name)
    from reports import page, tables
    from runtime.tensorflow import global_avg_pool, tf

    page.embedded = tables.embedded = lambda *_: []
    os.fsync = lambda _: None
    with tf.Graph().as_default():  # under TensorFlow 1, imports tflearn
        global_avg_pool(tf.zeros([1, 1, 1, 1]), "warm_up")


def _serve():
    """Answers each line of standard input: the id of a new process, or how one of an id ended."""
    before = set(os.environ)
    _import_everything()
    set_by_imports = {name: os.environ[name] for name in set(os.environ) - before}
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, int):
            print(os.waitpid(request, 0)[1], flush=True)
            continue
        child = os.fork()
        if child == 0:
            _become(*request, set_by_imports)
            return
        print(child, flush=True)


def _become(arguments, cwd, env, out, err, set_by_imports):
    """Makes a forked process the one that was asked for."""
    signal.alarm(TIMEOUT)
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY),
                                (2, err, os.O_WRONLY | os.O_CREAT)):
        os.dup2(os.open(path, flags), number)
    os.environ.clear()
    os.environ.update({**set_by_imports, **env})
    os.chdir(cwd)
    sys.argv[:] = arguments
    sys.path[0] = os.path.dirname(arguments[0])
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    _serve()
