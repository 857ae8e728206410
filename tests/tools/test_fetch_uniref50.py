"""tools/fetch_uniref50.py against a server on this machine that breaks off, lies and changes its mind."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "fetch_uniref50.py"
CONTENT = bytes(i * i % 251 for i in range(700_000))
METALINK = """<?xml version="1.0" encoding="UTF-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/"><files>
<file name="uniref50.xml.gz"><verification><hash type="md5">00</hash></verification></file>
<file name="uniref50.fasta.gz"><verification><hash type="md5">{md5}</hash></verification></file>
</files></metalink>"""


class Server(ThreadingHTTPServer):
    """Sends at most `breaks_after` bytes a connection; remembers the ranges that were asked for."""

    content = CONTENT
    breaks_after: int | None = None
    resumes = True
    metalink: str | None = None
    size: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/uniref50.fasta.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self._head(200, self.server.size or len(self.server.content))

    def do_GET(self) -> None:
        if self.path.endswith("metalink"):
            body = (self.server.metalink or "").encode()
            self._head(200 if body else 404, len(body))
            self.wfile.write(body)
            return
        first, etag = 0, self._etag()
        asked = self.headers.get("Range")
        if asked:
            self.server.ranges.append(asked)
        if asked and self.server.resumes and self.headers.get("If-Range") == etag:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
        body = self.server.content[first:]
        self._head(206 if first else 200, len(body))
        self.wfile.write(body[: self.server.breaks_after])

    def _etag(self) -> str:
        return f'"{hashlib.md5(self.server.content).hexdigest()}"'

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", self._etag())
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _fetch(server: Server, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, server.url, "-o", output, *options]
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300)


def _sha256(content: bytes = CONTENT) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_a_download_is_whole_and_leaves_nothing_else(server: Server, tmp_path: Path):
    done = _fetch(server, tmp_path / "new folder" / "u.gz", "--checksum", _sha256())
    assert (done.returncode, done.stderr) == (0, "")
    assert [(f.name, f.read_bytes() == CONTENT) for f in (tmp_path / "new folder").iterdir()] == [
        ("u.gz", True)
    ]


def test_dropped_connections_are_resumed_where_they_broke(server: Server, tmp_path: Path):
    server.breaks_after = 150_000
    done = _fetch(server, tmp_path / "u.gz", "--checksum", _sha256())
    assert done.returncode == 0
    assert (tmp_path / "u.gz").read_bytes() == CONTENT
    assert server.ranges == [f"bytes={n}-" for n in (150_000, 300_000, 450_000, 600_000)]


def test_a_server_that_sends_nothing_is_given_up_and_resumed_later(server: Server, tmp_path: Path):
    server.breaks_after = 0
    done = _fetch(server, tmp_path / "u.gz", "--patience", "2")
    assert done.returncode == 1
    assert "resumes here" in done.stderr
    assert not (tmp_path / "u.gz").exists()
    server.breaks_after = None
    assert _fetch(server, tmp_path / "u.gz").returncode == 0
    assert (tmp_path / "u.gz").read_bytes() == CONTENT


def _leave_half(server: Server, folder: Path) -> None:
    """As after a kill: half of the file."""
    server.breaks_after = 0
    _fetch(server, folder / "u.gz", "--patience", "1")
    (folder / "u.gz.part").write_bytes(server.content[:350_000])
    server.breaks_after = None


def test_a_second_call_goes_on_after_a_kill(server: Server, tmp_path: Path):
    _leave_half(server, tmp_path)
    done = _fetch(server, tmp_path / "u.gz", "--checksum", _sha256())
    assert (done.returncode, server.ranges) == (0, ["bytes=350000-"])
    assert "going on after 350,000 bytes" in done.stderr


def test_a_new_release_on_the_server_starts_again(server: Server, tmp_path: Path):
    _leave_half(server, tmp_path)
    server.content = CONTENT[::-1]
    done = _fetch(server, tmp_path / "u.gz", "--checksum", _sha256(server.content))
    assert (done.returncode, server.ranges) == (0, [])


def test_a_server_that_cannot_resume_is_read_from_the_start(server: Server, tmp_path: Path):
    _leave_half(server, tmp_path)
    server.resumes = False
    done = _fetch(server, tmp_path / "u.gz", "--checksum", _sha256())
    assert done.returncode == 0
    assert (tmp_path / "u.gz").read_bytes() == CONTENT


def test_the_checksum_of_uniprots_metalink_is_used(server: Server, tmp_path: Path):
    server.metalink = METALINK.format(md5=hashlib.md5(CONTENT).hexdigest())
    assert "md5:" in _fetch(server, tmp_path / "right.gz").stdout
    server.metalink = METALINK.format(md5="0" * 32)
    done = _fetch(server, tmp_path / "wrong.gz")
    assert done.returncode == 1
    assert "instead of 000" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["right.gz"]


def test_a_file_that_is_there_is_checked_and_not_fetched(server: Server, tmp_path: Path):
    (tmp_path / "u.gz").write_bytes(CONTENT)
    assert "there already" in _fetch(server, tmp_path / "u.gz", "--checksum", _sha256()).stdout
    (tmp_path / "u.gz").write_bytes(CONTENT[:-1])
    done = _fetch(server, tmp_path / "u.gz")
    assert done.returncode == 1
    assert (tmp_path / "u.gz").stat().st_size == len(CONTENT) - 1


def test_too_little_space_is_said_before_anything_is_fetched(server: Server, tmp_path: Path):
    server.size = 10**17
    done = _fetch(server, tmp_path / "u.gz")
    assert done.returncode == 1
    assert "free; the file needs" in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/u.gz", "not a url", "http://nowhere.invalid/u.gz"])
def test_an_unreachable_url_is_one_line(url: str, tmp_path: Path):
    command = [sys.executable, str(SCRIPT), url, "-o", str(tmp_path / "u.gz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {url} cannot be reached")
    assert "Traceback" not in done.stderr


def test_a_checksum_without_an_algorithm_is_bad_usage(server: Server, tmp_path: Path):
    assert _fetch(server, tmp_path / "u.gz", "--checksum", "0123").returncode == 2
