"""Settings that name columns: each does what it says, or is refused by key and column."""

import numpy as np
import pytest

from recbole_slif.data.dataset import MultimodalKGDataset
from recbole_slif.errors import ConfigError, DataError
from tests.toy import edit_lines, write_table

HEADER = [
    *("user_id:token", "item_id:token", "rating:float", "timestamp:float"),
    *("tags:token_seq", "parts:float_seq", "friend:token", "about:token_seq"),
]
ROWS = [
    (f"u{user}", f"i{item}", (user * 7 + item) % 5, 1000 + item, "a b", "1 2", "u0", "x0 e1")
    for user in range(6)
    for item in range(12)
    if (user + item) % 4
]


@pytest.fixture
def load(make_dataset, make_config):
    folder = make_dataset()
    write_table(folder / "toy.inter", HEADER, ROWS)
    write_table(folder / "toy.more", ["other:token", "vector:float_seq"], [("i1", "1 2")])

    def read(model="BPR", **settings):
        settings = {"load_col": {"inter": "*"}, "modalities": [], **settings}
        dataset = MultimodalKGDataset(make_config(model, **settings))
        return dataset, dataset.build()

    return read


BUCKETS = {"numerical_features": ["rating"]}
MORE = {"additional_feat_suffix": ["more"], "load_col": {"inter": "*", "more": "*"}}
TIMES = {"eval_args": {"order": "TO"}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"alias_of_user_id": ["rating"]}, "alias_of_user_id: 'rating' holds numbers"),
     ({"alias_of_user_id": ["friend"], "alias_of_item_id": ["friend"]},
      "alias_of_item_id: 'friend' has the ids of user_id already"),
     ({"alias_of_item_id": ["user_id"]}, "'user_id' has the ids of user_id already"),
     ({"normalize_field": ["friend"]}, "normalize_field: 'friend' is a column of tokens"),
     ({"numerical_features": ["tags"]}, "numerical_features: 'tags' is a column of tokens"),
     ({"discretization": {"rating": {"method": "LD"}}}, "name 'rating' in numerical_features"),
     ({"discretization": {"rating": {"method": "ED"}}, **BUCKETS}, "rating: write {method: ED"),
     ({"discretization": {"rating": {"method": "EX"}}, **BUCKETS}, "rating: write {method: ED"),
     ({"discretization": {"rating": "LD"}, **BUCKETS}, "rating: write {method: ED"),
     ({"threshold": {"friend": 1}, "model": "CDAE"}, "threshold: name one column of numbers"),
     ({"threshold": {"rating": "x"}, "model": "CDAE"}, "threshold: name one column of numbers"),
     ({"threshold": {"rating": 1, "timestamp": 2}, "model": "CDAE"}, "threshold: name one column"),
     ({"threshold": {"timestamp": 1005}, "model": "CDAE", **TIMES}, "threshold: it replaces"),
     ({"discretization": {"timestamp": {"method": "ED", "bucket": 2}},
       "numerical_features": ["timestamp"], **TIMES}, "discretization: it replaces 'timestamp'"),
     ({"seq_len": {"rating": 2}}, "seq_len: 'rating' is no column of sequences"),
     ({"preload_weight": {"friend": "tags"}}, "preload_weight: friend: name a column of tokens"),
     ({"preload_weight": {"item_id": "vector"}, "alias_of_item_id": ["other"], **MORE},
      "preload_weight: item_id: name a column of tokens and one of numbers beside it"),
     ({**MORE}, "additional_feat_suffix: the tokens of 'other' in .more have no ids"),
     ({"unused_col": {"inter": ["ratng"]}}, "unused_col: no column 'ratng' of .inter was read"),
     ({"unused_col": {"user": ["age"]}}, "unused_col: no column 'age' of .user was read"),
     ({"unused_col": {"inter": ["item_id"]}}, "unused_col: 'item_id' holds ids"),
     ({"unused_col": {"kg": ["head_id"]}}, "unused_col: 'head_id' holds ids"),
     ({"eval_args": {"mode": "labeled"}, "metrics": ["AUC"], "valid_metric": "AUC"},
      "eval_args: mode labeled needs the column label:float")],
)  # fmt: skip
def test_what_cannot_be_done_with_a_column_is_refused(load, settings, said):
    with pytest.raises(ConfigError, match=said):
        load(**settings)


@pytest.mark.filterwarnings("error:The given NumPy array")
def test_what_can_be_done_is(load):
    dataset, parts = load(
        alias_of_user_id=["friend"],
        alias_of_item_id=["other"],
        preload_weight={"other": "vector"},
        discretization={"rating": {"method": "ED", "bucket": 3}},
        numerical_features=["rating"],
        seq_len={"tags": 1, "parts": 1},
        unused_col={"inter": ["timestamp"]},
        **MORE,
    )
    feat = parts[0].inter_feat
    assert sum(map(len, parts)) == len(ROWS) and "timestamp" not in feat
    assert (feat["friend"] == dataset.token2id("user_id", "u0")).all()
    assert feat["rating"][:, 1].unique().tolist() == [1.0, 2.0, 3.0]
    assert feat["tags"].shape[1] == feat["parts"].shape[1] == 1
    weights = dataset.get_preload_weight("other")
    assert weights[dataset.token2id("item_id", "i1")].tolist() == [1.0, 2.0]


def test_sequences_of_entities_take_the_ids_of_the_graph(load):
    dataset, parts = load(alias_of_entity_id=["about"])
    wanted = [dataset.token2id("entity_id", name) for name in ("x0", "e1")]
    assert (parts[0].inter_feat["about"].numpy() == np.array(wanted)).all()
    assert wanted[1] == dataset.token2id("item_id", "i1")


@pytest.mark.parametrize("cell", ["1 x", "1 nan", "inf 2"])
def test_sequences_of_numbers_hold_finite_ones(load, tmp_path, cell):
    edit_lines(
        tmp_path / "toy" / "toy.inter", lambda lines: [line.replace("1 2", cell) for line in lines]
    )
    with pytest.raises(DataError, match=f"toy.inter: column 'parts' holds '{cell}'"):
        load()


def test_files_that_settings_name_and_lines_that_repeat(load, tmp_path):
    folder = tmp_path / "toy"
    edit_lines(folder / "toy.item", lambda lines: [*lines, "i1\tOther\t1\tZ"])
    dataset, _ = load(load_col={"inter": "*", "item": "*", "user": "*"})
    assert dataset.notes["toy.item: further lines of one item_id, dropped"] == 1
    assert dataset.notes["no toy.user, of which load_col names columns"] == 1
    (folder / "toy.more").unlink()
    with pytest.raises(DataError, match=r"no toy\.more"):
        load(**MORE)
    write_table(folder / "toy.item", ["item_id:token", "year:token"], [("strange", "1990")])
    with pytest.raises(DataError, match=r"tokens of \.user and \.item"):
        load(load_col={"inter": "*", "item": "*"})
