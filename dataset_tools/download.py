"""`download`: fetches one file, goes on where a broken download stopped, checks size and sum."""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from recbole_slif.errors import ConfigError, DataError

from . import archives
from .progress import bar
from .writing import write_json

DESCRIPTION = """\
Fetch a file into a folder: by https (http only with --sum), or from a file: address. A broken
download goes on where it stopped, also in a later call. The file takes its name only once it is
whole and, where size or sum are known, right. No other command fetches data."""
EXAMPLES = """\
  python -m dataset_tools download https://example.org/reviews.json.gz --out raw \\
      --mirror https://mirror.example.org/reviews.json.gz --sum sha256:9f86d0...
  python -m dataset_tools download file:///mnt/usb/release.zip --out raw --unpack raw/release"""

_CHUNK = 256 << 10
_TIMEOUT = 60
_LONGEST_PAUSE = 60.0
_SUMS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Wanted:
    """What is known of a file before it is fetched.

    Attributes:
        size: Its bytes, if known.
        sum: `sha256:HEX` or another of md5, sha1, sha512, if known.
    """

    size: int | None = None
    sum: str | None = None


class _RetryError(Exception):
    """This try failed; another may not."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


class _WrongError(Exception):
    """This address does not give the file; another may."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `download`."""
    parser.add_argument("url", help="address of the file")
    parser.add_argument("--out", type=Path, required=True, help="folder for the file")
    parser.add_argument("--file", help="its name there; default: the address's last part")
    parser.add_argument(
        "--mirror", action="append", default=[], help="another address of the same file; repeatable"
    )
    parser.add_argument("--size", type=int, help="bytes it must have")
    parser.add_argument("--sum", help="its check sum, as sha256:HEX (or md5, sha1, sha512)")
    parser.add_argument(
        "--tries", type=int, default=5, help="for each address; default: %(default)s"
    )
    parser.add_argument("--unpack", type=Path, help="unpack the archive into this folder, safely")
    limits = archives.Limits()
    parser.add_argument(
        "--max-size", type=int, default=limits.size, help="bytes to unpack; default: %(default)s"
    )
    parser.add_argument(
        "--max-ratio",
        type=int,
        default=limits.ratio,
        help="unpacked to packed; default: %(default)s",
    )
    parser.add_argument(
        "--max-entries", type=int, default=limits.entries, help="files in it; default: %(default)s"
    )


def run(options: argparse.Namespace) -> None:
    """Carry out the command.

    Raises:
        ConfigError: An address or the check sum is not usable.
        DataError: No address gives the file.
    """
    name = options.file or _file_name(options.url)
    if name in ("", ".", "..") or Path(name).name != name:
        raise ConfigError(f"--file: '{name}' must be a plain file name")
    wanted = Wanted(options.size, options.sum)
    target = fetch([options.url, *options.mirror], options.out / name, wanted, options.tries)
    print(f"{target}: {target.stat().st_size:,} bytes")
    if options.unpack:
        limits = archives.Limits(options.max_size, options.max_entries, options.max_ratio)
        found = archives.unpack(target, options.unpack, limits)
        print(f"{options.unpack}: {len(found)} files unpacked")


def _file_name(url: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])


def fetch(
    urls: Sequence[str],
    target: Path,
    wanted: Wanted | None = None,
    tries: int = 5,
    pause: float = 1.0,
) -> Path:
    """Fetch a file unless it is there and right.

    Args:
        urls: Addresses of the same file, tried in order.
        target: Where it goes; what has come so far waits in `.NAME.part` beside it.
        wanted: Its size and check sum.
        tries: For each address; a try that brought new bytes is not counted.
        pause: Seconds before the second try; doubled for each further one.

    Returns:
        `target`.

    Raises:
        ConfigError: An address or the check sum is not usable.
        DataError: No address gives the file; the text says why for each.
    """
    wanted = wanted or Wanted()
    _check_sum_name(wanted.sum)
    for url in urls:
        _check_address(url, wanted)
    if target.exists():
        wrong = _fault(target, wanted)
        if wrong:
            raise DataError(f"{target} is there and {wrong}; move it away to fetch it again")
        return target
    part = _Part(target)
    reasons = []
    for url in urls:
        try:
            _persist(url, part, wanted, tries, pause)
            wrong = _fault(part.path, wanted)
            if not wrong:
                return part.finish()
            part.clear()
            raise _WrongError(wrong)
        except _WrongError as error:
            reasons.append(f"{url}: {error}")
        except OSError as error:
            raise DataError(f"{target} cannot be written ({error.strerror or error})") from error
    raise DataError(f"{target.name} could not be fetched ({'; '.join(reasons)})")


class _Part:
    """What has come of a file so far, and which version of which address it is."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.part")
        self._note = target.with_name(f".{target.name}.part.json")

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, url: str) -> str | None:
        """Return the mark of the version that the bytes are of, if they came from `url`."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return note["version"] if note["url"] == url and self.size else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin(self, url: str, version: str | None) -> None:
        """Forget what has come and note what comes now."""
        self.clear()
        write_json(self._note, {"url": url, "version": version})

    def clear(self) -> None:
        """Forget what has come."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> Path:
        """Give the file its name."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self._note.unlink(missing_ok=True)
        return self.target


def _persist(url: str, part: _Part, wanted: Wanted, tries: int, pause: float) -> None:
    """Try an address until the file is whole, or no try brings more."""
    failed = 0
    while True:
        before = part.size
        try:
            return _try(url, part, wanted)
        except _RetryError as error:
            failed = 1 if part.size > before else failed + 1
            if failed >= tries:
                raise _WrongError(f"{error} ({tries} tries)") from error
            wait = min(max(pause * 2 ** (failed - 1), error.pause), _LONGEST_PAUSE)
            print(f"{url}: {error}; again in {wait:.0f} s, at byte {part.size:,}")
            time.sleep(wait)


def _try(url: str, part: _Part, wanted: Wanted) -> None:
    version = part.version(url)
    start = part.size if version is not None else 0
    try:
        with _open(url, start, version) as answer:
            start, total = _where(answer, start)
            if wanted.size is not None and total is not None and total != wanted.size:
                raise _WrongError(f"has {total:,} bytes, not {wanted.size:,}")
            if not start:
                # With a check sum to come, bytes of a file without a mark can be gone on with.
                part.begin(url, _version(answer) or ("" if wanted.sum else None))
            _receive(answer, part, start, total)
    except urllib.error.HTTPError as error:
        _explain(error, part)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.filename == str(part.path):
            raise
        reason = getattr(error, "reason", None) or error
        raise _RetryError(" ".join(str(reason).split()) or type(error).__name__) from error


def _explain(error: urllib.error.HTTPError, part: _Part) -> None:
    if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.clear()
        raise _RetryError("the file there has changed") from error
    text = f"{error.code} {error.reason}"
    if error.code in (408, 425, 429) or error.code >= 500:
        after = error.headers.get("Retry-After", "")
        raise _RetryError(text, float(after) if after.isdecimal() else 0.0) from error
    raise _WrongError(text) from error


def _receive(answer: Any, part: _Part, start: int, total: int | None) -> None:
    with bar(total, part.target.name, start=start) as shown, part.path.open("ab") as file:
        file.truncate(start)
        while data := answer.read(_CHUNK):
            file.write(data)
            shown.update(len(data))
    if total is not None and part.size < total:
        raise _RetryError(f"the connection broke at byte {part.size:,} of {total:,}")
    if total is not None and part.size > total:
        part.clear()
        raise _WrongError(f"gave more than the {total:,} bytes it promised")


def _where(answer: Any, asked: int) -> tuple[int, int | None]:
    """Return at which byte the answer begins and how many the whole file has."""
    length = answer.headers.get("Content-Length")
    given = int(length) if length and length.isdecimal() else None
    partial = answer.headers.get("Content-Range", "")
    if getattr(answer, "status", None) != http.client.PARTIAL_CONTENT:
        return 0, given
    span, _, whole = partial.removeprefix("bytes ").partition("/")
    if span.partition("-")[0] != str(asked):
        raise _WrongError(f"answered with the range '{partial}', not from byte {asked:,}")
    return asked, int(whole) if whole.isdecimal() else None


def _version(answer: Any) -> str | None:
    """Return a mark by which a server knows whether the file is still the same."""
    tag = answer.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    return answer.headers.get("Last-Modified")


def _open(url: str, start: int, version: str | None) -> Any:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        return _LocalFile(Path(urllib.request.url2pathname(parts.path)), start, version)
    headers = {"Accept-Encoding": "identity", "User-Agent": "recbole_slif"}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": version} if version else {})
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - see _check_address
    return urllib.request.build_opener(_SafeRedirect).open(request, timeout=_TIMEOUT)


class _LocalFile:
    """A file on disk with the manners of an answer from a server."""

    def __init__(self, path: Path, start: int, version: str | None) -> None:
        try:
            found = path.stat()
            self._file: IO[bytes] = path.open("rb")
        except OSError as error:
            raise _WrongError(error.strerror or str(error)) from error
        mark = f"{found.st_size}-{found.st_mtime_ns}"
        begin = start if version == mark else 0
        self._file.seek(begin)
        self.status = http.client.PARTIAL_CONTENT if begin else http.client.OK
        size = found.st_size
        self.headers = {"Content-Length": str(size - begin), "Last-Modified": mark}
        if begin:
            self.headers["Content-Range"] = f"bytes {begin}-{size - 1}/{size}"

    def __enter__(self) -> _LocalFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        return self._file.read(size)


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to plain http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and scheme != urllib.parse.urlsplit(req.full_url).scheme:
            raise _WrongError(f"sends on to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str, wanted: Wanted) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise ConfigError(f"'{url}' is no address ({error})") from error
    if parts.scheme == "https" or (parts.scheme == "file" and not parts.netloc):
        return
    if parts.scheme != "http":
        raise ConfigError(f"'{url}' is neither an https: nor a file: address")
    if wanted.sum is None and host not in _LOOPBACK:
        raise ConfigError(f"'{url}' is not encrypted; give its check sum with --sum, or use https")


def _check_sum_name(text: str | None) -> None:
    if text is None:
        return
    name, _, value = text.lower().partition(":")
    digits = set(value) <= set("0123456789abcdef")
    if name not in _SUMS or len(value) != _SUMS[name] or not digits:
        raise ConfigError(f"--sum: '{text}' must look like sha256:HEX ({', '.join(_SUMS)})")


def _fault(path: Path, wanted: Wanted) -> str:
    """Return what is wrong with a file, or nothing."""
    size = path.stat().st_size
    if wanted.size is not None and size != wanted.size:
        return f"has {size:,} bytes, not {wanted.size:,}"
    if wanted.sum is None:
        return ""
    name, _, value = wanted.sum.lower().partition(":")
    with path.open("rb") as file, bar(size, f"check {path.name}") as shown:
        digest = hashlib.new(name)
        while data := file.read(_CHUNK):
            digest.update(data)
            shown.update(len(data))
        found = digest.hexdigest()
    return "" if found == value else f"has the {name} sum {found}, not {value}"
