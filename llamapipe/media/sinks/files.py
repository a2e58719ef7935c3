"""Outputs that appear under their final names only when they are complete."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from llamapipe.errors import OutputError, UsageError
from llamapipe.media.contract import SinkContext

__all__ = ["PendingFile", "PendingFolder", "target", "writing"]

_REASONS = {
    errno.ENOSPC: ("the disk is full", "make room, or choose another output folder"),
    errno.EDQUOT: ("the disk quota is used up", "make room, or choose another output folder"),
    errno.EFBIG: ("the file would be larger than allowed", "raise the file size limit (ulimit -f)"),
    errno.EACCES: ("permission denied", "choose an output folder that you may write to"),
    errno.EPERM: ("permission denied", "choose an output folder that you may write to"),
    errno.EROFS: ("the file system is read-only", "choose an output folder that you may write to"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another output folder"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter name"),
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says while ``path`` is written into an OutputError that names it."""
    try:
        yield
    except OSError as error:
        code = error.errno if error.errno is not None else 0
        reason, hint = _REASONS.get(code, (error.strerror or str(error), None))
        raise OutputError(f"cannot write {path}: {reason}", hint=hint) from error


def target(context: SinkContext, default_path: str) -> Path:
    """Final name of a sink's output: the spec's path or the sink's own, in the stream's output folder.

    Raises UsageError for a path that climbs out of the folder with "..", or without any folder to be in.
    """
    text = context.path if context.path else default_path
    pure = PurePath(text)
    if ".." in pure.parts:
        raise UsageError(
            f"sink path {text!r} leaves the output folder", hint="give a path inside it, or an absolute one"
        )
    if not pure.name:
        raise UsageError(f"sink path {text!r} names no file")
    if pure.is_absolute():
        return Path(pure)
    if context.directory is None:
        raise UsageError(f"sink path {text!r} needs an output folder", hint="give one with -o DIR")
    return context.directory / pure


def _refuse_used(path: Path, force: bool) -> None:
    if not os.path.lexists(path) or force:
        return
    raise OutputError(f"{path} is already there", hint="use --force to overwrite it, or another output folder")


class PendingFile:
    """A file under a hidden name beside its final one, until `commit`.

    The hidden file is locked, so that what a killed run left behind is taken over, while two writers of one
    name are refused. ``fd`` is open for reading and writing. With ``keep_bytes`` so much of what an earlier process
    has written is kept, be it still hidden or under its final name already; `abort` leaves it, too.
    Raises OutputError where the place cannot be written or, without ``force``, is taken.
    """

    def __init__(self, path: Path, *, force: bool = False, keep_bytes: int | None = None) -> None:
        self.path = path
        self._keep_bytes = keep_bytes
        self.partial = path.with_name(f".{path.name}.partial")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if keep_bytes is None:
                _refuse_used(path, force)
            elif not self.partial.exists() and path.is_file():
                os.replace(path, self.partial)
            if path.is_dir():
                raise OutputError(f"cannot write {path}: it is a folder", hint="choose another name")
            self.fd = self._open()
        self._open_now = True

    def _open(self) -> int:
        while True:
            fd = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(fd)
                raise OutputError(
                    f"{self.path} is being written by another sink or run", hint="give each its own name"
                ) from error
            except OSError:
                pass  # a file system without locks
            try:
                # Another writer may have renamed the file between open and lock: it would be its final file.
                if os.path.samestat(os.stat(self.partial), os.fstat(fd)):
                    return self._begun(fd)
            except FileNotFoundError:
                pass
            os.close(fd)

    def _begun(self, fd: int) -> int:
        size, keep_bytes = os.fstat(fd).st_size, self._keep_bytes or 0
        if size < keep_bytes:
            os.close(fd)
            raise OutputError(
                f"cannot go on with {self.path}: {size} bytes are there of {keep_bytes}", hint="begin anew with --force"
            )
        os.ftruncate(fd, keep_bytes)
        os.lseek(fd, keep_bytes, os.SEEK_SET)
        return fd

    def commit(self) -> Path:
        """Give the file its final name, which is returned."""
        with writing(self.path):
            try:
                os.replace(self.partial, self.path)
            except OSError:
                self.abort()
                raise
            self._close()
        return self.path

    def abort(self) -> None:
        """Remove the file; may be called twice, and after `commit`, which it leaves alone.

        One that was gone on with stays under its hidden name: it is not this process's alone.
        """
        if self._open_now:
            if self._keep_bytes is None:
                with suppress(OSError):
                    os.unlink(self.partial)
            self._close()

    def _close(self) -> None:
        if self._open_now:
            self._open_now = False
            os.close(self.fd)


class PendingFolder:
    """A folder under a hidden name beside its final one, until `commit`. Raises OutputError like `PendingFile`.

    With ``force`` an older folder is replaced only where every name in it matches ``ours``: nothing that
    another program put there is ever removed. ``go_on``: keep what an earlier process has written; `abort` leaves it.
    """

    def __init__(self, path: Path, ours: re.Pattern[str], *, force: bool = False, go_on: bool = False) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.partial")
        self._goes_on = go_on
        self._lock = PendingFile(path.with_name(f".{path.name}.lock"), force=True)
        try:
            with writing(path):
                if go_on and not self.partial.exists() and path.is_dir():
                    os.replace(path, self.partial)
                _refuse_used(path, force or go_on)
                if path.exists() and not path.is_dir():
                    raise OutputError(f"cannot write {path}: it is a file", hint="choose another name")
                foreign = [entry for entry in os.listdir(path) if not ours.fullmatch(entry)] if path.exists() else []
                if foreign:
                    raise OutputError(
                        f"cannot replace {path}: it holds {foreign[0]}, which is not from an earlier run",
                        hint="choose another name",
                    )
                if not go_on:
                    shutil.rmtree(self.partial, ignore_errors=True)
                self.partial.mkdir(parents=True, exist_ok=go_on)
        except BaseException:
            self._lock.abort()
            raise

    def commit(self) -> Path:
        """Give the folder its final name, which is returned; an older folder of that name is removed."""
        with writing(self.path):
            try:
                if self.path.is_dir():
                    shutil.rmtree(self.path)
                os.replace(self.partial, self.path)
            finally:
                self._lock.abort()
        return self.path

    def abort(self) -> None:
        """Remove the folder, unless it was gone on with; may be called twice."""
        if not self._goes_on:
            shutil.rmtree(self.partial, ignore_errors=True)
        self._lock.abort()
