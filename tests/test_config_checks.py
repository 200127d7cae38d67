"""Settings whose values have parts: each part that RecBole would misread is refused by name."""

import pytest

from tests.test_config import make, refused


def test_metrics_and_valid_metric_are_checked_together():
    refused("'Recal' is not a metric.*'recall'", overrides={"metrics": ["Recal"]})
    refused("valid_metric: 20 is not among topk", overrides={"topk": [10]})
    refused("valid_metric: Hit is not among metrics", overrides={"valid_metric": "Hit@20"})
    refused("topk must be at least 1, not", overrides={"topk": [20, -1]})
    refused("topk: no length of lists", overrides={"topk": []})
    refused("valid_metric: Recall needs the length", overrides={"valid_metric": "Recall"})
    auc = {"metrics": ["GAUC"], "valid_metric": "GAUC@20"}
    refused("valid_metric: GAUC has no list length", overrides=auc)
    assert make(overrides={**auc, "valid_metric": "GAUC"})["valid_metric"] == "GAUC"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("eval_args", {"spilt": 1}, "'spilt' is none of split, group_by.*'split'"),
     ("eval_args", {"split": {"XX": [1]}}, "split is "),
     ("eval_args", {"split": {"RS": [0.8, 0.2]}}, "three shares"),
     ("eval_args", {"split": {"RS": (0.8, 0.1, 0.1)}}, "a list of three shares"),
     ("eval_args", {"split": {"RS": [float("inf"), 0.1, 0.1]}}, "a list of three shares"),
     ("eval_args", {"split": {"LS": "all"}}, "LS is one of"),
     ("eval_args", {"group_by": "item"}, "group_by is user or none"),
     ("eval_args", {"group_by": "User"}, "not 'User'"),
     ("eval_args", {"order": "XX"}, "order is RO or TO"),
     ("eval_args", {"mode": "uni"}, "mode is full, uniN"),
     ("eval_args", {"mode": {"valid": "full", "test": "al"}}, "mode is full, uniN"),
     ("train_neg_sample_args", {"sample_nm": 2}, "did you mean 'sample_num'"),
     ("train_neg_sample_args", {"distribution": "gauss"}, "uniform or popularity"),
     ("train_neg_sample_args", {"sample_num": 0}, "from 1 on"),
     ("train_neg_sample_args", {"sample_num": True}, "from 1 on"),
     ("train_neg_sample_args", {"sample_num": "none"}, "BPR learns from pairs"),
     ("train_neg_sample_args", {"dynamic": True}, "candidate_num"),
     ("train_neg_sample_args", {"dynamic": True, "candidate_num": "x"}, "whole number, not x"),
     ("train_neg_sample_args", {"candidate_num": -1}, "whole number, not -1"),
     ("train_neg_sample_args", {"distribution": "popularity", "alpha": "x"}, "number, not x"),
     ("train_neg_sample_args", {"alpha": float("nan")}, "alpha must be a number"),
     ("user_inter_num_interval", "100", "no interval"),
     ("user_inter_num_interval", "[1.2.3,5]", "no interval"),
     ("user_inter_num_interval", "[nan,5]", "no interval"),
     ("user_inter_num_interval", "[1,2,3]", "no interval"),
     ("rm_dup_inter", "lats", "first or last, not 'lats'"),
     ("seq_len", {"tags": 0}, "tags: a whole number from 1 on, not 0"),
     ("seq_len", {"tags": "x"}, "tags: a whole number from 1 on, not x"),
     ("load_col", {"items": ["title"]}, "no file .items is read; did you mean 'item'"),
     ("unload_col", {"usr": ["age"]}, "no file .usr is read"),
     ("unused_col", {"net": ["age"]}, "no file .net is read"),
     ("unused_col", ["age"], "must be a mapping"),
     ("ITEM_ID_FIELD", "user_id", "each needs a column of its own"),
     ("ENTITY_ID_FIELD", "item_id", "each needs a column of its own"),
     ("TAIL_ENTITY_ID_FIELD", "head_id", "each needs a column of its own"),
     ("field_separator", "", "one character.*not ''"),
     ("field_separator", "ab", "one character"),
     ("field_separator", "ü", "one character"),
     ("seq_separator", "", "at least one character"),
     ("item_inter_num_interval", "[5,inf);[9,2]", "'\\[9,2\\]' is no interval"),
     ("val_interval", {"rating": "[3"}, ": rating: "),
     ("val_interval", {"rating": 4}, ": rating: '4' is no interval.*list those to keep"),
     ("val_interval", {"rating": None}, ": rating: 'None' is no interval")],
)  # fmt: skip
def test_parts_of_a_value_are_checked(key, value, said):
    refused(f"{key}.*{said}", overrides={key: value})


@pytest.mark.parametrize(
    "key", ["save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"]
)
def test_pickles_of_data_that_nothing_writes_or_reads_are_refused(key):
    value = "data.pth" if key.endswith("path") else True
    refused(f"^{key}: data are kept by data_cache", overrides={key: value})
    make(overrides={key: None if key.endswith("path") else False})


@pytest.mark.parametrize(("key", "other"), [("model", "LightGCN"), ("dataset", "amazon-book")])
def test_a_second_name_is_refused(key, other):
    refused(f"^overrides: {key} '{other}' stands beside", overrides={key: other})
    refused(f"^command line: {key} '{other}' stands", argv=[f"--{key}={other}"])
    same = {"model": "BPR", "dataset": "ml-100k"}
    assert make(overrides={key: same[key]})[key] == same[key]


def test_ranking_what_a_user_has_met_is_refused():
    refused("^repeatable: items of a user's earlier splits", overrides={"repeatable": True})
    assert make(overrides={"repeatable": False})["repeatable"] is False


def test_metrics_in_one_word_are_shown_as_a_list():
    refused(r"; write a list as \[Recall, NDCG\]\.", overrides={"metrics": "Recall,NDCG"})


@pytest.mark.parametrize("text", ["[1.5e9,inf)", "(-inf, -.5]", "[1,3];[7,9]", "[0,infinity)"])
def test_intervals_as_recbole_reads_them(text):
    given = {"user_inter_num_interval": text, "val_interval": {"rating": text}}
    assert make(overrides=given)["user_inter_num_interval"] == text


@pytest.mark.parametrize("group", ["user", "none", "None", None])
def test_groups_as_recbole_reads_them(group):
    assert make(overrides={"eval_args": {"group_by": group}})["eval_args"]["group_by"] == group


@pytest.mark.parametrize("model", ["DiffRec", "MultiVAE", "LightGCN"])
def test_models_of_whole_rows_take_no_negatives(model):
    wanted = "uniform" if model == "LightGCN" else "none"
    assert make(model)["train_neg_sample_args"]["distribution"] == wanted


def test_columns_are_normalized_by_one_key():
    given = {"normalize_all": True, "normalize_field": ["rating"]}
    refused("normalize_field: normalize_all takes all", overrides=given)


def test_negatives_may_be_null_where_the_model_does_without():
    given = {"train_neg_sample_args": None}
    assert make("CDAE", overrides=given)["train_neg_sample_args"]["distribution"] == "none"
    refused("LightGCN learns from pairs", model="LightGCN", overrides=given)


def test_labelled_evaluation_takes_metrics_of_values():
    mode = {"eval_args": {"mode": "labeled"}}
    refused("mode labeled goes with the metrics auc, .*not Recall", overrides=mode)
