"""A JupyterLab server as ``make lab`` starts it, and a notebook in it, driven as a browser does it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import contextmanager

import websocket


class Server:
    """A running server; ``address`` ends without a slash."""

    def __init__(self, address, token):
        self.address, self.token = address, token

    def ask(self, path, body=None, method=None):
        """What the server answers, read as JSON where it is."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.address}/{path}", data, {"Authorization": f"token {self.token}"})
        asked.method = method or ("GET" if body is None else "POST")
        with urllib.request.urlopen(asked, timeout=60) as answer:
            text = answer.read().decode()
            return json.loads(text) if answer.headers.get_content_type() == "application/json" else text

    @contextmanager
    def notebook(self, name):
        """A notebook that is opened: what is in it, and its kernel."""
        content = self.ask(f"api/contents/{name}")["content"]
        about = {"path": name, "name": name, "type": "notebook", "kernel": content["metadata"]["kernelspec"]}
        session = self.ask("api/sessions", about)
        kernel = Kernel(self, session["kernel"]["id"])
        try:
            yield content, kernel
        finally:
            kernel.socket.close()
            self.ask(f"api/sessions/{session['id']}", method="DELETE")


class Kernel:
    """The kernel of an opened notebook."""

    def __init__(self, server, number):
        self.server, self.number = server, number
        self.connect()

    def connect(self):
        address = self.server.address.replace("http", "ws", 1)
        self.socket = websocket.create_connection(
            f"{address}/api/kernels/{self.number}/channels",
            timeout=120,
            header=[f"Authorization: token {self.server.token}"],
        )

    def restart(self):
        self.socket.close()
        self.server.ask(f"api/kernels/{self.number}/restart", {})
        self.connect()

    def run(self, source):
        """Run a cell; returns what it shows, as (type, content) of messages, the reply last."""
        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": "execute_request", "username": "", "session": number, "version": "5.3"}
        content = {"code": source, "silent": False, "store_history": True, "stop_on_error": True, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self.socket.send(json.dumps(message))
        shown, reply, idle = [], None, False
        while not (reply and idle):
            answer = json.loads(self.socket.recv())
            if answer["parent_header"].get("msg_id") != number:
                continue
            kind, content = answer["msg_type"], answer["content"]
            if kind == "execute_reply":
                reply = kind, content
            elif kind == "status":
                idle = content["execution_state"] == "idle"
            else:
                shown.append((kind, content))
        return [*shown, reply]


@contextmanager
def server(notebooks, scratch):
    """A JupyterLab server of a folder of notebooks on a free port; it writes to ``scratch`` only and ends with this."""
    places = {name: str(scratch / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    runtime, token = scratch / "runtime", uuid.uuid4().hex
    variables = {**os.environ, **places, "JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_TOKEN": token}
    variables.pop("IOOD_BOOK", None)
    command = [sys.executable, "-m", "jupyterlab", str(notebooks), "--no-browser", "--ServerApp.port=0"]
    command += ["--ServerApp.ip=127.0.0.1", "--allow-root", f"--LabApp.workspaces_dir={scratch / 'workspaces'}"]
    log = scratch / "log"
    with log.open("w") as out, subprocess.Popen(command, env=variables, stdout=out, stderr=out) as process:
        try:
            yield Server(_address(process, runtime, log), token)
        finally:
            process.terminate()


def _address(process, runtime, log):
    end = time.monotonic() + 60
    while not (found := list(runtime.glob("jpserver-*.json"))):
        assert process.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
        time.sleep(0.05)
    return json.loads(found[0].read_text())["url"].rstrip("/")
