"""The catalogue on disk: registered models, files built of them, and what every variant was measured to take.

One SQLite file a user, under ``catalogue`` in the cache; beside it the files, each under the digest of its bytes.
Rows of different machines lie side by side, told apart by `llamapipe.inference.hardware.fingerprint`.

Any number of processes may use it at once. Rows change in transactions of a write-ahead log, and a file has its name
only when it is whole, so that a crash at any moment leaves what was there before.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import msgspec
import numpy as np

from llamapipe.catalog import BatchPoint, Model, Profile, Variant
from llamapipe.clock import Clock, Env, SystemClock
from llamapipe.errors import AssetError, UsageError
from llamapipe.inference.assets import cache_root
from llamapipe.inference.hardware import fingerprint
from llamapipe.inference.verdicts import Verdict
from llamapipe.tune.signature import LIKE, VideoSignature, distance
from llamapipe.tune.tuning import Tuning

__all__ = ["ANY", "CatalogueStore", "KeptModel", "digest_of", "open_catalogue", "parts_of", "refined"]

ANY = "*"
"""In place of a machine's fingerprint: rows of all machines."""

_SCHEMA = 4  # 2: tunings; 3: verdicts; 4: ways
_TABLES = """
CREATE TABLE IF NOT EXISTS models (
    name TEXT PRIMARY KEY, body BLOB NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL,
    calibration TEXT NOT NULL, ground_truth TEXT NOT NULL, added_at_s REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS artifacts (
    model TEXT NOT NULL, key TEXT NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL,
    PRIMARY KEY (model, key)) STRICT;
CREATE TABLE IF NOT EXISTS profiles (
    variant TEXT NOT NULL, hardware TEXT NOT NULL, model TEXT NOT NULL, body BLOB NOT NULL, updated_at_s REAL NOT NULL,
    PRIMARY KEY (variant, hardware)) STRICT;
CREATE TABLE IF NOT EXISTS tunings (
    key TEXT NOT NULL, hardware TEXT NOT NULL, signature TEXT NOT NULL, body BLOB NOT NULL, updated_at_s REAL NOT NULL,
    PRIMARY KEY (key, hardware, signature)) STRICT;
CREATE TABLE IF NOT EXISTS verdicts (
    variant TEXT NOT NULL, hardware TEXT NOT NULL, model TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (variant, hardware)) STRICT;
CREATE TABLE IF NOT EXISTS ways (
    hardware TEXT NOT NULL, workers TEXT NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (hardware, workers)) STRICT;
"""
"""Made where they are not: a catalogue of an earlier version has all but the newest."""
_MAKING = ".build-"
_BUSY_S = 30.0  # how long another process's write is waited for

_ENOUGH = 16  # observations of one batch from which a 95th percentile can be told
_FLUSH_EVERY_S = 5.0
_LEAST_TRUST, _MOST_TRUST = 8, 256  # invocations that a measured point weighs, however few or many there were
_PREDICTED_TRUST = 2


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A registered model, with the file that the catalogue keeps of it."""

    model: Model
    file: Path
    sha256: str
    calibration: Path | None = None  # video or folder of pictures that is like what the model will see
    ground_truth: Path | None = None  # labels of the calibration video


def open_catalogue(env: Env, *, hardware: str | None = None, clock: Clock | None = None) -> CatalogueStore:
    """The user's catalogue, made where there is none. Raises AssetError where it cannot be had."""
    return CatalogueStore(cache_root(env), hardware=hardware, clock=clock)


class CatalogueStore:
    """See the module. May be used by several threads; a context manager. ``root`` is the cache's folder."""

    def __init__(self, root: Path, *, hardware: str | None = None, clock: Clock | None = None) -> None:
        import sqlite3

        self.folder = root / "catalogue"
        self.hardware = hardware if hardware is not None else fingerprint()
        self._clock = clock if clock is not None else SystemClock()
        self._lock = threading.RLock()
        self._observed: dict[tuple[str, int], list[float]] = {}
        self._flushed_at_s = self._clock.now_s()
        self._closed = False
        path = self.folder / "catalogue.sqlite"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._alone():  # two processes that switch to the write-ahead log at once do not wait for each other
                self._database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
                try:
                    self._prepare()
                except BaseException:
                    self._database.close()
                    raise
        except OSError as error:
            raise AssetError(
                f"catalogue {path} cannot be made: {(error.strerror or str(error)).lower()}",
                hint="name another folder in LLAMAPIPE_CACHE",
            ) from error
        except sqlite3.Error as error:
            raise AssetError(
                f"catalogue {path} cannot be read: {error}",
                hint=f"delete {self.folder}: models have to be registered and measured again",
            ) from error

    def __enter__(self) -> CatalogueStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what was observed, and let go of the file. May be called twice."""
        with self._lock:
            if not self._closed:
                try:
                    self.flush()
                finally:
                    self._closed = True
                    self._database.close()

    # Profiles

    def profiles(self, model: str | None = None, task: str | None = None, hardware: str | None = None) -> list[Profile]:
        """What is known of variants, in order of their names. ``hardware`` None: of this machine; `ANY`: of all."""
        hardware = self.hardware if hardware is None else hardware
        rows = self._rows(
            "SELECT body FROM profiles WHERE (? = '*' OR hardware = ?) AND (? IS NULL OR model = ?)"
            " ORDER BY variant, hardware",
            (hardware, hardware, model, model),
        )
        found = [msgspec.json.decode(body, type=Profile) for (body,) in rows]
        return found if task is None else [profile for profile in found if task in profile.tasks]

    def profile(self, variant: str, hardware: str | None = None) -> Profile | None:
        """What is known of the variant of a name."""
        rows = self._rows(
            "SELECT body FROM profiles WHERE variant = ? AND hardware = ?", (variant, hardware or self.hardware)
        )
        return msgspec.json.decode(rows[0][0], type=Profile) if rows else None

    def put(self, *profiles: Profile) -> None:
        """Keep profiles, all or none, each in place of what was known of its variant on its machine."""
        with self._changing():
            for profile in profiles:
                self._put(profile)

    def observe(self, variant: str, batch: int, seconds: float) -> None:
        """Tell that an invocation of ``batch`` items took this long; refines the variant's profile in time.

        Cheap: observations are gathered and written a few at a time. Tell only of invocations that had their cores to
        themselves: others say nothing of the variant.
        """
        with self._lock:
            self._observed.setdefault((variant, batch), []).append(seconds)
            if self._clock.now_s() - self._flushed_at_s >= _FLUSH_EVERY_S:
                self.flush(wait=False, least=_ENOUGH)

    def flush(self, *, wait: bool = True, least: int = 1) -> None:
        """Write what was observed of batches with at least so many observations.

        Without ``wait``, nothing happens while another process writes: what was observed is written the next time.
        """

        with self._lock:
            self._flushed_at_s = self._clock.now_s()
            ripe = {key: seen for key, seen in self._observed.items() if len(seen) >= least}
            if not ripe:
                return
            self._database.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1000) if wait else 0}")
            try:
                with self._changing():
                    for variant in sorted({variant for variant, _ in ripe}):
                        profile = self.profile(variant)
                        for (name, batch), seen in sorted(ripe.items()):
                            if name == variant and profile is not None:
                                profile = refined(profile, batch, seen)
                        if profile is not None:  # else nobody has measured it yet: there is nothing to refine
                            self._put(profile)
            except AssetError:
                if wait:
                    raise
                return
            finally:
                self._database.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1000)}")
            for key in ripe:
                del self._observed[key]

    # Tunings

    def tunings(self, key: str) -> list[Tuning]:
        """What was found for videos under a key on this machine, the latest first. What cannot be read is left out."""
        rows = self._rows(
            "SELECT body FROM tunings WHERE key = ? AND hardware = ? ORDER BY updated_at_s DESC", (key, self.hardware)
        )
        found: list[Tuning] = []
        for (body,) in rows:
            with contextlib.suppress(msgspec.ValidationError):  # of another version: it is searched again
                found.append(msgspec.json.decode(body, type=Tuning))
        return found

    def put_tuning(self, key: str, tuning: Tuning) -> None:
        """Keep a tuning, in place of those of videos that are alike."""
        mine = tuning.signature
        with self._changing():
            for (body,) in self._rows(
                "SELECT signature FROM tunings WHERE key = ? AND hardware = ?", (key, self.hardware)
            ):
                if distance(msgspec.json.decode(body, type=VideoSignature), mine) <= LIKE:
                    self._database.execute(
                        "DELETE FROM tunings WHERE key = ? AND hardware = ? AND signature = ?",
                        (key, self.hardware, body),
                    )
            self._database.execute(
                "INSERT OR REPLACE INTO tunings VALUES (?, ?, ?, ?, ?)",
                (
                    key,
                    self.hardware,
                    msgspec.json.encode(mine).decode(),
                    msgspec.json.encode(tuning),
                    self._clock.wall_s(),
                ),
            )

    # Queries

    def way_s(self, workers: str) -> float | None:
        """What 99 of 100 queries took beside their invocations on this machine; None: there were not enough yet."""
        rows = self._rows("SELECT seconds FROM ways WHERE hardware = ? AND workers = ?", (self.hardware, workers))
        return float(rows[0][0]) if rows else None

    def put_way(self, workers: str, seconds: float) -> None:
        """Keep what the queries of a session have shown, which began with what was known."""
        with self._changing():
            self._database.execute("INSERT OR REPLACE INTO ways VALUES (?, ?, ?)", (self.hardware, workers, seconds))

    # Models

    def models(self) -> list[Model]:
        """Registered models, in the order of registration."""
        return [kept.model for kept in self.kept_models()]

    def kept_models(self) -> list[KeptModel]:
        """Registered models with their files, in the order of registration."""
        rows = self._rows(
            "SELECT body, file, sha256, calibration, ground_truth FROM models ORDER BY added_at_s, name", ()
        )
        return [self._kept(row) for row in rows]

    def kept_model(self, name: str) -> KeptModel | None:
        """The registered model of a name."""
        rows = self._rows("SELECT body, file, sha256, calibration, ground_truth FROM models WHERE name = ?", (name,))
        return self._kept(rows[0]) if rows else None

    def add_model(
        self,
        model: Model,
        file: Path,
        sha256: str,
        *,
        calibration: Path | None = None,
        ground_truth: Path | None = None,
    ) -> KeptModel:
        """Keep a model and a copy of its file (see `digest_of`). The same again changes nothing.

        Of a model that is there already, with the same file read in the same way, all else is brought up to date.
        Raises UsageError where another model has the name.
        """
        with self._alone(), self._changing():
            there = self.kept_model(model.name)
            if there is not None and (there.sha256 != sha256 or _reading(there.model) != _reading(model)):
                raise UsageError(
                    f"model name {model.name} is taken by another registered model",
                    hint=f"give another name, or first: llamapipe models remove {model.name}",
                )
            kept_file = self._copied(file, sha256)
            self._database.execute(
                "INSERT INTO models VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body,"
                " file = excluded.file, calibration = excluded.calibration, ground_truth = excluded.ground_truth",
                (
                    model.name,
                    msgspec.json.encode(model),
                    str(kept_file.relative_to(self.folder)),
                    sha256,
                    str(calibration.resolve()) if calibration is not None else "",
                    str(ground_truth.resolve()) if ground_truth is not None else "",
                    self._clock.wall_s(),
                ),
            )
        kept = self.kept_model(model.name)
        assert kept is not None
        return kept

    def remove(self, model: str) -> bool:
        """Forget a model, its profiles on every machine, and the files that no other model needs."""
        with self._alone():
            with self._changing():
                changed = sum(
                    self._database.execute(statement, (model,)).rowcount
                    for statement in (
                        "DELETE FROM models WHERE name = ?",
                        "DELETE FROM artifacts WHERE model = ?",
                        "DELETE FROM profiles WHERE model = ?",
                        "DELETE FROM verdicts WHERE model = ?",
                    )
                )
            self._delete_unneeded()  # when the rows are gone for good: a crash in between leaves files, not rows
        return changed > 0

    # Verdicts

    def verdict(self, variant: Variant) -> Verdict | None:
        """What came of building a variant on this machine; None where that was not done, or by another version."""
        rows = self._rows("SELECT body FROM verdicts WHERE variant = ? AND hardware = ?", (variant.name, self.hardware))
        with contextlib.suppress(msgspec.ValidationError, msgspec.DecodeError):
            return msgspec.msgpack.decode(rows[0][0], type=Verdict) if rows else None
        return None

    def put_verdict(self, verdict: Verdict, *profiles: Profile) -> None:
        """Keep what came of building a variant, and the profiles that say so; all or none."""
        with self._changing():
            for profile in profiles:
                self._put(profile)
            self._database.execute(
                "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)",
                (verdict.variant.name, self.hardware, verdict.variant.model, msgspec.msgpack.encode(verdict)),
            )

    # Built files

    @contextlib.contextmanager
    def workplace(self) -> Iterator[Path]:
        """A folder for files in the making, gone afterwards. Those of processes that were killed go as well."""
        with contextlib.ExitStack() as stack:
            with self._alone():
                for left in self.folder.glob(f"{_MAKING}*"):
                    if _let_go(left / ".lock"):
                        shutil.rmtree(left, ignore_errors=True)
                made = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder, prefix=_MAKING)))
                held = stack.enter_context((made / ".lock").open("a"))
                fcntl.flock(held, fcntl.LOCK_EX)
            yield made

    def artifact(self, model: str, key: str) -> Path | None:
        """The file built of a model under a key, "int8/416x416"; None where there is none."""
        rows = self._rows("SELECT file FROM artifacts WHERE model = ? AND key = ?", (model, key))
        path = self.folder / rows[0][0] if rows else None
        return path if path is not None and path.is_file() else None

    def artifacts(self, model: str) -> dict[str, Path]:
        """All files built of a model, by key."""
        rows = self._rows("SELECT key, file FROM artifacts WHERE model = ? ORDER BY key", (model,))
        return {key: self.folder / file for key, file in rows if (self.folder / file).is_file()}

    def add_artifact(self, model: str, key: str, path: Path, sha256: str) -> Path:
        """Keep a copy of a built file (see `digest_of`), in place of the one there was; returns where it is kept."""
        with self._alone(), self._changing():
            kept = self._copied(path, sha256)
            self._database.execute(
                "INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?)",
                (model, key, str(kept.relative_to(self.folder)), sha256),
            )
        return kept

    def remove_artifact(self, model: str, key: str) -> None:
        """Forget a built file, if there is one."""
        with self._alone():
            with self._changing():
                self._database.execute("DELETE FROM artifacts WHERE model = ? AND key = ?", (model, key))
            self._delete_unneeded()

    def _copied(self, path: Path, sha256: str) -> Path:
        """Copy a file, and what belongs to it, under its digest. Raises AssetError where its bytes are others.

        Called in a change of its own (`_alone`), so that what no row names was left by a process that died.
        """
        target = self.folder / "files" / sha256[:16]
        try:
            if (target / path.name).is_file() and digest_of(target / path.name) == sha256:
                return target / path.name
            target.parent.mkdir(exist_ok=True)
            self._delete_unneeded()
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-", ignore_cleanup_errors=True) as made:
                for part in parts_of(path):
                    _copy(part, Path(made) / part.name)
                got = digest_of(Path(made) / path.name)
                if got != sha256:
                    raise AssetError(
                        f"{path}: expected sha256 {sha256}, got {got}", hint="did the file change meanwhile?"
                    )
                if target.is_dir():  # the same bytes under another name, or bytes that were damaged here
                    for part in parts_of(path):
                        os.replace(Path(made) / part.name, target / part.name)
                else:
                    os.replace(made, target)
        except OSError as error:
            raise AssetError(
                f"{path} cannot be kept in {target}: {(error.strerror or str(error)).lower()}",
                hint="is there space left? LLAMAPIPE_CACHE names another folder",
            ) from error
        return target / path.name

    def _delete_unneeded(self) -> None:
        rows = self._rows("SELECT file FROM models UNION SELECT file FROM artifacts", ())
        needed = {Path(file).parts[1] for (file,) in rows}
        for folder in (self.folder / "files").glob("*"):
            if folder.name not in needed:
                shutil.rmtree(folder, ignore_errors=True)

    def _prepare(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")  # a power cut may undo the last writes, never half of one
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA:
            raise AssetError(
                f"catalogue {self.folder} was written by a newer llamapipe (version {version}, expected {_SCHEMA})",
                hint="update llamapipe, or name another folder in LLAMAPIPE_CACHE",
            )
        if version < _SCHEMA:
            self._database.executescript(f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version = {_SCHEMA};COMMIT;")

    def _put(self, profile: Profile) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO profiles VALUES (?, ?, ?, ?, ?)",
            (
                profile.variant.name,
                profile.hardware,
                profile.variant.model,
                msgspec.json.encode(profile),
                self._clock.wall_s(),
            ),
        )

    def _kept(self, row: Sequence[Any]) -> KeptModel:
        body, file, sha256, calibration, truth = row
        return KeptModel(
            msgspec.json.decode(body, type=Model),
            self.folder / file,
            sha256,
            Path(calibration) if calibration else None,
            Path(truth) if truth else None,
        )

    def _rows(self, statement: str, values: Sequence[Any]) -> list[Any]:
        with self._lock, self._told():
            return self._database.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """A transaction that no other process writes beside."""
        import sqlite3

        with self._lock, self._told():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # where it was rolled back already, the reason is another
                    self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What the database refuses, as an AssetError."""
        import sqlite3

        try:
            yield
        except sqlite3.DatabaseError as error:
            damaged = not isinstance(error, sqlite3.OperationalError)
            raise AssetError(
                f"catalogue {self.folder / 'catalogue.sqlite'} cannot be used: {error}",
                hint=f"delete {self.folder}: models have to be registered and measured again"
                if damaged
                else "is the disk full, or does another process hold it?",
            ) from error

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process copies or deletes files meanwhile. The lock ends with its holder, however that ends."""
        with self._lock, (self.folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def parts_of(path: Path) -> tuple[Path, ...]:
    """A network's file, and the weights that lie beside it under its name: ``.bin`` of an ``.xml``, ``.onnx.data``."""
    beside = (path.with_suffix(".bin"),) if path.suffix.lower() == ".xml" else (path.with_name(f"{path.name}.data"),)
    return (path, *(part for part in beside if part.is_file()))


def digest_of(path: Path) -> str:
    """Sha256 of a file, and of what belongs to it (see `parts_of`)."""
    digest = hashlib.sha256()
    for part in parts_of(path):
        with part.open("rb") as data:
            while chunk := data.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _let_go(lock: Path) -> bool:
    """Whether nobody holds a lock any more: it ends with its holder, however that ends."""
    try:
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # killed before it had one
        return True
    return True


def _reading(model: Model) -> tuple[object, ...]:
    """What decides how a network's file is read."""
    return model.decoder, model.labels, model.format, model.input_sizes


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as data, target.open("wb") as out:
        shutil.copyfileobj(data, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())  # a row must not outlive, in a power cut, the file that it names


def refined(profile: Profile, batch: int, seconds: Sequence[float]) -> Profile:
    """The profile after invocations of one batch that took so long, smoothed exponentially.

    A point weighs as many invocations as it was measured by, within bounds: a few observations do not overturn a
    measurement, and an old measurement is forgotten in the end. Too few to tell a 95th percentile leave that as it is.
    """
    if batch < 1 or not seconds:
        return profile
    middle, num = median(seconds), len(seconds)
    if not profile.points or batch > profile.max_batch:
        if num < _ENOUGH:
            return profile
        work = profile.points[-1].core_s / profile.points[-1].median_s if profile.points else profile.variant.threads
        point = BatchPoint(batch, middle, float(np.percentile(seconds, 95)), middle * work, num)
    else:
        old = profile.point(batch)
        trust = min(max(old.count, _LEAST_TRUST), _MOST_TRUST) if old.count else _PREDICTED_TRUST
        share = num / (num + trust)
        new_median = old.median_s + share * (middle - old.median_s)
        p95 = old.p95_s + share * (float(np.percentile(seconds, 95)) - old.p95_s) if num >= _ENOUGH else old.p95_s
        moved = middle / old.median_s - 1 if old.count and old.median_s else 0.0
        spread = float(np.sqrt((1 - share) * (old.spread**2 + share * moved**2)))
        point = BatchPoint(
            batch, new_median, max(p95, new_median), old.core_s, old.count + num, spread, old.peak_memory_bytes
        )
    others = [other for other in profile.points if other.batch != batch]
    return msgspec.structs.replace(profile, points=tuple(sorted((*others, point), key=lambda point: point.batch)))
