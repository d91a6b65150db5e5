"""A headless Chromium that is driven by its DevTools protocol, and that reaches this machine only."""

from __future__ import annotations

import functools
import http.server
import itertools
import json
import shutil
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--hide-scrollbars"),
    *("--no-first-run", "--disable-sync", "--disable-background-networking", "--disable-component-update"),
    *("--disable-extensions", "--remote-debugging-port=0", "--remote-allow-origins=*"),
)
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"


def find():
    """Path of the system's browser, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, *args):
        """Nothing."""


@contextmanager
def served(folder):
    """Address at which a folder is served on this machine."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Tab:
    """One tab; ``events`` holds what happened since the last ``visit``."""

    def __init__(self, address):
        self.socket = websocket.create_connection(address, timeout=60)
        self.numbers = itertools.count(1)
        self.events = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Answer of the browser to a method of the protocol; AssertionError where it refuses."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self.events.append(message)

    def run(self, script):
        """Value of a JavaScript expression; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def resize(self, width, height=900):
        """Set the width and height of the page in CSS pixels; a phone's below 600."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def theme(self, name):
        """Set ``light`` or ``dark``."""
        self.run(f"document.documentElement.dataset.theme = {name!r}")

    def visit(self, address):
        """Load a page; returns when its scripts have run."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv()))

    def wait(self, script, seconds=20):
        """Wait until a JavaScript expression is true; AssertionError where it stays false."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def happened(self, method):
        """Events of this kind since the last visit."""
        return [event["params"] for event in self.events if event["method"] == method]


@contextmanager
def tab(folder):
    """A tab of a browser whose profile is in ``folder``."""
    command = [find(), *FLAGS, OFFLINE, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            yield Tab(_address(folder / "DevToolsActivePort"))
        finally:
            browser.terminate()


def _address(file):
    end = time.monotonic() + 60
    while not (file.is_file() and len(file.read_text().split()) > 1):
        assert time.monotonic() < end, "the browser does not start"
        time.sleep(0.05)
    with urllib.request.urlopen(f"http://127.0.0.1:{file.read_text().split()[0]}/json") as answer:
        return next(page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page")
