"""Checkpoints from a hub: whole, broken, wrong, refused, without a network; a server on this machine plays the hub."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time

import pytest
import torch

from iood_helpers.errors import CheckpointError
from iood_helpers.model import checkpoints, hub
from iood_helpers.model.checkpoints import find_checkpoint, load_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ADDRESS = "hf://owner/repo/folder/w.pth"


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does for one file; what is wrong with it, the test says."""

    content, etag, said, status, broken, headers_sent = b"", None, None, 200, 0, True
    seen: list[tuple[str, str, str | None]]

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(b"")

    def do_GET(self):
        self.answer(type(self).content)

    def answer(self, body):
        kind = type(self)
        kind.seen.append((self.command, self.path, self.headers.get("Range")))
        status, start = kind.status, 0
        if self.command == "GET" and (asked := self.headers.get("Range")):
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
        self.send_response(status if self.path.split("?")[0].endswith("folder/w.pth") else 404)
        size = len(kind.content) if kind.said is None or self.command == "GET" else kind.said
        self.send_header("Content-Length", str(size - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(kind.content) - 1}/{len(kind.content)}")
        if kind.headers_sent:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{kind.etag or hashlib.sha256(kind.content).hexdigest()}"')
        self.end_headers()
        body = body[start:]
        if kind.broken and body:
            kind.broken -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)
        self.close_connection = True


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    torch.save({"x.weight": torch.arange(2000.0)}, tmp_path / "w.pth")
    kind = type("OneHub", (Hub,), {"content": (tmp_path / "w.pth").read_bytes(), "seen": []})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{running.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IOOD_CACHE_DIR", str(tmp_path / "cache"))
    yield kind
    running.shutdown()
    running.server_close()


def gets(server):
    return [seen for seen in server.seen if seen[0] == "GET" and seen[1].endswith("w.pth")]


def loads(address=ADDRESS):
    return load_checkpoint(address).state_dict["x.weight"].tolist() == list(range(2000))


def test_a_file_is_fetched_once_and_remembered(server, tmp_path, monkeypatch):
    assert loads() and loads() and len(gets(server)) == 1
    path = find_checkpoint(ADDRESS)
    assert tmp_path / "home" / "hub" in path.parents and path.name == "w.pth"
    assert hub.recorded_sha256(path) == hashlib.sha256(server.content).hexdigest() == load_checkpoint(ADDRESS).sha256
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(server.seen)
    assert loads() and len(server.seen) == asked


def test_a_revision_may_be_named(server):
    assert loads("hf://owner/repo@v1.0/folder/w.pth")
    assert {path for _, path, _ in gets(server)} == {"/owner/repo/resolve/v1.0/folder/w.pth"}


def test_official_names_are_on_the_hub(server, monkeypatch):
    monkeypatch.setitem(checkpoints.OFFICIAL, "internimage-t-cityscapes", ADDRESS)
    with pytest.raises(CheckpointError, match=r"dropped: its checksum is .* instead of d609235b"):
        load_checkpoint("internimage-t-cityscapes")
    right = hashlib.sha256(server.content).hexdigest()
    monkeypatch.setitem(checkpoints.SHA256, "internimage-t-cityscapes", right)
    assert loads("internimage-t-cityscapes") and len(gets(server)) == 2


def test_a_broken_connection_is_taken_up_again(server, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # 10 MB: what came of a broken chunk is fetched again
    server.broken = 1
    assert loads()
    half = len(server.content) // 2 // 1000 * 1000
    assert [asked for _, _, asked in gets(server)] == [None, f"bytes={half}-"]


def test_a_file_of_another_size_is_not_kept(server):
    server.said = len(server.content) + 100
    with pytest.raises(CheckpointError, match=r"could not be downloaded .*should be of size"):
        load_checkpoint(ADDRESS)
    server.said = None
    assert loads()


def test_another_content_than_promised_is_dropped(server):
    server.etag, whole = hashlib.sha256(server.content).hexdigest(), server.content
    server.content = whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]
    with pytest.raises(CheckpointError, match=r"The download of hf://owner/repo/folder/w\.pth is dropped"):
        load_checkpoint(ADDRESS)
    server.content = whole
    assert loads() and len(gets(server)) == 2


def test_damage_in_the_cache_is_noticed_and_said(server):
    assert loads()
    path = find_checkpoint(ADDRESS).resolve()
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 1  # in the archive's last, empty comment, where no reader looks
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"The download was dropped; the next call fetches it anew\."):
        load_checkpoint(ADDRESS)
    assert loads() and len(gets(server)) == 2


@pytest.mark.parametrize(
    "status, message", [(401, "needs a login.*hf auth login"), (403, "needs a login"), (404, "does not exist; look at")]
)
def test_refusals_say_what_to_do(server, status, message):
    server.status = status
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(ADDRESS)
    server.status = 200
    assert loads()


def test_a_file_that_is_not_there(server):
    with pytest.raises(CheckpointError, match=r"x\.pth does not exist; look at http://127.*/owner/repo"):
        load_checkpoint("hf://owner/repo/x.pth")


@pytest.mark.parametrize("headers", [True, False])
def test_a_login_page_is_no_checkpoint(server, headers):
    whole = server.content
    server.content, server.etag, server.headers_sent = b"<html>Please log in</html>", "abc", headers
    with pytest.raises(CheckpointError, match="a login page" if headers else "does not seem to be served by a"):
        load_checkpoint(ADDRESS)
    server.content, server.etag, server.headers_sent = whole, None, True
    assert loads()


def test_without_network_and_cache(server, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="not in the cache, and HF_HUB_OFFLINE is set"):
        load_checkpoint(ADDRESS)
    assert not server.seen


def test_a_hub_that_does_not_answer_leaves_the_cache(server, monkeypatch):
    assert loads()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    assert loads() and time.monotonic() - began < 10


@pytest.mark.parametrize("address", ["hf://", "hf://owner/w.pth", "hf://owner/repo/", "hf://a/b@/c", "hf://a/b/c?d"])
def test_addresses_that_are_none(address):
    with pytest.raises(CheckpointError, match="not understood; write hf://owner/repo/file"):
        load_checkpoint(address)


def test_files_of_the_web_are_remembered_too(server, monkeypatch):
    url = f"{hub.os.environ['HF_ENDPOINT']}/folder/w.pth"
    assert loads(url)
    path = find_checkpoint(url)
    path.write_bytes(path.read_bytes()[:-3] + b"\1\0\0")
    with pytest.raises(CheckpointError, match="checksum .* dropped"):
        load_checkpoint(url)
    assert loads(url) and len(gets(server)) == 2
