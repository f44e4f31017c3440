"""A folder that every machine of a cluster sees, named by a URI: a path, an S3 prefix or a Google Cloud Storage prefix.

What pyarrow's file systems (https://arrow.apache.org/docs/python/filesystems.html) leave to the caller is settled here:
a file appears whole or not at all, a dead endpoint gives up in bounded time, a name cannot lead out of the folder, and
no credential reaches a message. No pyarrow until something is read or written: a plan only checks the URI.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from orchestrator.storage.names import checked, is_part, is_safe
from sr_models.command import EXIT_DONE, EXIT_FAILED, run_command
from sr_models.errors import InputError
from sr_models.files import FULL, replacing
from sr_models.params import nearest

CHECK_SECONDS = 20
"""How long a storage may take to show that it can be written."""

PAUSES = (0.5, 2.0, None)
"""Seconds to wait after each failed try; None: give up."""

_QUERY: dict[str, tuple[str, ...]] = {  # scheme -> the keys it takes behind the question mark
    "file": (),
    "s3": ("region", "endpoint_override", "scheme"),
    "gs": ("endpoint_override", "scheme", "project_id"),
}
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)  # another try at once is no use
_CHUNK = 16 * 2**20
_IN_MEMORY = 64 * 2**20

T = TypeVar("T")


class Listed(NamedTuple):
    """What a listing tells of one file: two versions of it differ in one of these."""

    size: int
    """Bytes."""
    mtime_ns: int
    """When it was written, by the storage's clock; S3 keeps whole seconds."""


class StorageAway(OSError):
    """A storage did not do what was asked; it may do so later."""

    where = ""
    """The storage, for people."""


class _OtherBytes(OSError):
    """It gave other bytes than those that were wanted."""


@dataclass(frozen=True, repr=False)
class Storage:
    """A folder by URI; make one with `Storage.parse`. Holds little but the URI, so it can be sent to other machines.

    Names of files are relative POSIX paths below it. A file system's `OSError` comes after three tries, as a
    `StorageAway`, and names the storage without its credentials; a full disk's comes at once, as it is.
    """

    uri: str
    """Canonical, credentials included: for `Storage` alone, never for a message, a log or a file."""
    anchor: str = ""
    """A folder of it that is known to be there, or ""."""

    @classmethod
    def parse(cls, text: str, where: str) -> Storage:
        """Read a URI or a plain path; nothing is opened.

            file:///mnt/runs    s3://bucket/prefix?region=eu-west-1    s3://KEY:SECRET@bucket?endpoint_override=HOST:PORT
            /mnt/runs           gs://bucket/prefix                     gs://anonymous@bucket/prefix

        The characters %, ?, # and @, and in a secret also /, are percent-encoded. Without KEY:SECRET the machine's own
        credentials are used, which is the better way: a URI is passed on to every worker.

        Args:
            where: what the text was given for; the message of a fault starts with it.

        Raises:
            InputError: unknown scheme or query key, no bucket, half a pair of credentials, a path that climbs.
        """
        if not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", text):
            if not text or "\0" in text:
                raise InputError(f"{where}: a folder or a URI (file://, s3://, gs://) is needed, got {text!r}")
            return cls(Path(text).expanduser().absolute().as_uri())
        if fault := _fault(text):
            secretive = re.search("[@?]", text)  # in a URI that is wrong, a secret may be anywhere
            shown = f"{text.partition(':')[0]}://..." if secretive else text
            raise InputError(f"{where}: {fault} (got {shown!r})")
        parts = urlsplit(text)
        return cls(parts._replace(path=parts.path.rstrip("/") or "/").geturl())

    @property
    def shown(self) -> str:
        """The URI with its credentials masked, for people."""
        _, at, bucket = self._parts.netloc.rpartition("@")
        return self._parts._replace(netloc=f"***@{bucket}").geturl() if at else self.uri

    @property
    def folder(self) -> Path | None:
        """The folder itself where the storage is one (`file://`), else None."""
        return Path(unquote(self._parts.path)) if self._parts.scheme == "file" else None

    @property
    def name(self) -> str:
        """The last part of its path, or the bucket."""
        return self._base.rstrip("/").rpartition("/")[2]

    def child(self, name: str) -> Storage:
        """The storage of a folder below this one.

        Raises:
            InputError: a name that could lead elsewhere.
        """
        path = f"{self._parts.path.rstrip('/')}/{quote(checked(name))}"
        return replace(self, uri=self._parts._replace(path=path).geturl())

    def anchored(self, name: str) -> Storage:
        """This storage, whose folder `name` is there: while it is not, a share (`file://`) is away, and not empty."""
        return self if self.folder is None else replace(self, anchor=str(self.folder / checked(name)))

    def check(self) -> None:
        """Write, read back and delete a small file, in a process that can be given up: a client's own retries can not.

        Raises:
            InputError: that failed, or took more than `CHECK_SECONDS`.
        """
        command = [sys.executable, "-m", "orchestrator.storage.uri"]
        try:  # by standard input, for a process list shows arguments to everyone
            done = subprocess.run(command, input=self.uri, capture_output=True, text=True, timeout=CHECK_SECONDS)
        except subprocess.TimeoutExpired:
            raise InputError(f"storage {self.shown} did not answer within {CHECK_SECONDS} s") from None
        if done.returncode:
            fault = (done.stderr.strip().splitlines() or [f"its check ended with {done.returncode}"])[-1]
            fault = self._hide(fault).replace(f" at {self.shown}", "")
            raise InputError(f"storage {self.shown} cannot be used: {fault}")

    def read(self, name: str) -> bytes | None:
        """A file's bytes, None if there is no such file."""

        def fetch() -> bytes | None:
            if (before := self._stat(name)) is None:
                return None
            with self._open(name) as stream:
                data: bytes = stream.read()
            self._check_unreplaced(name, before)
            return data

        return self._persist(f"reading {name!r}", fetch)

    def write(self, name: str, data: Any) -> None:
        """Make or replace a file, whole or not at all.

        Args:
            data: bytes, or anything else with the buffer protocol.
        """

        def put() -> None:
            if self.folder is not None:
                with replacing(self.folder / checked(name)) as part:
                    part.write_bytes(data)
            else:  # closing a stream makes a half object whole, so no Ctrl-C may come before the last byte
                with ThreadPoolExecutor(1) as undisturbed:
                    undisturbed.submit(self._send, self._key(name), memoryview(data)).result()

        self._persist(f"writing {name!r}", put)

    def upload(self, path: Path, name: str) -> None:
        """Make or replace a file from one on this machine, which must not shrink meanwhile if it is a large one.

        Raises:
            FileNotFoundError: there is no such file on this machine.
        """
        if path.stat().st_size <= _IN_MEMORY:  # may be a journal, which its writer cuts: fatal to a memory map
            self.write(name, path.read_bytes())
        else:
            import pyarrow as pa

            self.write(name, pa.memory_map(str(path)).read_buffer())

    def download(self, name: str, path: Path, *, sha256: str | None = None) -> bool:
        """Copy a file to this machine, whole or not at all; False if there is no such file.

        Args:
            sha256: what its bytes must have; others are a fault, and not kept.
        """

        def fetch() -> bool:
            if (before := self._stat(name)) is None:
                return False
            with replacing(path) as part:
                seen = hashlib.sha256()
                with self._open(name) as stream, part.open("wb") as file:
                    while chunk := stream.read(_CHUNK):
                        seen.update(chunk)
                        file.write(chunk)
                self._check_unreplaced(name, before)
                if sha256 is not None and seen.hexdigest() != sha256:
                    raise _OtherBytes(f"its sha256 is {seen.hexdigest()}, expected {sha256}")
            return True

        return self._persist(f"reading {name!r}", fetch)

    def names(self, prefix: str = "", *, recursive: bool = True) -> dict[str, Listed]:
        """Every file, or every file below the folder `prefix`, under its name in this storage; {} if there is none.

        Raises:
            InputError: a file there has a name that could lead out of a folder it is copied to.
        """
        base = self._key(prefix) if prefix else self._base

        def look() -> dict[str, Listed]:
            from pyarrow.fs import FileSelector, FileType

            selector = FileSelector(base, recursive=recursive, allow_not_found=True)
            found = [info for info in self._files.get_file_info(selector) if info.type == FileType.File]
            cut = len(self._base.rstrip("/")) + 1
            return {info.path[cut:]: Listed(info.size, info.mtime_ns) for info in found if not is_part(info.base_name)}

        listed = self._persist(f"listing {prefix or 'files'!r}", look)
        for name in listed:
            if not is_safe(name):
                raise InputError(
                    f"storage {self.shown} holds {name!r}, which is no path below a folder; delete it there"
                )
        return listed

    def stat(self, name: str) -> Listed | None:
        """What `names` tells of one file, None if there is no such file."""
        return self._persist(f"looking for {name!r}", lambda: self._stat(name))

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return self.stat(name) is not None

    def delete(self, name: str) -> None:
        """Delete a file; it is no fault if there is none."""

        def remove() -> None:
            if self._stat(name) is not None:
                self._files.delete_file(self._key(name))

        self._persist(f"deleting {name!r}", remove)

    def __repr__(self) -> str:
        return f"Storage({self.shown!r})"

    def __reduce__(self) -> tuple[type[Storage], tuple[str, str]]:
        return Storage, (self.uri, self.anchor)

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.uri)

    @cached_property
    def _base(self) -> str:
        """The folder as pyarrow wants it: a path, or bucket/prefix."""
        path = unquote(self._parts.path)
        return path if self.folder else f"{self._parts.netloc.rpartition('@')[2]}{path.rstrip('/')}"

    @cached_property
    def _files(self) -> Any:
        """The file system, opened at the first use."""
        from pyarrow import fs

        options: dict[str, Any] = dict(parse_qsl(self._parts.query))
        if "://" in options.get("endpoint_override", ""):
            options["scheme"], _, options["endpoint_override"] = options["endpoint_override"].partition("://")
        user, _, password = self._parts.netloc.rpartition("@")[0].partition(":")
        if self._parts.scheme == "file":
            return fs.LocalFileSystem()
        if self._parts.scheme == "gs":
            return fs.GcsFileSystem(anonymous=bool(user), retry_time_limit=timedelta(seconds=15), **options)
        if not {"region", "endpoint_override"} & set(options):
            options["region"] = fs.resolve_s3_region(self._parts.netloc.rpartition("@")[2])
        return fs.S3FileSystem(
            access_key=unquote(user) or None,
            secret_key=unquote(password) or None,
            connect_timeout=5,
            request_timeout=10,
            background_writes=True,  # the other way, a stream of which a part failed is made an object when it closes
            allow_delayed_open=True,  # one request a small file, not three
            **options,
        )

    def _key(self, name: str) -> str:
        return f"{self._base.rstrip('/')}/{checked(name)}"

    def _send(self, key: str, data: memoryview) -> None:
        with self._files.open_output_stream(key, compression=None) as stream:
            for start in range(0, len(data), _IN_MEMORY):
                stream.write(data[start : start + _IN_MEMORY])
                stream.flush()  # the stream copies what it sends: no more than this at a time

    def _open(self, name: str) -> Any:
        # Without the last argument a name that ends in .gz would be unpacked.
        return self._files.open_input_stream(self._key(name), compression=None)

    def _stat(self, name: str) -> Listed | None:
        from pyarrow.fs import FileType

        info = self._files.get_file_info(self._key(name))
        return Listed(info.size, info.mtime_ns) if info.type == FileType.File else None

    def _check_unreplaced(self, name: str, before: Listed) -> None:
        """An object is read in several requests; an open file stays the one it was."""
        if self.folder is None and self._stat(name) != before:
            raise OSError("it was replaced while it was read")

    def _persist(self, doing: str, action: Callable[[], T]) -> T:
        """Try three times; then one line that names the storage and holds no secret."""
        for pause in PAUSES:
            try:
                if self.anchor and not Path(self.anchor).is_dir():
                    raise FileNotFoundError(f"{self.anchor} is not there; is it mounted?")
                return action()
            except OSError as error:
                if error.errno in FULL:
                    raise
                fault = (str(error) or type(error).__name__).splitlines()[0]
                kind = OSError if isinstance(error, _OtherBytes) else StorageAway
                if pause is None or isinstance(error, _LASTING):
                    break
                time.sleep(pause)
        failed = kind(f"{doing} at {self.shown} failed: {self._hide(fault)}")
        if isinstance(failed, StorageAway):
            failed.where = self.shown
        raise failed

    def _hide(self, text: str) -> str:
        for secret in filter(None, self._parts.netloc.rpartition("@")[0].split(":")):
            for form in {secret, unquote(secret)}:
                text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", "***", text)
        return text


def _fault(text: str) -> str | None:
    """What is wrong with a URI, if anything; the text itself is not in the answer, for it may hold a secret."""
    scheme = text.partition(":")[0].lower()
    if scheme not in _QUERY:
        return f"unknown scheme {scheme!r}{nearest(scheme, tuple(_QUERY))}"
    head, _, rest = text.partition("://")
    if len(head) > len(scheme) or not rest:
        return f"a URI starts with {scheme}:// and names a folder"
    if re.search(r"[\x00-\x1f#\[\]]", text):
        return "control characters, '#' and brackets must be percent-encoded"
    parts = urlsplit(text)
    user, at, bucket = parts.netloc.rpartition("@")
    if scheme == "file" and (parts.netloc or parts.query):
        return "file:// takes an absolute path alone, as in file:///mnt/runs"
    if scheme != "file" and not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._-]*", bucket):
        return f"{scheme}:// is followed by the name of a bucket (a '/' in a secret is written %2F)"
    if scheme != "file" and "@" in parts.path + parts.query:  # else half of a secret could pass for a path
        return "an '@' behind the bucket must be written %40"
    if at and scheme == "s3" and not all(user.partition(":")):
        return "credentials are KEY:SECRET@"
    if at and scheme == "gs" and user != "anonymous":
        return "gs:// takes anonymous@ or nothing; credentials come from the environment"
    path = unquote(parts.path)[1:].rstrip("/")
    if path and not is_safe(path):
        return "a path must not hold '//', '.' or '..'"
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in _QUERY[scheme]:
            return f"unknown key {key!r}{nearest(key, _QUERY[scheme])}"
        if key == "endpoint_override" and not re.fullmatch(r"(https?://)?[\w.-]+(:\d+)?", value):
            return "endpoint_override is HOST:PORT, or http://HOST:PORT"
        if not re.fullmatch("https?" if key == "scheme" else ".+", value):
            return f"{key} has no such value"
    return None


def _probe(_argv: Sequence[str]) -> int:
    """Write, read back and delete a file in the storage whose URI comes by standard input."""
    storage, name, data = Storage(sys.stdin.read()), f"probe-{secrets.token_hex(8)}", secrets.token_bytes(64)
    try:
        storage.write(name, data)
        if storage.read(name) != data:
            raise OSError(f"{name} was written, but other bytes were read back")
        storage.delete(name)
    except OSError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE


if __name__ == "__main__":
    raise SystemExit(run_command("python -m orchestrator.storage", _probe, None))
