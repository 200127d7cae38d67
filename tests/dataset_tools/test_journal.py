"""The journal of a step: torn lines, other identities, files that have gone."""

from dataset_tools.journal import Journal


def opened(folder, identity):
    journal = Journal(folder / "journal", identity)
    journal.open()
    return journal


def test_what_follows_a_torn_line_is_read_again(tmp_path):
    journal = opened(tmp_path, {"a": 1})
    journal.add(first=1)
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b'{"second": 2, "ke')
    journal = opened(tmp_path, {"a": 1})
    assert journal.last("second") is None
    journal.add(third=3)
    journal.close()
    journal = opened(tmp_path, {"a": 1})
    assert journal.last("third") is not None and journal.last("first") is not None
    journal.close()


def test_entries_of_another_identity_and_without_their_files_are_not_found(tmp_path):
    journal = opened(tmp_path, {"a": 1})
    (tmp_path / "rows").write_bytes(b"1234")
    journal.add(["rows"], done=True)
    journal.close()
    assert Journal(journal.path, {"a": 1}).found()
    assert not Journal(journal.path, {"a": 2}).found()
    (tmp_path / "rows").write_bytes(b"123")
    assert not Journal(journal.path, {"a": 1}).found()
    journal = opened(tmp_path, {"a": 1})
    journal.add(drops=["rows"], more=True)
    journal.close()
    assert Journal(journal.path, {"a": 1}).found()
