import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from lit_vlm.connectors import MLPConnector
from lit_vlm.freezing import evaluating, freeze, is_frozen, train_only, trains, unfreeze


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def modes(module: nn.Module) -> list[bool]:
    return [child.training for child in module.modules()]


def test_freezing_turns_gradients_off_and_drops_them() -> None:
    module = network()
    torch.autograd.backward(module(torch.randn(3, 4)).sum())
    assert module[0].weight.grad is not None
    freeze(module)
    assert is_frozen(module)
    assert not trains(module)
    assert all(p.grad is None for p in module.parameters())


def test_evaluation_mode_survives_train_of_the_module_and_of_its_parents() -> None:
    module, beside = network(), network()
    parent = nn.Sequential(nn.Sequential(module), beside)
    freeze(module)
    assert module.train() is module
    parent.train()
    assert modes(module) == [False] * 4
    assert modes(beside) == [True] * 4
    parent.eval()
    assert modes(parent) == [False] * len(modes(parent))


def test_statistics_and_dropout_of_a_frozen_module_stand_still() -> None:
    module = network()
    freeze(module)
    parent = nn.Sequential(module).train()
    inputs = torch.randn(8, 4) + 3
    before = copy.deepcopy(module.state_dict())
    assert torch.equal(parent(inputs), parent(inputs))
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_unfreezing_brings_gradients_and_training_mode_back() -> None:
    module = network()
    freeze(module)
    unfreeze(module)
    assert not is_frozen(module)
    assert all(p.requires_grad for p in module.parameters())
    assert modes(module) == [True] * 4
    assert modes(module.eval()) == [False] * 4
    assert "train" not in module.__dict__


def test_freezing_twice_is_freezing_once() -> None:
    module = network()
    freeze(module)
    freeze(module)
    unfreeze(module)
    assert modes(module) == [True] * 4


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_is_frozen_by_itself(how: str) -> None:
    module = network()
    freeze(module)
    twin: nn.Module = (
        copy.deepcopy(module) if how == "deepcopy" else pickle.loads(pickle.dumps(module))
    )
    assert is_frozen(twin)
    unfreeze(module)
    assert modes(nn.Sequential(twin).train())[1:] == [False] * 4
    assert modes(module) == [True] * 4, "the twin must not hold on to the original"
    unfreeze(twin)
    assert modes(twin) == [True] * 4


def test_a_part_freezes_itself() -> None:
    connector = MLPConnector(4, 4)
    assert not connector.frozen
    assert connector.freeze() is connector
    assert connector.frozen
    assert not nn.Sequential(connector).train()[0].training
    assert connector.unfreeze() is connector
    assert trains(connector)
    assert connector.training


@pytest.mark.parametrize("fails", [False, True])
def test_evaluating_gives_each_module_the_mode_it_had(fails: bool) -> None:
    module, other = network(), network()
    module[1].eval()
    other.eval()
    freeze(module[0])
    before = modes(module), modes(other)
    with pytest.raises(RuntimeError, match="stop") if fails else evaluating():
        with evaluating(module, other):
            assert not any(modes(module) + modes(other))
            if fails:
                raise RuntimeError("stop")
    assert (modes(module), modes(other)) == before


def test_evaluating_keeps_batches_out_of_the_statistics() -> None:
    module = network()
    with evaluating(module):
        module(torch.randn(3, 4))
    assert module.state_dict()["1.num_batches_tracked"] == 0


def tower() -> Any:
    return nn.Sequential(*[network() for _ in range(3)], nn.Linear(4, 4))


def trained(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def test_some_modules_train_and_the_rest_is_frozen() -> None:
    model = tower()
    torch.autograd.backward(model(torch.randn(3, 4)).sum())
    train_only(model, ["1", "3.bias"])
    assert trained(model) == {"1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias", "3.bias"}
    assert all((p.grad is None) != p.requires_grad for p in model.parameters())
    model.train()
    assert modes(model[0]) == modes(model[2]) == [False] * 4
    assert modes(model[1]) == [True] * 4
    assert model.training
    assert model[3].training


def test_a_module_inside_one_that_is_frozen_trains_with_its_dropout() -> None:
    model: Any = nn.Sequential(tower(), nn.Linear(4, 4))
    train_only(model, ["0.2"])
    model.train()
    assert [child.training for child in model[0]] == [False, False, True, False]
    assert modes(model[0][2]) == [True] * 4
    assert not model[1].training


def test_exceptions_inside_of_what_trains_stay_frozen() -> None:
    model = tower()
    train_only(model, ["1", "3"], kept=["1.1", "3.bias"])
    assert trained(model) == {"1.0.weight", "1.0.bias", "3.weight"}
    model.train()
    assert modes(model[1]) == [True, True, False, True]


def test_each_choice_undoes_the_one_before() -> None:
    model = tower()
    for _ in range(2):
        train_only(model, ["0.1"])
        train_only(model, ["0", "1", "2", "3"])
        assert modes(model.train()) == [True] * len(modes(model))
        assert all(p.requires_grad for p in model.parameters())
        assert not any(is_frozen(module) for module in model.modules())


def test_a_tensor_that_two_modules_share_trains_if_one_of_them_does() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    for name in ("0", "1"):
        train_only(model, [name])
        assert model[0].weight.requires_grad
        assert trained(model) == {"0.weight", f"{name}.bias"}


def test_new_tokens_train_always_and_what_adapters_keep_never() -> None:
    model = nn.ModuleDict({"voice": tower(), "eye": nn.Linear(4, 4)})
    voice: Any = model["voice"]
    voice[0].trains_when_frozen = True
    voice.only_trains = frozenset({"0.0.weight", "2.0.weight"})
    train_only(model, ["eye"])
    assert trained(model) == {"voice.0.0.weight", "eye.weight", "eye.bias"}
    train_only(model, ["voice"])
    assert trained(model) == {"voice.0.0.weight", "voice.2.0.weight"}


def test_dropout_beside_the_parts_is_nobodys_and_works() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4))
    train_only(model, ["2"])
    model.train()
    assert [child.training for child in model] == [False, True, True]
