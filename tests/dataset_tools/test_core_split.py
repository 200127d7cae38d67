"""What is done to interactions as numbers: one per pair, k-core, cuts of a split."""

import numpy as np
import pytest
from recbole.data.dataset import Dataset

from dataset_tools.core_split import best_rows, k_core, leave_one_out_cuts, ratio_cuts
from dataset_tools.row_file import ROW, RowFile, RowWriter


def test_of_one_pair_the_latest_stays_whatever_the_order():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 9, 400), rng.integers(0, 9, 400)
    rating = rng.integers(1, 6, 400).astype(float)
    when = rng.integers(0, 5, 400).astype(float)
    rating[::7], when[::11] = np.nan, np.nan
    for latest in (True, False):
        rows = best_rows(users * 9 + items, rating, when, latest)
        assert (np.diff(users[rows] * 9 + items[rows]) > 0).all()
        for user, item in {*zip(users.tolist(), items.tolist(), strict=True)}:
            mine = np.flatnonzero((users == user) & (items == item))
            timed = mine[~np.isnan(when[mine])]
            if len(timed):
                edge = when[timed].max() if latest else when[timed].min()
                timed = timed[when[timed] == edge]
            rated = rating[timed if len(timed) else mine]
            best = max(rated[~np.isnan(rated)], default=np.nan)
            (kept,) = [row for row in rows if users[row] == user and items[row] == item]
            assert (when[kept] == edge) if len(timed) else np.isnan(when[kept])
            assert rating[kept] == best or np.isnan(best)


@pytest.mark.parametrize("chunk", [7, 1 << 18])
def test_the_core_is_the_largest_set_that_satisfies_both_limits(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("dataset_tools.row_file.CHUNK", chunk)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pairs = np.unique(rng.integers(0, 25, (200, 2)), axis=0)
        kept = {*map(tuple, pairs.tolist())}
        while True:
            mine = [user for user, _ in kept]
            theirs = [item for _, item in kept]
            left = {(u, i) for u, i in kept if mine.count(u) >= 7 and theirs.count(i) >= 5}
            if left == kept:
                break
            kept = left
        core = k_core(written(tmp_path / "rows", pairs), 25, 25, (7, 5), tmp_path)
        found = core.rows.read(0, len(core.rows))
        assert list(zip(found["user"].tolist(), found["item"].tolist(), strict=True)) == sorted(
            kept
        )
        assert core.users == len({user for user, _ in kept})
        assert core.items == len({item for _, item in kept})


def written(path, pairs):
    rows = np.zeros(len(pairs), dtype=ROW)
    rows["user"], rows["item"] = np.transpose(pairs)
    with RowWriter(path) as file:
        file.write(rows)
    return RowFile(path)


def test_a_core_of_hundreds_is_counted_beyond_a_byte(tmp_path):
    pairs = [(user, item) for user in range(2) for item in range(300 + user)]
    core = k_core(written(tmp_path / "rows", pairs), 2, 301, (301, 1), tmp_path)
    assert (core.users, core.items, len(core.rows), core.rounds) == (1, 301, 301, 1)


def test_counts_of_a_small_core_do_not_run_over(tmp_path):
    pairs = [(user, 0) for user in range(256)]
    core = k_core(written(tmp_path / "rows", pairs), 256, 1, (1, 5), tmp_path)
    assert (core.users, core.items, core.rounds) == (256, 1, 0)


def test_the_rounds_of_a_core_are_counted(tmp_path):
    chain = [(n, n + step) for n in range(6) for step in (0, 1)]
    core = k_core(written(tmp_path / "rows", chain), 6, 7, (2, 2), tmp_path)
    # From both ends an item, then its user, falls out: three rounds of items, and of users.
    assert (core.rounds, len(core.rows), core.users, core.items) == (6, 0, 0, 0)


def test_cuts_are_recboles():
    for ratios in ([0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [8, 1, 1], [1, 0, 1]):
        for count in range(1, 200):
            theirs = Dataset._calcu_split_ids(None, count, [r / sum(ratios) for r in ratios])
            assert ratio_cuts(count, ratios) == list(theirs), (ratios, count)
    assert [leave_one_out_cuts(n) for n in (1, 2, 3, 9)] == [[1, 1], [1, 1], [1, 2], [7, 8]]
