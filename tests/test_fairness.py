"""All models meet the same data, negatives and evaluator, and none meets the test split early."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recbole.utils import KGDataLoaderState

from recbole_slif import checkpoint, factory, quick_start, stages
from recbole_slif.config import SlifConfig
from recbole_slif.evaluation import ItemLists, eval_lists
from recbole_slif.registry import MODELS
from recbole_slif.testing.toy import write_toy as write_held_out
from recbole_slif.trainer import EpochMixin
from tests.toy import write_toy

EVERYONE = [*MODELS, "Pop"]
POSITIVES_ALONE = {"BM3", "KRDN"}
SHARED = ("metrics", "topk", "valid_metric", "eval_args", "train_neg_sample_args", "seed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("fair")
    write_toy(place, "ratio", n_users=12, n_items=15)
    write_toy(place, "public", n_users=12, n_items=15, benchmark=True)
    return place


def settings(folder, **changes):
    chosen = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "use_gpu": False,
        "use_tuned": False,
        "show_progress": False,
        "state": "ERROR",
        "train_batch_size": 16,
        "topk": [3, 5],
        "valid_metric": "Recall@5",
    }
    return {**chosen, **changes}


@cache
def loaded(folder, model, dataset):
    config = SlifConfig(model, dataset, overrides=settings(folder))
    return SimpleNamespace(config=config, bundle=factory.load_data(config))


def pairs(dataset):
    users, items = dataset.inter_feat["user_id"], dataset.inter_feat["item_id"]
    return list(zip(users.tolist(), items.tolist(), strict=True))


# ---- one data set for all --------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["ratio", "public"])
@pytest.mark.parametrize("model", EVERYONE)
def test_every_model_gets_the_same_ids_and_the_same_split(folder, model, dataset):
    ours, reference = (loaded(folder, name, dataset).bundle for name in (model, "BPR"))
    assert ours.fingerprint == reference.fingerprint
    for field in ("user_id", "item_id"):
        found = [bundle.dataset.field2id_token[field].tolist() for bundle in (ours, reference)]
        assert found[0] == found[1]
    assert pairs(ours.train_data._dataset) == pairs(reference.train_data._dataset)
    for phase in ("valid", "test"):
        for found, wanted in zip(ours.positives(phase), reference.positives(phase), strict=True):
            np.testing.assert_array_equal(found, wanted)
        for found, wanted in zip(ours.history(phase), reference.history(phase), strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("model", EVERYONE)
def test_every_model_keeps_the_items_without_a_link(folder, model):
    bundle = loaded(folder, model, "ratio").bundle
    tokens = set(bundle.dataset.field2id_token["item_id"].tolist())
    assert {"i13", "i14"} <= tokens
    assert bundle.dataset.item_num == 16


def test_another_split_is_noticed(folder):
    config = SlifConfig("BPR", "ratio", overrides=settings(folder, split_seed=5))
    other = factory.load_data(config)
    assert other.fingerprint != loaded(folder, "BPR", "ratio").bundle.fingerprint


# ---- one protocol ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", EVERYONE)
def test_every_model_is_evaluated_alike(folder, model):
    ours, reference = loaded(folder, model, "ratio"), loaded(folder, "BPR", "ratio")
    for key in SHARED:
        if key == "train_neg_sample_args" and model in POSITIVES_ALONE:
            assert ours.config[key]["distribution"] == "none"
            continue
        assert ours.config[key] == reference.config[key], key
    for phase in ("valid_data", "test_data"):
        found, wanted = (eval_lists(getattr(one.bundle, phase)) for one in (ours, reference))
        np.testing.assert_array_equal(found.users, wanted.users)
        for one, other in ((found.positives, wanted.positives), (found.known, wanted.known)):
            np.testing.assert_array_equal(one.indptr, other.indptr)
            np.testing.assert_array_equal(one.items, other.items)


@pytest.mark.parametrize("dataset", ["ratio", "public"])
@pytest.mark.parametrize("model", EVERYONE)
def test_the_masked_history_holds_the_earlier_phases_and_nothing_later(folder, model, dataset):
    bundle = loaded(folder, model, dataset).bundle
    parts = {phase: set(pairs_of(bundle, phase)) for phase in ("train", "valid", "test")}
    assert not parts["train"] & parts["valid"]
    assert not (parts["train"] | parts["valid"]) & parts["test"]
    for phase, earlier in (("valid", ["train"]), ("test", ["train", "valid"])):
        lists = eval_lists(getattr(bundle, f"{phase}_data"))
        masked = listed(lists.users, lists.known)
        users = set(lists.users.tolist())
        expected = {pair for name in earlier for pair in parts[name] if pair[0] in users}
        assert masked == expected
        assert listed(lists.users, lists.positives) == parts[phase]


def pairs_of(bundle, phase):
    if phase == "train":
        return pairs(bundle.train_data._dataset)
    users, indptr, items = bundle.positives(phase)
    return listed(users, ItemLists(indptr, items))


def listed(users, lists):
    return {
        (int(user), int(item))
        for at, user in enumerate(users)
        for item in lists.items[lists.indptr[at] : lists.indptr[at + 1]]
    }


@pytest.mark.parametrize("model", MODELS)
def test_every_model_meets_the_same_batches_and_negatives(folder, model):
    config = SlifConfig(model, "ratio", overrides=settings(folder))
    loader = factory.load_data(config).train_data
    if hasattr(loader, "set_mode"):
        loader.set_mode(KGDataLoaderState.RS)
    fields = ("user_id", "item_id", "neg_item_id")[: 2 if model in POSITIVES_ALONE else 3]
    met = [[batch[name].tolist() for name in fields] for _ in range(2) for batch in loader]
    assert met == [columns[: len(fields)] for columns in reference_batches(folder)]


@cache
def reference_batches(folder):
    config = SlifConfig("BPR", "ratio", overrides=settings(folder))
    loader = factory.load_data(config).train_data
    fields = ("user_id", "item_id", "neg_item_id")
    return [[batch[name].tolist() for name in fields] for _ in range(2) for batch in loader]


def test_negatives_are_never_train_pairs_and_may_be_test_pairs(folder):
    known = set(pairs(loaded(folder, "BPR", "ratio").bundle.train_data._dataset))
    drawn = {
        pair
        for users, _, negatives in reference_batches(folder)
        for pair in zip(users, negatives, strict=True)
    }
    assert drawn
    assert not drawn & known
    assert drawn & pairs_of(loaded(folder, "BPR", "ratio").bundle, "test")


# ---- the test split comes last ---------------------------------------------------------------


def seal(loader):
    """Make any use of a loader raise until the returned state says that it is opened."""
    state = SimpleNamespace(opened=False, uses=0)

    class Sealed(type(loader)):
        def __getattribute__(self, name):
            if not name.startswith("__"):
                assert state.opened, f"the test loader was read ({name}) before the selection ended"
                state.uses += 1
            return super().__getattribute__(name)

    loader.__class__ = Sealed
    return state


@pytest.fixture
def seals(monkeypatch):
    """Seal the test loader of every run; it opens when the fit of that run has returned."""
    made = []
    load, train = factory.load_data, stages.Run.train

    def sealed_load(config):
        bundle = load(config)
        made.append(seal(bundle.test_data))
        return bundle

    def opening_train(stages, **options):
        train(stages, **options)
        made[-1].opened = True

    monkeypatch.setattr(factory, "load_data", sealed_load)
    monkeypatch.setattr(stages.Run, "train", opening_train)
    return made


@pytest.mark.parametrize("model", MODELS)
def test_nobody_reads_the_test_loader_before_the_selection_ends(seals, folder, model):
    result = quick_start.run(model, "ratio", overrides=settings(folder, epochs=2), verbose=False)
    assert seals[0].uses > 0
    assert result.test
    assert result.best_epoch >= 0


def test_the_seal_notices_a_selection_on_the_test_split(seals, monkeypatch, folder):
    fit = EpochMixin.fit

    def peeking(self, train_data, valid_data=None, *args, **kwargs):
        return fit(self, train_data, loaded_last["bundle"].test_data, *args, **kwargs)

    loaded_last = {}
    load = factory.load_data

    def remember(config):
        loaded_last["bundle"] = load(config)
        return loaded_last["bundle"]

    monkeypatch.setattr(factory, "load_data", remember)
    monkeypatch.setattr(EpochMixin, "fit", peeking)
    with pytest.raises(AssertionError, match="before the selection ended"):
        quick_start.run("BPR", "ratio", overrides=settings(folder, epochs=1), verbose=False)


def replace_test(folder, name):
    """Give each user another test item: the last one no file has for it."""
    parts = [folder / name / f"{name}.{part}.inter" for part in ("train", "valid", "test")]
    taken = {line for path in parts for line in path.read_text().splitlines()}
    rows = [
        next(row for item in range(13, -1, -1) if (row := f"u{user}\ti{item}") not in taken)
        for user in range(10)
    ]
    header = parts[2].read_text().splitlines()[0]
    parts[2].write_text("\n".join([header, *rows]) + "\n")


@pytest.mark.parametrize("model", MODELS)
def test_other_test_pairs_lead_to_the_same_selection_and_the_same_model(tmp_path, model):
    results = []
    for replaced in (False, True):
        place = tmp_path / str(replaced)
        write_held_out(place, "held")
        if replaced:
            replace_test(place, "held")
        chosen = settings(place, epochs=3, train_batch_size=32)
        results.append(quick_start.run(model, "held", overrides=chosen, verbose=False))
    first, second = results
    assert first.valid == second.valid
    assert first.best_epoch == second.best_epoch
    states = [checkpoint.load(one.folder / "best.pt").state["model"] for one in results]
    for name, tensor in states[0]["parameters"].items():
        assert torch.equal(tensor, states[1]["parameters"][name]), name
