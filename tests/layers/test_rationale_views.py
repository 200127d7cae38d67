"""What is drawn from the scores, and the two losses against loops."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_slif.layers import rationale_views as views
from tests.oracle import kgrec as oracle


def table(n, width=4):
    return torch.randn(n, width, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("positives", [1, 2])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_contrast_agrees_with_the_loops(positives, temperature):
    first, second = table(7), table(7)
    partners = torch.tensor([0, 2, 1, 6, 3, 5, 4])
    expected = oracle.contrast(
        first.detach().numpy(), second.detach().numpy(), partners.tolist(), temperature, positives
    )
    found = views.partner_contrast(first, second, partners, temperature, positives)
    assert abs(found.item() - expected) < 1e-10
    assert torch.autograd.gradcheck(
        lambda a, b: views.partner_contrast(a, b, partners, temperature, positives), (first, second)
    )


def test_reconstruction_agrees_with_the_loops():
    heads, relations, tails = table(5), table(5), table(5)
    entities = torch.cat([heads, tails]).detach().numpy()
    edges = [(k, k, 5 + k) for k in range(5)]
    expected = oracle.reconstruction(entities, relations.detach().numpy(), edges)
    assert abs(views.reconstruction_loss(heads, relations, tails).item() - expected) < 1e-10
    assert torch.autograd.gradcheck(views.reconstruction_loss, (heads, relations, tails))
    assert views.reconstruction_loss(heads[:0], relations[:0], tails[:0]) == 0.0


def test_the_best_edges_and_as_many_at_random_are_masked():
    scores = torch.randperm(200).float()
    best = set((scores >= 190).nonzero().squeeze(1).tolist())
    seen, sizes = set(), set()
    for _ in range(100):
        masked = views.choose_masked(scores, 10).tolist()
        assert masked == sorted(set(masked)) and best <= set(masked)
        seen |= set(masked)
        sizes.add(len(masked))
    assert len(seen) > 190 and max(sizes) == 20 and min(sizes) >= 15


@pytest.mark.parametrize(("n_edges", "at_most"), [(0, 0), (3, 0), (8, 4), (40, 20)])
def test_at_most_half_of_a_small_graph_is_masked(n_edges, at_most):
    masked = views.choose_masked(torch.rand(n_edges), 256)
    assert at_most // 2 <= len(masked) <= at_most and masked.dtype == torch.int64


def test_the_lowest_edges_are_dropped():
    scores = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0])
    assert views.drop_lowest(scores, 0.4).tolist() == [0, 3, 4]
    assert views.drop_lowest(scores, 0.5).tolist() == [0, 3, 4]
    assert views.drop_lowest(scores, 0.0).tolist() == [0, 1, 2, 3, 4]
    assert views.drop_lowest(scores[:0], 0.5).tolist() == []


def test_gumbel_numbers():
    torch.manual_seed(0)
    drawn = views.gumbel(200_000)
    assert drawn.isfinite().all()
    assert abs(drawn.mean().item() - 0.57722) < 0.01
    assert abs(drawn.var().item() - np.pi**2 / 6) < 0.02


def interactions(n_users=3, n_items=4):
    return sp.csr_array(np.arange(1.0, n_users * n_items + 1).reshape(n_users, n_items))


def test_drawn_interactions_are_scaled_and_exact_in_number():
    matrix = interactions()
    drawn = views.draw_by_item(matrix, torch.ones(4), 0.25)
    assert drawn.nnz == 3 and matrix.nnz == 12
    places = drawn.toarray() != 0
    np.testing.assert_allclose(drawn.toarray()[places], 4.0 * matrix.toarray()[places])
    whole = views.draw_by_item(matrix, torch.ones(4), 1.0)
    np.testing.assert_allclose(whole.toarray(), matrix.toarray())
    assert views.draw_by_item(sp.csr_array((3, 4)), torch.ones(4), 0.5).nnz == 0


def test_draws_follow_the_literal_procedure():
    """Shares of each item among the drawn, by races and by softmax and draws one by one."""
    matrix, scores = interactions(2, 3), np.array([0.2, 1.0, 3.0], dtype=np.float32)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    n_trials = 6000
    ours, literal = np.zeros(3), np.zeros(3)
    for _ in range(n_trials):
        ours += (views.draw_by_item(matrix, torch.from_numpy(scores), 0.5).toarray() != 0).sum(
            axis=0
        )
        noisy = scores[matrix.indices] + rng.gumbel(size=6)
        chances = np.exp(noisy) / np.exp(noisy).sum()
        drawn = rng.choice(6, 3, replace=False, p=chances)
        literal += np.bincount(matrix.indices[drawn], minlength=3)
    np.testing.assert_allclose(ours / n_trials, literal / n_trials, atol=0.04)
    assert ours[2] > 1.3 * ours[0]
