"""The penalty on a batch's rows, squared and not."""

import math

import torch

from recbole_slif.layers.row_penalty import row_penalty


def test_squared_and_plain_penalty():
    first = torch.tensor([[1.0, 2.0], [0.0, 2.0]])
    second = torch.tensor([[2.0], [0.0]])
    assert row_penalty(first, second).item() == (9.0 + 4.0) / 2 / 2
    assert math.isclose(row_penalty(first, second, squared=False).item(), (3.0 + 2.0) / 2)
