"""Where a shared storage lies: a file of this machine or a database, and how it is opened."""

from __future__ import annotations

import importlib.util
import os
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from recbole_slif.errors import ConfigError, SlifError, without_passwords

JOURNAL_ENDINGS = (".journal", ".log")
SQLITE_ENDINGS = (".db", ".sqlite", ".sqlite3")
_IN_FOLDER = "optuna.journal"
# dialect -> modules that speak it, each with the name SQLAlchemy knows it by
_DRIVERS = {
    "postgresql": (("psycopg", "psycopg"), ("psycopg2", "psycopg2")),
    "mysql": (("MySQLdb", "mysqldb"), ("pymysql", "pymysql")),
}
_INSTALL = {"postgresql": "pip install 'psycopg[binary]'", "mysql": "pip install pymysql"}
_WAIT_FOR_LOCK = 60.0
_WAITS = (0.2, 0.5, 1.0)
_SHORTEST_HIDDEN = 2  # shorter ones are parts of common words


@dataclass(frozen=True)
class Address:
    """A storage that processes, or machines, share.

    Attributes:
        journal: whether `place` is a journal file; else it is a database address of SQLAlchemy's.
        place: path or address, with its password.
    """

    journal: bool
    place: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The address without its password, for people and files."""
        return without_passwords(self.place)

    def hide(self, text: str) -> str:
        """Return a text without this address's password, wherever it stands in it."""
        text = without_passwords(text.replace(self.place, self.shown))
        user = self.place.partition("://")[2].rpartition("@")[0]
        secret = user.partition(":")[2]
        for form in (secret, unquote(secret)):
            text = text.replace(form, "***") if len(form) > _SHORTEST_HIDDEN else text
        return text

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


def read_address(text: str) -> Address:
    """Read what `--storage` names.

    Args:
        text: a path ending in `.db` or `.sqlite` (SQLite), one ending in `.journal` or `.log`, a
            folder (a journal file in it), or an address such as `postgresql://user@host/name`.

    Raises:
        ConfigError: it is none of these.
    """
    if "://" in text:
        return Address(False, _database(text))
    path = Path(text)
    if path.suffix in SQLITE_ENDINGS:
        return Address(False, f"sqlite:///{path.resolve()}")
    if path.suffix in JOURNAL_ENDINGS:
        return Address(True, str(path.resolve()))
    if path.is_dir() or text.endswith(("/", os.sep)):
        return Address(True, str(path.resolve() / _IN_FOLDER))
    raise ConfigError(
        f"--storage: '{text}' ends in none of {', '.join((*SQLITE_ENDINGS, *JOURNAL_ENDINGS))}, "
        "is no folder and no address such as postgresql://user@host/name"
    )


def _database(text: str) -> str:
    scheme, _, rest = text.partition("://")
    dialect, plus, _ = scheme.partition("+")
    dialect = {"postgres": "postgresql", "mariadb": "mysql"}.get(dialect, dialect)
    if dialect not in ("sqlite", *_DRIVERS):
        known = ", ".join(f"{name}://" for name in ("sqlite", *_DRIVERS))
        raise ConfigError(f"--storage: '{scheme}://' is none of {known}")
    if plus:
        return f"{dialect}{scheme[scheme.index('+') :]}://{rest}"
    for module, name in _DRIVERS.get(dialect, ()):
        if importlib.util.find_spec(module) is not None:
            return f"{dialect}+{name}://{rest}"
    return f"{dialect}://{rest}"


def load_optuna() -> Any:
    """Import Optuna, quiet but for warnings.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ConfigError(
            "a shared search or experiment needs optuna: pip install 'recbole-slif[search]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_storage(address: Address) -> Any:
    """Open a storage; what does not exist yet is made.

    Raises:
        ConfigError: Optuna or the database's driver is not installed.
        SlifError: the storage cannot be opened.
    """
    load_optuna()
    for wait in (*_WAITS, None):
        try:
            return _opened(address)
        except ImportError:
            dialect = address.place.partition(":")[0].partition("+")[0]
            raise ConfigError(
                f"--storage: the driver for {dialect} is not installed: {_INSTALL.get(dialect)}"
            ) from None
        except Exception as error:
            # of two processes that make the tables of a new database at once, one fails
            if wait is None:
                raise failure(address, error) from None
        time.sleep(wait)
    raise AssertionError("unreachable")


def _opened(address: Address) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features that Optuna calls experimental
        return _journal(address.place) if address.journal else _relational(address.place)


def _journal(place: str) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    Path(place).parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(place))


def _relational(place: str) -> Any:
    from optuna.storages import RDBStorage

    engine: dict[str, Any] = {"pool_pre_ping": True}
    if place.startswith("sqlite"):
        file = place.partition(":///")[2].partition("?")[0]
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        engine["connect_args"] = {"timeout": _WAIT_FOR_LOCK}
    return RDBStorage(place, engine_kwargs=engine)


def failure(address: Address, error: BaseException) -> SlifError:
    """Return one line that says what is wrong with a storage, without its password."""
    cause = error.__cause__ or error
    told = address.hide(" ".join(str(getattr(cause, "orig", None) or cause).split()))
    return SlifError(f"storage '{address.shown}' cannot be used: {told or type(cause).__name__}")
