"""Download UniRef50 (11 GB), or another large file: resumes after any interruption, checks space and checksum.

    python tools/fetch_uniref50.py -o data/uniref50.fasta.gz
    python tools/fetch_uniref50.py https://example.org/proteins.fasta.gz --checksum md5:0123… -o proteins.fasta.gz

Needs nothing but Python. What has arrived lies in FILE.part until it is whole; the same command goes on from there.
Without --checksum the one in RELEASE.metalink beside the file is used, where there is one (UniProt has them).
"""

import argparse
import hashlib
import http.client
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

UNIREF50 = "https://ftp.uniprot.org/pub/databases/uniprot/uniref/uniref50/uniref50.fasta.gz"
METALINK = "{http://www.metalinker.org/}"
TIMEOUT_S = 60
PIECE_BYTES = 1 << 20
SPARE_BYTES = 1 << 28


class FetchError(Exception):
    """What the user can mend: a message, and a hint."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Remote:
    """The file on the server. `version` is its ETag or date: another one means other content."""

    url: str
    size_bytes: int | None
    version: str | None


def main() -> int:
    options = parse_arguments()
    try:
        fetch(options.url, options.output, checksum=options.checksum, patience=options.patience)
    except FetchError as e:
        print(f"error: {e}", file=sys.stderr)
        if e.hint:
            print(f"hint: {e.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command resumes here", file=sys.stderr)
        return 130
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="?", default=UNIREF50, help="default: the current UniRef50 of UniProt")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the file goes")
    parser.add_argument("--checksum", type=checksum_argument, help="ALGORITHM:HEX, such as md5:… or sha256:…")
    parser.add_argument(
        "--patience", type=int, default=10, help="tries without any progress before giving up"
    )
    return parser.parse_args()


def checksum_argument(text: str) -> str:
    algorithm, colon, value = text.partition(":")
    if not colon or algorithm not in hashlib.algorithms_available or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not like md5:… or sha256:…")
    return f"{algorithm}:{value.lower()}"


def fetch(url: str, output: Path, *, checksum: str | None, patience: int) -> None:
    """Download to `output`; a whole file that is there already is only checked.

    Raises:
        FetchError: no such file, no space, a wrong checksum, or no progress for `patience` tries.
    """
    remote = query_remote(url)
    checksum = checksum or query_checksum(url)
    if output.exists():
        require_whole(output, remote, checksum)
        print(f"{output} is there already")
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    part = resume_or_start(output, remote)
    require_space(part, remote)
    download(remote, part, patience)
    require_whole(part, remote, checksum)
    os.replace(part, output)
    state_file(part).unlink()
    print(f"{output}: {output.stat().st_size:,} bytes, {checksum or 'no checksum known; size as announced'}")


def query_remote(url: str) -> Remote:
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            size = answer.headers.get("Content-Length")
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            return Remote(url, int(size) if size else None, version)
    except urllib.error.HTTPError as e:
        raise FetchError(f"{url}: the server says {e.code} {e.reason}") from e
    except (OSError, ValueError) as e:
        reason = getattr(e, "reason", e)
        raise FetchError(f"{url} cannot be reached: {reason}", "is a proxy needed? set https_proxy") from e


def query_checksum(url: str) -> str | None:
    """The checksum in the metalink beside the file, if there is one."""
    try:
        with urllib.request.urlopen(urljoin(url, "RELEASE.metalink"), timeout=TIMEOUT_S) as answer:
            return parse_metalink(answer.read(), Path(urlsplit(url).path).name)
    except OSError:
        return None  # not every server has one: the caller says that none is known


def parse_metalink(document: bytes, name: str) -> str | None:
    """`md5:…` of the file `name`."""
    try:
        root = ElementTree.fromstring(document)
    except ElementTree.ParseError:
        return None
    for file in root.iter(f"{METALINK}file"):
        for value in file.iter(f"{METALINK}hash"):
            if file.get("name") == name and value.get("type") == "md5" and value.text:
                return f"md5:{value.text.strip().lower()}"
    return None


def state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def resume_or_start(output: Path, remote: Remote) -> Path:
    """The partial file: what is there of the same version on the server, or an empty one."""
    part = output.with_name(f"{output.name}.part")
    state = state_file(part)
    expected = asdict(remote)
    try:
        same = json.loads(state.read_text()) == expected and remote.version is not None
    except (FileNotFoundError, json.JSONDecodeError):
        same = False
    if not (same and part.exists()):
        part.write_bytes(b"")
        state.write_text(json.dumps(expected))
    elif part.stat().st_size:
        print(f"going on after {part.stat().st_size:,} bytes", file=sys.stderr)
    return part


def require_space(part: Path, remote: Remote) -> None:
    """Raise FetchError if the rest of the file does not fit."""
    free = shutil.disk_usage(part.parent).free
    needed = (remote.size_bytes or 0) - part.stat().st_size
    if free < needed + (SPARE_BYTES if remote.size_bytes else 0):
        raise FetchError(
            f"{part.parent} has {free / 1e9:.1f} GB free; the file needs {needed / 1e9:.1f} GB more",
            "choose another folder with -o",
        )


def download(remote: Remote, part: Path, patience: int) -> None:
    """Append to `part` until it is whole, through as many connections as it takes."""
    failures = 0
    progress = Progress(remote.size_bytes)
    while remote.size_bytes is None or part.stat().st_size < remote.size_bytes:
        before = part.stat().st_size
        reason = receive(remote, part, progress)
        if reason is None and remote.size_bytes is None:
            return
        failures = 0 if part.stat().st_size > before else failures + 1
        if failures >= patience:
            raise FetchError(f"{remote.url}: {reason}", "the same command resumes here")
        if reason:
            time.sleep(min(2**failures, 60) / 10)


def receive(remote: Remote, part: Path, progress: "Progress") -> str | None:
    """Append what one connection brings; why it ended too early, or None."""
    have = part.stat().st_size
    headers = {"Range": f"bytes={have}-", "If-Range": remote.version or ""} if have else {}
    try:
        request = urllib.request.Request(remote.url, headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer, part.open("ab") as file:
            if have and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                file.truncate(0)  # the server cannot resume, or has another version now
            while piece := answer.read(PIECE_BYTES):
                file.write(piece)
                progress.show(file.tell())
            file.flush()
            os.fsync(file.fileno())
        return None if remote.size_bytes in (None, part.stat().st_size) else "the connection was closed early"
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as e:
        return str(getattr(e, "reason", e)) or type(e).__name__
    except OSError as e:
        raise FetchError(f"{part}: {e.strerror}", "the same command resumes here") from e


class Progress:
    """A line on stderr: rate and time left. On a terminal it is overwritten; in a log there is one a minute."""

    def __init__(self, total_bytes: int | None) -> None:
        self._total_bytes = total_bytes
        self._start = self._shown = time.monotonic()
        self._first: int | None = None

    def show(self, count: int) -> None:
        now = time.monotonic()
        self._first = count if self._first is None else self._first
        if now - self._shown < (1 if sys.stderr.isatty() else 60):
            return
        self._shown = now
        rate = max((count - self._first) / (now - self._start), 1.0)
        left = f", {(self._total_bytes - count) / rate / 60:.0f} min left" if self._total_bytes else ""
        end = "\r" if sys.stderr.isatty() else "\n"
        print(f"{count / 1e9:.2f} GB, {rate / 1e6:.1f} MB/s{left}   ", end=end, file=sys.stderr, flush=True)


def require_whole(path: Path, remote: Remote, checksum: str | None) -> None:
    """Raise FetchError unless size and checksum are right; a partial file with a wrong one is removed."""
    size = path.stat().st_size
    if remote.size_bytes not in (None, size):
        raise FetchError(
            f"{path} has {size:,} bytes, the file on the server {remote.size_bytes:,}", "move it away"
        )
    if checksum is None:
        return
    algorithm, _, expected = checksum.partition(":")
    with path.open("rb") as file:
        seen = hashlib.file_digest(file, algorithm).hexdigest()
    if seen != expected:
        if path.suffix == ".part":
            path.unlink()
            state_file(path).unlink()
        raise FetchError(
            f"{path} has {algorithm} {seen} instead of {expected}", "start again: it was damaged"
        )


if __name__ == "__main__":
    sys.exit(main())
