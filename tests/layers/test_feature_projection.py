"""Raw features mapped to the width of the tables."""

import torch

from recbole_slif.layers.feature_projection import FeatureProjection

PRESENCE = torch.tensor([[False, False], [True, True], [True, False], [False, True]])


def projection():
    torch.manual_seed(0)
    matrices = [torch.randn(4, 5), torch.randn(4, 3)]
    matrices[0][3] = torch.nan
    matrices[1][2] = torch.nan
    layer = FeatureProjection(matrices, PRESENCE, 6)
    with torch.no_grad():
        for linear in layer.maps:
            linear.bias.normal_()
    return layer, matrices


def test_each_item_is_the_mean_over_the_modalities_it_has():
    layer, matrices = projection()
    result = layer()
    assert result.shape == (4, 6)
    for item in range(4):
        expected = torch.zeros(6)
        present = [number for number in range(2) if PRESENCE[item, number]]
        for number in present:
            linear = layer.maps[number]
            for out in range(6):
                value = linear.bias[out].item()
                for column, weight in enumerate(linear.weight[out].tolist()):
                    value += weight * matrices[number][item, column].item()
                expected[out] += value / len(present)
        torch.testing.assert_close(result[item].detach(), expected)


def test_an_item_without_features_is_zero_and_missing_rows_may_hold_nan():
    layer, _ = projection()
    result = layer()
    assert torch.isfinite(result).all()
    assert not result[0].any()


def test_gradients_reach_every_map_and_the_features_stay_frozen():
    layer, matrices = projection()
    layer().square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
        assert torch.isfinite(parameter.grad).all(), name
    assert len(list(layer.parameters())) == 4
    assert torch.isnan(matrices[0][3]).all()


def test_maps_start_xavier_uniform_without_bias_and_features_are_not_saved():
    layer = FeatureProjection([torch.randn(4, 5)], PRESENCE[:, :1], 6)
    bound = (6 / (5 + 6)) ** 0.5
    assert layer.maps[0].weight.abs().max() <= bound
    assert not layer.maps[0].bias.any()
    assert set(layer.state_dict()) == {"maps.0.weight", "maps.0.bias"}


def test_gradcheck():
    layer, _ = projection()
    layer.double()

    def forward(*parameters):
        named = dict(zip([name for name, _ in layer.named_parameters()], parameters, strict=True))
        return torch.func.functional_call(layer, named, ())

    inputs = [parameter.detach().requires_grad_() for parameter in layer.parameters()]
    assert torch.autograd.gradcheck(forward, inputs)
