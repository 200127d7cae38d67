"""Every key of SLIFMR.yaml changes the model, and every documented choice runs."""

import re

import pytest
import yaml

from recbole_slif.errors import ConfigError
from tests.model.runs import finite, signature
from tests.model.stub import ROOT, settings

YAML = ROOT / "properties/model/SLIFMR.yaml"
KEYS = yaml.safe_load(YAML.read_text("utf-8"))

EMA, UNION = {"sge_merge": "ema"}, {"sge_merge": "accumulate"}
CASES = {
    "embedding_size": (5, {}),
    "n_layers": (1, {}),
    "n_layers_interaction": (1, {}),
    "n_layers_feature": (1, {}),
    "n_layers_knowledge": (1, {}),
    "readout_interaction": ("mean", {}),
    "readout_knowledge": ("sum", {}),
    "separate_tables": (True, {}),
    "feature_init": ("project", {}),
    "ablation": ("sge", {}),
    "fusion": ("sum", {}),
    "knn_k": (3, {}),
    "knn_include_self": (True, {}),
    "knn_weight": ("binary", {}),
    "modal_weight": ("free", {}),
    "prune_ui": (0.0, {}),
    "prune_kg": (0.0, {}),
    "prune_refresh": ("once", {}),
    "attn_refresh": ("epoch", {}),
    "sge_n": (3, {}),
    "sge_start": (2, {}),
    "sge_interval": (2, {}),
    "sge_merge": ("ema", {}),
    "sge_decay": (0.4, EMA),
    "sge_max_edges": (2, UNION),
    "sge_weight": (0.5, {}),
    "sge_norm": ("block", {}),
    "sge_symmetric": (True, {}),
    "sge_feature_norm": ("none", {}),
    "sge_kg_prior": (True, {}),
    "beta": (0.7, {}),
    "gamma": (0.5, {}),
    "tau": (0.5, {}),
    "infonce_exclude_pos": (False, {}),
    "cl_scope": ("batch", {}),
    "cl_items": (3, {}),
    "cl_reduction": ("sum", {}),
    "intra_mode": ("literal", {}),
    "uniformity_t": (1.0, {}),
    "reg_weight": (0.1, {}),
    "reg_scope": ("all", {}),
    "kge_loss_weight": (0.5, {}),
}


# of so few items all are compared, whatever these say: tests/graph/test_approximate.py
SEARCH = {"sge_search", "sge_probes"}


def test_every_key_has_a_case():
    assert set(CASES) | SEARCH == set(KEYS)


@pytest.mark.parametrize("key", CASES)
def test_every_key_has_an_effect(key):
    value, companions = CASES[key]
    assert value != settings()[key]
    changed = signature(**{**companions, key: value})
    assert changed != signature(**companions)
    assert finite(changed)


def choices():
    """Every documented choice of a key, read from the comments of the YAML."""
    found = []
    for line in YAML.read_text("utf-8").splitlines():
        listed = re.match(r"^(\w+):.*# \(str: ([^)]+)\)", line)
        if listed and listed[1] not in SEARCH:
            found += [(listed[1], choice.strip()) for choice in listed[2].split("|")]
    return found


@pytest.mark.parametrize(("key", "choice"), choices())
def test_every_documented_choice_runs_and_is_distinct(key, choice):
    assert finite(signature(**{key: choice}))
    others = [other for name, other in choices() if name == key and other != choice]
    assert all(signature(**{key: other}) != signature(**{key: choice}) for other in others[:1])


@pytest.mark.parametrize(
    ("key", "value"),
    [("fusion", "max"), ("knn_weight", "x"), ("sge_norm", "x"), ("sge_merge", "x"), ("knn_k", 0)],
)
def test_an_unknown_choice_is_refused(key, value):
    with pytest.raises(ConfigError):
        signature(**{key: value})
