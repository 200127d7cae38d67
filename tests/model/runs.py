"""Short runs of SLIF-MR on the stub data set, told apart by everything a key can change."""

from functools import cache

import numpy as np
import torch

from tests.model.stub import batch, build, dataset


@cache
def unchanging(changes):
    return signature(dataset(), **dict(changes))


def signature(data=None, **changes):
    """All a key can change: shapes, losses of four epochs with a step in each, scores."""
    if data is None:
        return unchanging(tuple(sorted(changes.items())))
    model = build(data, **changes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    parts = [("shapes", [tuple(parameter.shape) for parameter in model.parameters()])]
    for epoch in range(4):
        model.pre_epoch(epoch)
        optimizer.zero_grad()
        losses = model.calculate_loss(batch(4, seed=epoch))
        torch.stack(list(losses)).sum().backward()
        optimizer.step()
        parts.append((f"losses {epoch}", [float(part.detach()) for part in losses]))
    users, items = model.score_tables()
    parts.append(("scores", (users @ items.T).double().sum(dim=1).tolist()))
    return parts


def finite(parts):
    return all(np.isfinite(np.array(values, dtype=float)).all() for name, values in parts[1:])
