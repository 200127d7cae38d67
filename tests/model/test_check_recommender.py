"""The common checklist on every model, and on models broken on purpose."""

from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.model.general_recommender import bpr as recbole_bpr
from torch import nn

from recbole_slif.errors import ConfigError
from recbole_slif.graph.bipartite import bipartite_operator
from recbole_slif.model.general.bpr import BPR
from recbole_slif.model.general.lightgcn import LightGCN
from recbole_slif.model.slifmr import SLIFMR
from recbole_slif.registry import MODELS
from recbole_slif.testing import CHECKS, CheckFailure, check_recommender, spies
from recbole_slif.testing.toy import write_toy
from recbole_slif.testing.trial import Bench


@pytest.mark.parametrize("name", MODELS)
def test_every_model_passes(name):
    assert check_recommender(name) == list(CHECKS)


SLOW = {"tiny_set_is_overfitted", "same_seed_repeats", "held_out_pairs_change_nothing"}
VARIANTS = [
    {"ablation": "kg"},
    {"ablation": "mm"},
    {"ablation": "kg_mm"},
    {"sge_merge": "accumulate", "sge_kg_prior": True},
    {"sge_merge": "ema", "feature_init": "project"},
    {"separate_tables": True, "fusion": "concat"},
]


@pytest.mark.parametrize("overrides", VARIANTS, ids=str)
def test_variants_of_slifmr_pass(overrides):
    wanted = {"gradients_reach_every_parameter", "saved_scores_are_identical"}
    check_recommender("SLIFMR", overrides=overrides, skip=set(CHECKS) - wanted)


def test_a_refresh_per_epoch_is_seen_to_leave_the_relations_untrained():
    with pytest.raises(CheckFailure, match="relation_projection") as caught:
        check_recommender("SLIFMR", overrides={"attn_refresh": "epoch"}, skip=SLOW)
    assert failed(caught) == ["gradients_reach_every_parameter"]


def test_recboles_own_model_passes():
    check_recommender(recbole_bpr.BPR)


def test_recboles_model_of_one_loss_over_pairs_and_triples_passes():
    check_recommender("CKE", skip=SLOW)


# ---- broken on purpose -----------------------------------------------------------------------


class Idle(BPR):
    """Has a parameter that nothing uses."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.unused = nn.Parameter(torch.ones(3))


class Frozen(Idle):
    """Says that the parameter is not meant to learn."""

    frozen_parameters = ("unused",)


class LeakyGraph(LightGCN):
    """Reads the test file into its graph."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        path = Path(config["data_path"]) / f"{config['dataset']}.test.inter"
        lines = [line.split("\t") for line in path.read_text().splitlines()[1:]]
        tokens = dataset.field2token_id
        test = np.array([[tokens["user_id"][u], tokens["item_id"][i]] for u, i in lines])
        users, items = self.training_pairs(dataset)
        self.adjacency = bipartite_operator(
            np.concatenate([users, test[:, 0]]),
            np.concatenate([items, test[:, 1]]),
            self.n_users,
            self.n_items,
        )


class QuietLeak(LightGCN):
    """Starts its table from the size of the test file; no graph shows it."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        path = Path(config["data_path"]) / f"{config['dataset']}.test.inter"
        with torch.no_grad():
            self.item_embedding.weight += sum(path.read_bytes()[40:80:3]) % 97 * 1e-4


class StaleCache(LightGCN):
    """Keeps the first tables for ever."""

    def clear_tables(self):
        pass

    @torch.no_grad()
    def score_tables(self):
        if self._table_cache is None:
            self._table_cache = ((), *self.forward())
        return self._table_cache[1:]


class NoisyScores(LightGCN):
    """Adds noise to its evaluation."""

    def full_sort_predict(self, interaction):
        scores = super().full_sort_predict(interaction)
        return scores + 1e-3 * torch.rand_like(scores)


class Forgetful(SLIFMR):
    """Leaves the correlation graph out of its checkpoint."""

    def epoch_state(self):
        return {"base_share": torch.tensor(1.0)}


class Unseeded(BPR):
    """Draws its start from a generator of its own."""

    generator = torch.Generator().manual_seed(0)

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        with torch.no_grad():
            noise = torch.rand(self.user_embedding.weight.shape, generator=self.generator)
            self.user_embedding.weight += noise


class Blind(BPR):
    """Learns the wrong way round."""

    def calculate_loss(self, interaction):
        return -super().calculate_loss(interaction).clamp(max=5.0)


class ZeroFilled(SLIFMR):
    """Divides by the number of modalities an item has."""

    def forward(self):
        users, items = super().forward()
        return users, items / self.feature_branch.presence.sum(dim=1, keepdim=True)


class Twofold(BPR):
    """Predicts a pair on another scale than the whole list."""

    def predict(self, interaction):
        return 2.0 * super().predict(interaction)


class Boastful(BPR):
    """Says that its loss adds up over parts, which a square does not."""

    shares_batches = True

    def calculate_loss(self, interaction):
        return super().calculate_loss(interaction) ** 2


class Crashing(GeneralRecommender):
    """Cannot even be built."""

    def __init__(self, config, dataset):
        raise RuntimeError("no such luck")


BROKEN = {
    Idle: {"gradients_reach_every_parameter"},
    LeakyGraph: {"held_out_pairs_are_in_no_graph", "held_out_pairs_change_nothing"},
    QuietLeak: {"held_out_pairs_change_nothing"},
    StaleCache: {"training_clears_cached_scores"},
    NoisyScores: {"evaluation_is_deterministic", "saved_scores_are_identical"},
    Forgetful: {"saved_scores_are_identical"},
    Unseeded: {"same_seed_repeats"},
    Blind: {"tiny_set_is_overfitted"},
    ZeroFilled: {"gaps_in_the_data_are_survived"},
    Twofold: {"both_predictions_agree"},
    Boastful: {"parts_of_a_batch_add_up"},
    Crashing: set(CHECKS),
}


def failed(caught):
    lines = str(caught.value).splitlines()[1:]
    return [line.strip().split(":")[0] for line in lines if line.startswith("  ")]


@pytest.mark.parametrize("model", BROKEN, ids=lambda model: model.__name__)
def test_a_broken_model_fails_where_it_is_broken(model):
    with pytest.raises(CheckFailure) as caught:
        check_recommender(model, skip=set(CHECKS) - BROKEN[model])
    assert set(failed(caught)) == BROKEN[model]
    assert str(caught.value).startswith(f"{model.__name__} fails")


def test_a_model_fails_nowhere_else():
    with pytest.raises(CheckFailure, match=r"Idle fails 1 of 14 checks:\s.*unused") as caught:
        check_recommender(Idle)
    assert failed(caught) == ["gradients_reach_every_parameter"]


def test_a_frozen_parameter_may_be_listed():
    check_recommender(Frozen, skip=SLOW)


def test_a_predicted_graph_may_hold_any_pair_but_not_learn_from_it():
    class Excused(LeakyGraph):
        predicted_graphs = ("adjacency",)

    wanted = BROKEN[LeakyGraph]
    with pytest.raises(CheckFailure) as caught:
        check_recommender(Excused, skip=set(CHECKS) - wanted)
    assert failed(caught) == ["held_out_pairs_change_nothing"]


def test_every_check_is_seen_to_fail():
    caught = set().union(*(names for model, names in BROKEN.items() if model is not Crashing))
    unseen = set(CHECKS) - caught
    assert unseen == {
        "tables_equal_forward",
        "training_sees_the_train_split_alone",
        "held_out_pairs_wait_for_their_turn",
    }


def test_tables_that_differ_from_forward_fail():
    class Shifted(LightGCN):
        def score_tables(self):
            users, items = super().score_tables()
            return users, items + 1e-3

    class LeftInEvaluation(LightGCN):
        def score_tables(self):
            self.eval()
            return super().score_tables()

    others = set(CHECKS) - {"tables_equal_forward"}
    for model, message in ((Shifted, "item table differs"), (LeftInEvaluation, "evaluation mode")):
        with pytest.raises(CheckFailure, match=message):
            check_recommender(model, skip=others)


def test_a_sampler_that_avoids_test_pairs_fails(monkeypatch, tmp_path):
    check = CHECKS["training_sees_the_train_split_alone"]
    bench = Bench("BPR", tmp_path, {})
    check(bench)
    build = bench.trial

    def knowing(**toy):
        trial = build(**toy)
        trial.bundle.train_data._sampler.phase = "test"
        return trial

    monkeypatch.setattr(bench, "trial", knowing)
    with pytest.raises(CheckFailure, match="never drawn"):
        check(bench)


class Peeking(BPR):
    """Looks at the test pairs while it learns, and does nothing with them."""

    loader = None

    def calculate_loss(self, interaction):
        if self.loader is not None:
            self.loader.pairs.table("test")
        return super().calculate_loss(interaction)


class Impatient(Peeking):
    """Looks at the validation pairs while it learns."""

    def calculate_loss(self, interaction):
        if self.loader is not None:
            self.loader.pairs.used("valid")
        return BPR.calculate_loss(self, interaction)


class Curious(Peeking):
    """Counts the interactions of the whole data set."""

    def calculate_loss(self, interaction):
        if self.loader is not None:
            len(self.loader._dataset.inter_feat)
        return BPR.calculate_loss(self, interaction)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Peeking, "the test split is read before the best epoch"),
        (Impatient, "the validation split is read outside validation"),
        (Curious, "the test split is read before"),
    ],
)
def test_a_model_that_looks_at_held_out_pairs_is_seen(model, said, monkeypatch, tmp_path):
    """The pairs reach the model by the back door: its class is handed the loader."""
    watch = spies.watch

    def watched(bundle, readings):
        watch(bundle, readings)
        monkeypatch.setattr(model, "loader", bundle.test_data)

    monkeypatch.setattr(spies, "watch", watched)
    check = CHECKS["held_out_pairs_wait_for_their_turn"]
    with pytest.raises(CheckFailure, match=said):
        check(Bench(model, tmp_path, {}))
    monkeypatch.setattr(model, "loader", None)
    monkeypatch.setattr(spies, "watch", watch)
    check(Bench(model, tmp_path, {}))


def test_a_test_made_too_early_is_seen(monkeypatch, tmp_path):
    def hasty(self):
        self.trainer.evaluate(self.bundle.test_data, load_best_model=False)
        return train(self)

    train = spies.Run.train
    monkeypatch.setattr(spies.Run, "train", hasty)
    with pytest.raises(CheckFailure, match="the test split is read before the best epoch"):
        CHECKS["held_out_pairs_wait_for_their_turn"](Bench("BPR", tmp_path, {}))


def test_an_unknown_check_is_named():
    with pytest.raises(ConfigError, match="no check 'speed'"):
        check_recommender("BPR", skip=["speed"])


def test_the_data_is_kept_where_it_is_asked_for(tmp_path):
    names = set(CHECKS) - {"both_predictions_agree"}
    assert check_recommender("BPR", tmp_path, skip=names) == ["both_predictions_agree"]
    assert (tmp_path / "toy" / "toy.train.inter").is_file()


def test_toy_sets_share_all_but_what_is_asked(tmp_path):
    first = write_toy(tmp_path, "a", held_out_seed=0)
    second = write_toy(tmp_path, "b", held_out_seed=1)
    assert first.train == second.train
    assert first.held_out != second.held_out
    assert not first.train & first.held_out
    for part in ("train.inter", "kg", "link", "visual.ids", "visual.npy"):
        files = [tmp_path / name / f"{name}.{part}" for name in "ab"]
        assert files[0].read_bytes() == files[1].read_bytes()
    bare = write_toy(tmp_path, "c", lacking=0.5, unlinked=10, modalities={"text": 3})
    assert bare.train == first.train
    assert len((tmp_path / "c" / "c.text.ids").read_text().split()) == 7
    assert len((tmp_path / "c" / "c.link").read_text().splitlines()) == 5
