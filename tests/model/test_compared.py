"""`compared_places`: scopes by hand, and the items drawn where a batch has more than `cl_items`."""

import pytest
import torch

from recbole_slif.config import SlifConfig
from recbole_slif.errors import ConfigError
from recbole_slif.model.compared import compared_places
from recbole_slif.testing.trial import Bench

ITEMS = torch.tensor([2, 3, 5, 7, 8, 9])
POSITIVES = torch.tensor([8, 3, 8, 9])


def test_scopes_without_a_limit():
    assert compared_places(ITEMS, POSITIVES, "positives").tolist() == [1, 4, 5]
    assert compared_places(ITEMS, POSITIVES, "batch") is None
    every = torch.arange(6)
    assert compared_places(every, POSITIVES, "all").tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("scope", ["positives", "batch", "all"])
def test_as_many_as_the_limit_are_all_taken_and_nothing_is_drawn(scope):
    before = torch.get_rng_state()
    whole = compared_places(ITEMS, POSITIVES, scope)
    limited = compared_places(ITEMS, POSITIVES, scope, 6 if whole is None else len(whole))
    assert whole is limited is None or torch.equal(whole, limited)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("scope", "possible"), [("positives", {1, 4, 5}), ("batch", set(range(6)))]
)
def test_of_more_so_many_are_drawn_each_as_often(scope, possible):
    torch.manual_seed(0)
    counts = dict.fromkeys(possible, 0)
    for _ in range(600):
        drawn = compared_places(ITEMS, POSITIVES, scope, 2).tolist()
        assert len(set(drawn)) == 2
        assert drawn == sorted(drawn)
        for place in drawn:
            counts[place] += 1
    expected = 1200 / len(possible)
    assert all(abs(count - expected) < 0.2 * expected for count in counts.values())


def test_one_item_alone_is_refused_and_null_is_not():
    for limit in (None, 2):
        assert SlifConfig("SLIFMR", "ml-100k", overrides={"cl_items": limit})["cl_items"] == limit
    with pytest.raises(ConfigError, match="cl_items must be at least 2"):
        SlifConfig("SLIFMR", "ml-100k", overrides={"cl_items": 1})


def test_the_losses_of_fewer_items_are_near_those_of_all(tmp_path):
    trial = Bench("SLIFMR", tmp_path, {}).trial()
    trial.hook("pre_epoch", 0)
    trial.model.train()
    _, batch = next(iter(trial.batches()))
    parts = {}
    for limit in (None, 6):
        trial.model.settings = {**trial.config.final_config_dict, "cl_items": limit}
        torch.manual_seed(5)
        parts[limit] = [float(part.detach()) for part in trial.model.calculate_loss(batch)]
    names = trial.model.loss_names
    found = {name: (parts[None][at], parts[6][at]) for at, name in enumerate(names[:4])}
    assert all(found[name][0] == found[name][1] for name in ("bpr", "norm"))
    for name in ("inter", "intra"):
        whole, drawn = found[name]
        assert whole != drawn
        assert abs(drawn - whole) < 0.5 * abs(whole)
