"""Addresses are read as what they are; no password leaves them."""

import builtins
import importlib.util
import sys

import pytest

from recbole_slif.console import guarded
from recbole_slif.errors import ConfigError, SlifError, without_passwords
from recbole_slif.sharing import address as module
from recbole_slif.sharing.address import open_storage, read_address

SECRET = "s3cr%40et"  # noqa: S105 - nobody's


@pytest.mark.parametrize("name", ["a.db", "a.sqlite", "deep/a.sqlite3"])
def test_sqlite_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    found = read_address(name)
    assert not found.journal
    assert found.place == f"sqlite:///{tmp_path / name}"
    storage = open_storage(found)
    assert storage.get_all_studies() == []
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize(
    ("name", "file"),
    [("a.journal", "a.journal"), ("a.log", "a.log"), (".", "optuna.journal"),
     ("new/", "new/optuna.journal")],
)  # fmt: skip
def test_journals(tmp_path, monkeypatch, name, file):
    monkeypatch.chdir(tmp_path)
    found = read_address(name)
    assert found.journal
    open_storage(found)
    assert (tmp_path / file).is_file()


@pytest.mark.parametrize(
    ("text", "present", "wanted"),
    [
        ("postgresql://me@h/d", ("psycopg",), "postgresql+psycopg://me@h/d"),
        ("postgresql://me@h/d", ("psycopg2",), "postgresql+psycopg2://me@h/d"),
        ("postgres://me@h/d", (), "postgresql://me@h/d"),
        ("postgresql+psycopg2://me@h/d", ("psycopg",), "postgresql+psycopg2://me@h/d"),
        ("mysql://me@h/d", ("pymysql",), "mysql+pymysql://me@h/d"),
        ("mariadb+pymysql://me@h/d", (), "mysql+pymysql://me@h/d"),
        ("sqlite:////tmp/a", (), "sqlite:////tmp/a"),
    ],
)
def test_database_addresses_take_the_driver_that_is_there(monkeypatch, text, present, wanted):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in present or None)
    assert read_address(text).place == wanted


@pytest.mark.parametrize("text", ["a.txt", "redis://host", "mongodb://a:b@c/d"])
def test_other_addresses_are_refused(text):
    with pytest.raises(ConfigError, match="--storage") as caught:
        read_address(text)
    assert ":b@" not in str(caught.value)


def test_missing_optuna_and_drivers_are_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name.split(".")[0] in gone:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    gone = {"psycopg2"}
    with pytest.raises(ConfigError, match=r"driver for postgresql .* pip install 'psycopg"):
        open_storage(read_address("postgresql+psycopg2://me@localhost/d"))
    gone = {"optuna"}
    with pytest.raises(ConfigError, match=r"pip install 'recbole-slif\[search\]'"):
        open_storage(read_address(str(tmp_path / "a.db")))


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://me:{SECRET}@host/d",
        f"mysql+pymysql://me:{SECRET}@host:3306/d?charset=utf8",
        f"cannot open postgresql://me:{SECRET}@host/d, really",
        f"postgresql://host/d?user=me&password={SECRET}&sslmode=off",
        f"postgresql://me:{SECRET}:@/x@host/d",
    ],
)
def test_passwords_are_hidden(text):
    shown = without_passwords(text)
    assert SECRET not in shown
    assert "***" in shown
    assert "host" in shown


def test_what_is_no_password_stays():
    for text in ("sqlite:////tmp/a.db", "https://x.org/a", "a: b@c", "postgresql://me@host/d"):
        assert without_passwords(text) == text


def test_no_error_shows_the_password(monkeypatch, capsys):
    found = read_address(f"mysql+pymysql://me:{SECRET}@localhost:1/d")
    assert SECRET not in repr(found)
    assert "***" in repr(found)

    def fail(address):
        raise RuntimeError(f"bad {address.place}, password was s3cr@et or {SECRET}")

    monkeypatch.setattr(module, "_opened", fail)
    monkeypatch.setattr(module, "_WAITS", ())
    with pytest.raises(SlifError) as caught:
        open_storage(found)
    assert "me:***@localhost" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "s3cr@et" not in str(caught.value)
    assert caught.value.__suppress_context__

    def mistaken(words):
        raise ConfigError(f"'--storge={found.place}' is not known")

    assert guarded(mistaken, []) == 2
    assert SECRET not in capsys.readouterr().err


def test_optuna_is_not_loaded_by_reading_an_address():
    import subprocess

    code = "import sys, recbole_slif.hyper, recbole_slif.sharing.study as s\n"
    code += "assert not {'optuna', 'ray', 'sqlalchemy'} & set(sys.modules), 'loaded'"
    subprocess.run([sys.executable, "-c", code], check=True)
