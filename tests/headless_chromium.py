"""Drives a headless Chromium over a pipe (Chrome DevTools Protocol), to see pages as people do.

Nothing beyond Chromium itself is needed: messages are JSON, each ended by a zero byte, on the
browser's file descriptors 3 and 4.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from urllib.parse import urljoin

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars",
         "--remote-debugging-pipe")
PATIENCE = 60  # seconds to wait for an answer


def find():
    """Chromium's path, or None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A Chromium with one tab; a context manager.

    Args:
        flags: more arguments of Chromium's.

    Attributes:
        problems: list of str: errors in the console, and requests for anything but the page
            itself (of a server's page: for anything beyond that server), since `open`.
    """

    def __init__(self, *flags):
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        command = [find(), *FLAGS, *flags, f"--user-data-dir={self._profile}", "about:blank"]
        # The shell gives the pipes to 3 and 4, where Chromium wants them.
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh"] + command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._out, self._in = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._buffer, self._number, self._session = b"", 0, None
        self.problems, self._page, self._allowed = [], None, ()
        try:
            self._attach()
        except BaseException:
            self.__exit__()
            raise

    def _attach(self):
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(info for info in targets if info["type"] == "page")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target,
                                  flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, path, width=1280, dark=False, media=""):
        """Opens a file, or an address of a server, at a window's width, on light or dark, on the
        screen or for print."""
        served = str(path).startswith(("http://", "https://", "about:"))
        self.problems, self._page = [], str(path) if served else "file://" + str(path)
        self._allowed = ("data:", "about:") + (urljoin(self._page, "/"),) * served
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", media=media, features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", url=self._page)
        self._wait("Page.loadEventFired")

    def run(self, script):
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise ValueError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait_for(self, script):
        """Waits until a JavaScript expression in the page is true."""
        end = time.time() + PATIENCE / 2
        while time.time() < end:
            if self.run(f"!!({script})"):
                return
            time.sleep(0.02)
        raise AssertionError(f"it did not come to be: {script}; {self.problems}")

    def press(self, key, code=None, text=""):
        """Presses a key, by its name in the browser, and lets it go."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36,
                 "Escape": 27}
        values = dict(key=key, code=code or key, windowsVirtualKeyCode=codes[key])
        text = {"Enter": "\r", " ": " "}.get(key, text)
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **values)
        self.call("Input.dispatchKeyEvent", type="keyUp", **values)

    def choose_file(self, selector, path):
        """Chooses a file in a page's field, as a person would in the window that it opens."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path, whole=True):
        """Saves what is seen, or the whole page, as PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        with open(str(path), "wb") as stream:
            stream.write(base64.b64decode(answer["data"]))

    def print_pdf(self, path=None):
        """The page printed on A4 as its style sheet says: bytes of a PDF, saved if asked for."""
        data = base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True,
                                          printBackground=False)["data"])
        if path:
            with open(str(path), "wb") as stream:
                stream.write(data)
        return data

    def call(self, method, **parameters):
        """Sends a command and waits for its answer; notes the page's problems meanwhile."""
        self._number += 1
        message = dict(id=self._number, method=method, params=parameters)
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        number = self._number
        while True:
            answer = self._read()
            if answer.get("id") == number:
                if "error" in answer:
                    raise ValueError(f"{method}: {answer['error']}")
                return answer["result"]

    def _wait(self, event):
        while self._read().get("method") != event:
            pass

    def _read(self):
        """The next message; notes what is a problem."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], PATIENCE)
            data = os.read(self._in, 1 << 20) if ready else b""
            if not data:
                raise OSError("Chromium does not answer")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(line.decode())
        parameters = message.get("params", {})
        kind = message.get("method")
        if kind == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if url != self._page and not url.startswith(self._allowed):
                self.problems.append("request: " + url)
        elif kind == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append("log: " + parameters["entry"]["text"])
        elif kind == "Runtime.exceptionThrown" or (
                kind == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning")):
            self.problems.append("console: " + json.dumps(parameters)[:500])
        return message
