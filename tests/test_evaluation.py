import numpy as np
import pytest
import torch
from recbole.data import data_preparation
from recbole.trainer import Trainer

from recbole_slif.evaluation import (
    BlockedFullSortEvaluator,
    ItemLists,
    SafeCollector,
    supports,
)
from recbole_slif.ranking import GROUP, exact_top_k
from recbole_slif.scoring import ITEMS_BY_USERS, BlockScorer
from recbole_slif.trainer import SlifTrainer
from tests.running import build

RANKING = ["Recall", "NDCG", "Precision", "MRR", "Hit", "MAP"]


class Tables(torch.nn.Module):
    """Scores by two fixed tables; small whole numbers make many ties."""

    def __init__(self, dataset, seed, ties, tables=True, full_sort=True):
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        shape = (dataset.user_num, 4), (dataset.item_num, 4)
        if ties:
            self.users, self.items = (
                torch.randint(-1, 2, size, generator=drawn).float() for size in shape
            )
        else:
            self.users, self.items = (torch.randn(size, generator=drawn) for size in shape)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.fields = dataset.uid_field, dataset.iid_field
        self.full_sort = full_sort
        self.device = torch.device("cpu")
        if tables:
            self.score_tables = lambda: (self.users, self.items)

    def full_sort_predict(self, interaction):
        if not self.full_sort:
            raise NotImplementedError
        return (self.users[interaction[self.fields[0]]] @ self.items.T).view(-1)

    def predict(self, interaction):
        user, item = (interaction[field] for field in self.fields)
        return (self.users[user] * self.items[item]).sum(dim=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def loaders(folder, **changes):
    config, _, bundle = build(folder, metric_decimal_place=12, **changes)
    _, valid, test = data_preparation(config, bundle.dataset)
    return config, bundle, valid, test


def assert_same(ours, theirs):
    assert list(ours) == list(theirs)
    for name in theirs:
        assert float(ours[name]) == float(theirs[name]), name


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize(("tables", "full_sort"), [(True, True), (False, True), (False, False)])
def test_figures_are_recboles(folder, monkeypatch, ties, tables, full_sort):
    config, bundle, valid, test = loaders(folder, metrics=RANKING)
    for seed in range(5):
        model = Tables(bundle.dataset, seed, ties, tables, full_sort)
        theirs = Trainer(config, model)
        for loader in (valid, test):
            wanted = theirs.evaluate(loader, load_best_model=False)
            for layout in (1, 64):  # items by users, and users by items
                monkeypatch.setattr("recbole_slif.scoring.ITEMS_BY_USERS", layout)
                evaluator = BlockedFullSortEvaluator(config, block_users=14)
                assert_same(evaluator.evaluate(model, loader), wanted)
    assert len(set(wanted.values())) > 1


def test_our_loaders_give_the_same_figures(folder):
    config, bundle, _, _ = loaders(folder, metrics=RANKING)
    model = Tables(bundle.dataset, 3, ties=True)
    for ours in (bundle.valid_data, bundle.test_data):
        wanted = Trainer(config, model).evaluate(ours, load_best_model=False)
        assert_same(SlifTrainer(config, model).evaluate(ours, load_best_model=False), wanted)


@pytest.mark.parametrize("users", [1, 5, 256])
def test_a_block_holds_the_users_that_the_key_names(folder, monkeypatch, users):
    config, bundle, valid, _ = loaders(folder, eval_block_users=users)
    model = Tables(bundle.dataset, 1, ties=True)
    wanted = Trainer(config, model).evaluate(valid, load_best_model=False)
    sizes, score = [], BlockScorer.without

    def watched(scorer, rows, known, block, start=0):
        sizes.append(len(block))
        return score(scorer, rows, known, block, start)

    monkeypatch.setattr(BlockScorer, "without", watched)
    assert_same(SlifTrainer(config, model).evaluate(valid, load_best_model=False), wanted)
    assert sum(sizes) == len(valid.uid_list) and max(sizes) == min(users, len(valid.uid_list))


def test_gauc_ranks_whole_rows(folder):
    config, bundle, valid, _ = loaders(folder, metrics=["GAUC", "Recall"], valid_metric="GAUC")
    model = Tables(bundle.dataset, 1, ties=True)
    wanted = Trainer(config, model).evaluate(valid, load_best_model=False)
    assert_same(BlockedFullSortEvaluator(config, block_users=7).evaluate(model, valid), wanted)


def test_whole_rows_and_lists_come_from_one_scoring(folder):
    config, bundle, valid, _ = loaders(folder, metrics=["GAUC", "Recall"], valid_metric="GAUC")
    model = Tables(bundle.dataset, 1, ties=True, tables=False)
    scored, predict = [], model.full_sort_predict
    model.full_sort_predict = lambda rows: scored.append(len(rows)) or predict(rows)
    BlockedFullSortEvaluator(config, block_users=7).evaluate(model, valid)
    assert scored == [7, 7, 6]


def test_metrics_of_items_work(folder):
    config, bundle, valid, _ = loaders(
        folder, metrics=["ItemCoverage", "AveragePopularity", "GiniIndex", "Recall"]
    )
    model = Tables(bundle.dataset, 1, ties=False)
    collector = SafeCollector(config)
    collector.data_collect(bundle.train_data)
    evaluator = BlockedFullSortEvaluator(config, collector, block_users=7)
    first = evaluator.evaluate(model, valid)
    assert first == evaluator.evaluate(model, valid)
    lists = evaluator.lists(valid)
    scores = model.users[lists.users] @ model.items.T
    scores[:, 0] = -np.inf
    for row in range(len(lists.users)):
        scores[row, lists.known.at(np.array([row]))[1]] = -np.inf
    top = torch.topk(scores, 5, dim=1).indices
    assert first["itemcoverage@5"] == pytest.approx(len(top.unique()) / bundle.dataset.item_num)


def test_sampled_protocol_stays_recboles(folder):
    config, _, bundle = build(folder, eval_args={"mode": "uni10"})
    assert not supports(bundle.test_data)
    model = Tables(bundle.dataset, 1, ties=False)
    np.random.seed(0)
    wanted = Trainer(config, model).evaluate(bundle.test_data, load_best_model=False)
    assert set(wanted) == set(
        SlifTrainer(config, model).evaluate(bundle.test_data, load_best_model=False)
    )


def test_sampled_validation_scores_the_model_as_it_is(folder):
    changes = {"eval_args": {"mode": "uni10"}, "learning_rate": 0.1, "epochs": 3}
    config, model, bundle = build(folder, "LightGCN", **changes)
    fits = []

    def look(epoch, score):
        with torch.no_grad():
            fits.append(torch.equal(model.score_tables()[1], model.forward()[1]))

    trainer = SlifTrainer(config, model)
    trainer.fit(bundle.train_data, bundle.valid_data, saved=False, callback_fn=look)
    assert fits == [True] * 3


@pytest.mark.parametrize("exchange", ["type", "values"])
def test_tables_follow_parameters_that_are_exchanged(folder, exchange):
    _, model, _ = build(folder, "BPR")
    model.score_tables()
    if exchange == "type":
        model.double()
    else:
        for parameter in model.parameters():
            parameter.data = parameter.data + 1.0
    with torch.no_grad():
        found, wanted = model.score_tables()[1], model.forward()[1]
    assert found.dtype == wanted.dtype and torch.equal(found, wanted)


def test_users_means_are_the_figures(folder):
    config, bundle, valid, _ = loaders(folder, metrics=RANKING)
    model = Tables(bundle.dataset, 2, ties=False)
    evaluator = BlockedFullSortEvaluator(config, block_users=7)
    users = evaluator.per_user(model, valid)
    np.testing.assert_array_equal(users["user"], valid.uid_list.numpy())
    for name, value in evaluator.evaluate(model, valid).items():
        assert users[name].shape == users["user"].shape
        assert users[name].mean() == pytest.approx(float(value), abs=1e-11)


def test_a_stop_reaches_the_evaluation(folder):
    config, bundle, valid, _ = loaders(folder)

    def stop():
        raise KeyboardInterrupt

    evaluator = BlockedFullSortEvaluator(config, should_stop=stop)
    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(Tables(bundle.dataset, 2, ties=False), valid)


@pytest.mark.parametrize("width", [40, 640, 1000, 1037, 9001])
@pytest.mark.parametrize("values", [3, 50, 10**6])
def test_top_k_is_torchs_even_at_ties(width, values):
    drawn = torch.Generator().manual_seed(width + values)
    scores = torch.randint(0, values, (20, width), generator=drawn).float()
    scores[torch.rand(scores.shape, generator=drawn) < 0.3] = -np.inf
    scores[3, 2:] = -np.inf
    by_column = scores.T.contiguous().T
    part = torch.cat((scores, scores), dim=1)[:, :width]
    for k in (1, 5, 7):
        wanted = torch.topk(scores, k, dim=-1).indices
        for layout in (scores, by_column, part, by_column[:1]):
            assert torch.equal(exact_top_k(layout, k), wanted[: len(layout)])


@pytest.mark.parametrize("dim", [1, 3, 8, 64, 100, 192])
@pytest.mark.parametrize("users", [ITEMS_BY_USERS, 77, 255, 256])
def test_items_by_users_gives_the_bits_of_users_by_items(dim, users):
    drawn = torch.Generator().manual_seed(dim * users)
    user_table, item_table = (torch.randn(rows, dim, generator=drawn) for rows in (users, 1037))
    assert torch.equal((item_table @ user_table.T).T, user_table @ item_table.T)


def test_block_scores_are_the_models_own(folder):
    _, bundle, _, _ = loaders(folder)
    model = Tables(bundle.dataset, 3, ties=False)
    scorer = BlockScorer(model, bundle.dataset)
    many = np.tile(np.arange(1, 9), ITEMS_BY_USERS)
    for users in (many, many[:12], many[:400]):
        scores = scorer.scores(users)
        assert torch.equal(scores, model.users[users] @ model.items.T)
        assert (scores.stride(0) == 1) == (len(users) >= ITEMS_BY_USERS)


class Fixed:
    """A model of two given tables, and the data set that goes with it."""

    def __init__(self, users, items, dim):
        drawn = torch.Generator().manual_seed(users * items)
        self.tables = [torch.randn(rows, dim, generator=drawn) for rows in (users, items)]
        self.item_num = items

    def score_tables(self):
        return self.tables


@pytest.mark.parametrize("dim", [3, 64, 100])
@pytest.mark.parametrize("users", [ITEMS_BY_USERS, 256])
@pytest.mark.parametrize("items", [1, 40, 127, 1037, 4100])
@pytest.mark.parametrize("cells", [1, 50_000, 1 << 20])
def test_tiles_hold_the_bits_of_the_whole_product(monkeypatch, dim, users, items, cells):
    monkeypatch.setattr("recbole_slif.scoring.TILE_CELLS", cells)
    fixed = Fixed(users, items, dim)
    scorer, ids = BlockScorer(fixed, fixed), np.random.default_rng(0).permutation(users)
    wanted = fixed.tables[0][ids] @ fixed.tables[1].T
    left_out = torch.rand(wanted.shape, generator=torch.Generator().manual_seed(1)) < 0.1
    rows, columns = torch.nonzero(left_out, as_tuple=True)
    wanted[left_out] = -torch.inf
    wanted[:, 0] = -torch.inf
    k = max(1, items // 300)
    for _ in range(2):  # the second time into a buffer that holds the first
        scores, maxima = scorer.without(rows.numpy(), columns.numpy(), ids)
        assert torch.equal(scores, wanted)
        whole = wanted[:, : items // GROUP * GROUP].view(users, items // GROUP, GROUP)
        assert torch.equal(maxima.T, whole.amax(dim=2))
        assert torch.equal(exact_top_k(scores, k, maxima), torch.topk(wanted, k).indices)


def test_lists_at_positions_by_loop():
    rng = np.random.default_rng(0)
    rows = [rng.permutation(9)[: rng.integers(0, 5)] for _ in range(6)]
    lists = ItemLists.of(map(torch.from_numpy, rows))
    assert lists.indptr.tolist() == np.cumsum([0, *map(len, rows)]).tolist()
    wanted = [(place, item) for place, at in enumerate((4, 2, 2)) for item in rows[at].tolist()]
    found = lists.at(np.array([4, 2, 2]))
    assert list(zip(*(part.tolist() for part in found), strict=True)) == wanted
    assert [len(part) for part in ItemLists.of([]).at(np.zeros(0, np.int64))] == [0, 0]
