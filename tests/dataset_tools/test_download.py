"""`download`: whole files or none, whatever the server does; a local one plays all the parts."""

import contextlib
import hashlib
import http.server
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from dataset_tools import download
from dataset_tools.__main__ import main
from dataset_tools.download import Wanted, fetch
from recbole_slif.errors import ConfigError, DataError
from tests.dataset_tools.commands import bars_of
from tests.dataset_tools.test_archives import tar

ROOT = Path(__file__).parents[2]
BODY = random.Random(0).randbytes(3 << 20)  # noqa: S311
SUM = "sha256:" + hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `BODY` at every address; the address's first word says what goes wrong."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.tag, self.asked = BODY, '"v1"', []

    def handle_error(self, *_):
        """Clients that hang up are part of the game."""

    def url(self, how, name="data.bin"):
        return f"http://127.0.0.1:{self.server_address[1]}/{how}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        how = self.path.split("/")[1]
        begun = self.headers.get("Range")
        self.server.asked.append((how, begun))
        tries = sum(word == how for word, _ in self.server.asked)
        if how == "absent":
            return self.send_error(404)
        if how == "busy" and tries < 3:
            return self.send_error(503)
        if how == "away":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/x")
            return self.end_headers()
        return self.answer(how, begun)

    def answer(self, how, begun):
        body, start = self.server.body, 0
        fits = self.headers.get("If-Range") in (None, self.server.tag)
        if begun and how not in ("plain", "whole") and fits:
            start = int(begun.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            shown = start + 1 if how == "shifted" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        if how not in ("plain", "unmarked"):
            self.send_header("ETag", self.server.tag)
        if how != "unsized":
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        broken = how in ("broken", "shifted", "unmarked", "whole", "plain")
        self.wfile.write(body[start : start + (1 << 20)] if broken else body[start:])
        return None


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def quick(urls, target, wanted=None, tries=3):
    return fetch(urls, target, wanted, tries, pause=0.0)


def test_a_file_comes_whole_and_is_not_fetched_twice(server, tmp_path, capsys, monkeypatch):
    words = ["download", server.url("fine"), "--out", str(tmp_path), "--sum", SUM]
    words += ["--size", str(len(BODY))]
    shown = bars_of(monkeypatch)
    assert main(words) == 0
    assert main(words) == 0
    assert [bar.desc for bar in shown] == ["data.bin", "check .data.bin.part", "check data.bin"]
    assert all((bar.unit, bar.n, bar.total) == ("B", len(BODY), len(BODY)) for bar in shown)
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert len(server.asked) == 1 and left(tmp_path) == ["data.bin"]
    assert f"{len(BODY):,} bytes" in capsys.readouterr().out


def test_broken_connections_go_on_where_they_stopped(server, tmp_path):
    # Two of three connections break, but each brings bytes, so that none is counted.
    quick([server.url("broken")], tmp_path / "x", tries=2)
    assert (tmp_path / "x").read_bytes() == BODY
    assert [begun for _, begun in server.asked] == [None, "bytes=1048576-", "bytes=2097152-"]
    assert left(tmp_path) == ["x"]


def test_a_server_without_marks_is_trusted_with_a_sum_alone(server, tmp_path):
    quick([server.url("unmarked")], tmp_path / "x", Wanted(sum=SUM))
    assert (tmp_path / "x").read_bytes() == BODY
    with pytest.raises(DataError, match="connection broke at byte 1,048,576"):
        quick([server.url("unmarked")], tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    with pytest.raises(DataError, match=r"broke at byte 1,048,576 of 3,145,728 \(3 tries\)"):
        quick([server.url("whole")], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_file_that_changes_is_not_mixed(server, tmp_path):
    with pytest.raises(DataError, match="broke"):
        quick([server.url("broken")], tmp_path / "x", tries=1)
    server.body, server.tag = bytes(reversed(BODY)), '"v2"'
    quick([server.url("broken")], tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == server.body


def test_a_file_that_shrank_begins_anew(server, tmp_path):
    with pytest.raises(DataError, match="broke"):
        quick([server.url("broken")], tmp_path / "x", tries=1)
    server.body = BODY[:99]
    assert quick([server.url("broken")], tmp_path / "x").read_bytes() == BODY[:99]


def test_without_a_length_the_sum_decides(server, tmp_path):
    quick([server.url("unsized")], tmp_path / "x", Wanted(sum=SUM))
    assert (tmp_path / "x").read_bytes() == BODY


def test_busy_servers_are_asked_again(server, tmp_path, capsys):
    quick([server.url("busy")], tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == BODY
    assert "503" in capsys.readouterr().out


def test_a_redirect_never_leaves_encryption():
    def sent_on(old, new):
        request = urllib.request.Request(old)  # noqa: S310
        return download._SafeRedirect().redirect_request(request, None, 302, "Found", {}, new)

    assert sent_on("https://a/x", "https://b/x").full_url == "https://b/x"
    assert sent_on("http://a/x", "http://b/x").full_url == "http://b/x"
    for old, new in (("https://a/x", "http://b/x"), ("http://a/x", "ftp://b/x")):
        with pytest.raises(Exception, match="which is not https"):
            sent_on(old, new)


def test_mirrors_take_over(server, tmp_path):
    quick([server.url("absent"), server.url("fine")], tmp_path / "x", Wanted(sum=SUM))
    assert (tmp_path / "x").read_bytes() == BODY


@pytest.mark.parametrize(
    ("how", "wanted", "words"),
    [
        ("fine", Wanted(size=5), "has 3,145,728 bytes, not 5"),
        ("unsized", Wanted(size=5), "has 3,145,728 bytes, not 5"),
        ("fine", Wanted(sum="md5:" + "0" * 32), "md5 sum"),
        ("absent", Wanted(), "404"),
        ("away", Wanted(), "not https"),
        ("shifted", Wanted(sum=SUM), "not from byte 1,048,576"),
    ],
)
def test_wrong_files_are_refused(server, tmp_path, how, wanted, words):
    with pytest.raises(DataError, match=words):
        quick([server.url(how)], tmp_path / "x", wanted)
    assert not (tmp_path / "x").exists()
    if how != "shifted":
        assert left(tmp_path) == []


def test_a_wrong_file_that_is_there_is_not_overwritten(server, tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(DataError, match="is there and has the sha256 sum"):
        quick([server.url("fine")], tmp_path / "x", Wanted(sum=SUM))
    assert (tmp_path / "x").read_text() == "mine"


def test_killed_and_called_again(server, tmp_path, monkeypatch):
    url = server.url("fine")
    code = (
        "import sys, time\nfrom dataset_tools import download\n"
        "where = download._receive\n"
        "class Slow:\n"
        "    def __init__(self, answer): self.answer = answer\n"
        "    def read(self, n):\n        time.sleep(0.2)\n        return self.answer.read(n)\n"
        "download._receive = lambda answer, *rest: where(Slow(answer), *rest)\n"
        "from dataset_tools.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    )
    words = ["download", url, "--out", str(tmp_path), "--sum", SUM]
    process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=ROOT, stderr=-3)
    part = tmp_path / ".data.bin.part"
    for _ in range(300):
        time.sleep(0.05)
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_size > 1 << 19:
                break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "data.bin").exists()
    assert main(words) == 0
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert server.asked[-1][1].startswith("bytes=")
    assert left(tmp_path) == ["data.bin"]


def test_file_addresses_resume_too(tmp_path, monkeypatch):
    source = tmp_path / "a b.bin"
    source.write_bytes(BODY)
    real = download._LocalFile.read
    monkeypatch.setattr(download._LocalFile, "read", lambda self, n: b"")
    with pytest.raises(DataError, match="broke"):
        quick([source.as_uri()], tmp_path / "x", tries=1)
    monkeypatch.setattr(download._LocalFile, "read", real)
    assert quick([source.as_uri()], tmp_path / "x").read_bytes() == BODY
    with pytest.raises(DataError, match="No such file"):
        quick([(tmp_path / "none").as_uri()], tmp_path / "y")


def test_what_came_can_be_unpacked(tmp_path, capsys):
    source = tar(tmp_path / "release.tar.gz", [("a/b", b"x")], "w:gz")
    words = ["download", source.as_uri(), "--out", str(tmp_path / "raw")]
    assert main([*words, "--unpack", str(tmp_path / "release")]) == 0
    assert (tmp_path / "release" / "a" / "b").read_bytes() == b"x"
    assert "1 files unpacked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "more", "words"),
    [
        ("ftp://host/x", {}, "neither"),
        ("http://host/x", {}, "not encrypted"),
        ("file://host/x", {}, "neither"),
        ("https://host/x", {"sum": "sha256:12"}, "--sum"),
        ("https://host/x", {"sum": "crc32:" + "0" * 8}, "--sum"),
        ("http://[::1", {}, "no address"),
    ],
)
def test_unusable_addresses(url, more, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        fetch([url], tmp_path / "x", Wanted(**more))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["..", "a/b", ""])
def test_the_name_stays_in_the_folder(name, tmp_path, capsys):
    words = ["download", "https://127.0.0.1/", "--out", str(tmp_path), "--file", name]
    assert main(words) == 2
    assert "--file" in capsys.readouterr().err
