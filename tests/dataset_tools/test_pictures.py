"""Names of pictures that can be no item ids."""

import os
from collections import Counter

from dataset_tools.pictures import find_pictures


def test_names_that_can_be_no_ids_are_counted(tmp_path):
    for name in (b"\xff.png", b"1\n2.png", b" 5 .png", b"7.png"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb"):
            pass
    counts = Counter()
    assert [shown.item for shown in find_pictures(tmp_path, None, None, counts)] == ["5", "7"]
    assert counts == {"pictures whose name can be no item id": 2}
