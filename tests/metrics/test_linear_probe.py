from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lit_vlm.metrics import linear_probe as module
from lit_vlm.metrics.linear_probe import LinearProbe, train_linear_probe


def drawn(rows: int, seed: int, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Features of unlike sizes around the centres of five classes, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 5
    centres = 2 * torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    features = centres[labels] + spread * torch.randn(rows, 8, generator=generator)
    return features * torch.logspace(-2, 2, 8) + 3, labels


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).float().mean())


def by_lbfgs(features: Tensor, labels: Tensor, decay: float) -> nn.Linear:
    """The minimum of the same loss, found by a method of second order."""
    layer = nn.Linear(features.shape[1], 5)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    solver = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = cross_entropy(layer(features), labels) + decay / 2 * layer.weight.square().sum()
        torch.autograd.backward(loss)
        return loss

    step: Any = solver.step
    step(closure)
    return layer


def standardised(features: Tensor, of: Tensor) -> Tensor:
    return (features - of.mean(0)) / of.std(0, correction=0)


def test_separates_what_can_be_separated() -> None:
    (train, labels), (test, truth) = drawn(200, 1, 0.1), drawn(100, 2, 0.1)
    layer = by_lbfgs(standardised(train, train), labels, 1e-4)
    assert accuracy(layer(standardised(test, train)), truth) == 1
    assert accuracy(train_linear_probe(train, labels, steps=100)(test), truth) == 1


def test_comes_to_the_minimum_that_lbfgs_finds() -> None:
    (train, labels), (test, truth) = drawn(200, 1, 3.0), drawn(200, 2, 3.0)
    probe = train_linear_probe(train, labels, [0.5], [0.01], steps=600)
    layer = by_lbfgs(standardised(train, train), labels, 0.01)
    torch.testing.assert_close(probe.weight, layer.weight.T.detach(), rtol=0, atol=2e-3)
    torch.testing.assert_close(probe.bias, layer.bias.detach(), rtol=0, atol=2e-3)
    expected = accuracy(layer(standardised(test, train)), truth)
    assert accuracy(probe(test), truth) == pytest.approx(expected, abs=0.006)
    assert 0.5 < expected < 1


def test_one_step_is_that_of_autograd() -> None:
    features, labels = drawn(20, 1)
    probe = train_linear_probe(features, labels, [0.3], [0.1], steps=1)
    layer = nn.Linear(8, 5)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    torch.autograd.backward(cross_entropy(layer(standardised(features, features)), labels))
    assert layer.weight.grad is not None
    torch.testing.assert_close(probe.weight, -0.3 * layer.weight.grad.T)


def test_each_of_the_grid_is_trained_as_it_would_be_alone() -> None:
    features, labels = drawn(300, 1)
    grid = torch.tensor([(rate, decay) for rate in (0.001, 0.1) for decay in (0.0, 0.1)])

    def trained(rows: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return module._train(features / 100, labels, rows, 5, 20, 64, generator)[0]

    together = trained(grid)
    for place in range(4):
        alone = trained(grid[place : place + 1])
        torch.testing.assert_close(together[place], alone[0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(together[2], together[3], rtol=1e-2)


def correlated(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two classes that a difference of two noisy features tells apart, and no mean does."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 2
    noise = torch.randn(rows, 1, generator=generator)
    own = 0.05 * torch.randn(rows, 2, generator=generator)
    return torch.cat([noise + 0.2 * labels[:, None], noise], dim=1) + own, labels


def test_the_best_learning_rate_wins() -> None:
    features, labels = correlated(300, 1)
    probe = train_linear_probe(features, labels, [1e-7, 1.0, 1e30], [0.0], steps=200)
    assert probe.learning_rate == 1.0
    assert probe.held_out_accuracy > 0.9
    assert train_linear_probe(features, labels, [1e-7], [0.0]).held_out_accuracy < 0.8


def test_the_best_weight_decay_wins() -> None:
    features, labels = correlated(300, 1)
    probe = train_linear_probe(features, labels, [1.0], [0.0, 1.0], steps=200)
    assert probe.weight_decay == 0.0
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    noise = torch.randn(400, 300, generator=generator)  # more features than they are trained on
    noise[:, :50] += 0.2 * (2 * labels[:, None] - 1)
    probe = train_linear_probe(noise, labels, [0.1], [0.0, 1.0], steps=200, held_out=0.5)
    assert probe.weight_decay == 1.0


def test_the_choice_rests_on_features_that_it_was_not_trained_on() -> None:
    """Labels by chance can be learnt by heart, but not guessed."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(100, 200, generator=generator)
    labels = torch.randint(2, (100,), generator=generator)
    probe = train_linear_probe(features, labels, [0.1], [0.0], steps=200, held_out=0.5)
    assert accuracy(probe(features), labels) == 1
    assert 0.25 < probe.held_out_accuracy < 0.75


def test_is_the_same_again_and_draws_from_no_common_generator() -> None:
    features, labels = drawn(300, 1)
    before = torch.get_rng_state()

    def train(seed: int) -> LinearProbe:
        return train_linear_probe(features, labels, steps=5, batch_size=32, seed=seed)

    first, again, other = train(0), train(0), train(1)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_features_that_never_vary_count_for_nothing() -> None:
    features, labels = drawn(100, 1, 0.1)
    features[:, 3] = 7.0
    probe = train_linear_probe(features, labels, steps=50)
    features[:, 3] = 1e9
    assert accuracy(probe(features), labels) == 1


def test_trains_where_autograd_is_off() -> None:
    with torch.inference_mode():
        features, labels = drawn(100, 1, 0.1)
        assert accuracy(train_linear_probe(features, labels, steps=50)(features), labels) == 1


@pytest.mark.parametrize(
    ("rows", "rates", "decays", "share", "message"),
    [
        (1, [0.1], [0.0], 0.2, "there must be two features to learn from, got 1"),
        (9, [], [0.0], 0.2, "there must be a learning rate and a weight decay, got .. and .0.0."),
        (9, [0.1], [], 0.2, "there must be a learning rate and a weight decay"),
        (9, [0.1], [0.0], 1.0, "held_out must be a share between 0 and 1, got 1.0"),
    ],
)
def test_refuses_what_it_cannot_learn_from(
    rows: int, rates: list[float], decays: list[float], share: float, message: str
) -> None:
    features, labels = drawn(rows, 1)
    with pytest.raises(ValueError, match=message):
        train_linear_probe(features, labels, rates, decays, held_out=share)


def test_refuses_features_that_are_not_finite() -> None:
    features, labels = drawn(9, 1)
    features[2, 0] = torch.nan
    with pytest.raises(ValueError, match="train_linear_probe: vectors .* finite, got 1 of 9 with"):
        train_linear_probe(features, labels)
