"""Steps that thin graphs by values, as a GPU does, give what smaller graphs give on the CPU."""

import pytest
import torch
from recbole.utils import init_seed

from recbole_slif.graph import dropout, edge_sides
from recbole_slif.graph.patterns import rebuilt_on
from recbole_slif.layers import masked_relations, relational_mean
from recbole_slif.model.knowledge import thinned_pairs
from recbole_slif.testing.trial import Bench

SETTINGS = {
    "NGCF": {"node_dropout": 0.4},
    "KGIN": {},
    "KGIN ": {"interaction_dropout_rate": 0.2, "node_dropout_rate": 0.0, "context_hops": 1},
    "KGRec": {},
    "KGRec ": {"skip_last_relation": True, "cl_drop": 0.3},
    "KGCL": {},
    "KRDN": {},
    "KRDN ": {"node_dropout_rate": 0.9, "max_iter": 2},
}


def course(name, folder):
    """Take a few steps; return losses, the first step's gradients and scores."""
    init_seed(1, True)
    trial = Bench(name.strip(), folder, SETTINGS[name]).trial()
    optimizer = torch.optim.SGD(trial.model.parameters(), lr=0.01)
    losses, gradients = [], {}
    for epoch in range(2):
        for loss, chosen in trial.steps(epoch, optimizer):
            chosen.zero_grad()
            loss.backward()
            if not losses:
                named = trial.model.named_parameters()
                gradients = {n: p.grad.clone() for n, p in named if p.grad is not None}
            chosen.step()
            losses.append(float(loss.detach()))
    return losses, gradients, trial.scores()


@pytest.mark.parametrize("name", SETTINGS)
def test_values_thin_as_smaller_graphs_do(name, tmp_path, monkeypatch):
    wanted = course(name, tmp_path / "built")
    asked = []
    for module in (dropout, edge_sides, relational_mean, thinned_pairs):
        monkeypatch.setattr(module, "rebuilt_on", lambda device: bool(asked.append(device)))
    monkeypatch.setattr(masked_relations, "on_cpu", lambda table: False)
    found = course(name, tmp_path / "values")
    assert asked and all(rebuilt_on(device) for device in asked)
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-4, atol=1e-6)
    assert found[1].keys() == wanted[1].keys()
    for parameter, gradient in wanted[1].items():
        torch.testing.assert_close(found[1][parameter], gradient, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found[2], wanted[2], rtol=1e-3, atol=1e-5)
