"""Whatever bytes a file holds, it is read, or refused in one line of our own error class."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_slif.data.dataset import MultimodalKGDataset
from recbole_slif.data.tables import read_table
from recbole_slif.errors import SlifError

CALM = settings(
    max_examples=int(os.environ.get("RECBOLE_SLIF_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
PIECES = [
    b"u1", b"i1", b"\t", b"\n", b" ", b"\r", b"\r\n", b"\0", b'"', b":", b"token", b"float",
    b"\xef\xbb\xbf", b"\xff", b"user_id:token\titem_id:token\n", b"rating:float", b"nan", b"1e999",
    b"\xe2\x80\xa8", b"\x1c", b"\x0b", b"#", b",", b"[PAD]", b"-",
]  # fmt: skip


@CALM
@given(parts=st.lists(st.sampled_from(PIECES), max_size=30), headed=st.booleans())
def test_any_bytes(tmp_path_factory, parts, headed):
    path = tmp_path_factory.mktemp("fuzz") / "toy.inter"
    path.write_bytes((PIECES[14] if headed else b"") + b"".join(parts))
    try:
        table = read_table(path, required=["user_id", "item_id"])
    except SlifError as error:
        assert "toy.inter" in str(error) and "\n" not in str(error)
    else:
        assert not (table.frame["user_id"] == "").any()


@CALM
@given(
    file=st.sampled_from(["inter", "kg", "link", "item", "visual.npy", "visual.ids"]),
    where=st.integers(0, 2000),
    piece=st.sampled_from(PIECES),
    cut=st.integers(0, 40),
)
def test_any_damage_to_a_data_set(make_dataset, make_config, file, where, piece, cut):
    folder = make_dataset()
    path = folder / f"toy.{file}"
    data = path.read_bytes()
    where %= len(data)
    path.write_bytes(data[:where] + piece + data[where + cut :])
    columns = {"inter": ["user_id", "item_id"], "item": "*"}
    try:
        dataset = MultimodalKGDataset(make_config(load_col=columns))
        dataset.build()
    except SlifError as error:
        assert "\n" not in str(error)
        return
    kg = dataset.knowledge
    assert kg.n_entities >= dataset.item_num == len(kg.linked)
    for features in dataset.features.values():
        assert features.matrix.shape[0] == dataset.item_num == len(features.presence)


@pytest.mark.parametrize("token", ["[PAD]", "a\u2028b", "0", "-1", "é", "a b"])
def test_strange_tokens_survive(make_dataset, make_config, token):
    folder = make_dataset()
    with (folder / "toy.inter").open("a", encoding="utf-8") as file:
        file.write(f"odd\t{token}\n")
    dataset = MultimodalKGDataset(make_config())
    item = dataset.token2id("item_id", token)
    assert item > 0 and dataset.item_num == 17
    assert dataset.id2token("item_id", item) == token
