import pytest
from jsonargparse import ArgumentParser
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lit_vlm.connectors import Connector
from lit_vlm.errors import ConfigError, explain, nearest, root_cause


class Broken(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise ValueError("train.jsonl:1 (sample 'a'): there is no image a.png.")


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("depht", ["depth", "width"], " Did you mean: depth?"),
        ("zzz", ["depth", "activation"], " Accepted: activation, depth."),
        ("zzz", [f"option{i}" for i in range(50)], ""),
        ("zzz", [], ""),
    ],
)
def test_names_what_is_near_or_all_there_is(word: str, known: list[str], hint: str) -> None:
    assert nearest(word, known) == hint


def test_lists_nothing_if_only_what_is_near_is_wanted() -> None:
    assert nearest("zzz", ["depth"], list_all=False) == ""


@pytest.mark.parametrize("kind", [ValueError, TypeError, OSError, ImportError, ConfigError])
def test_explains_a_mistake_by_its_message(kind: type[Exception]) -> None:
    assert explain(kind("depth must be at least 1, got 0.")) == "depth must be at least 1, got 0."


def test_names_an_error_that_has_no_message() -> None:
    assert explain(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    "bug", [KeyError("x"), RuntimeError("x"), AssertionError(), ZeroDivisionError()]
)
def test_does_not_explain_a_bug_away(bug: Exception) -> None:
    assert explain(bug) is None


def test_repeats_what_a_worker_process_said_without_its_traceback() -> None:
    with pytest.raises(ValueError, match="Caught ValueError in DataLoader worker") as caught:
        next(iter(DataLoader(Broken(), num_workers=1)))
    assert explain(caught.value) == "train.jsonl:1 (sample 'a'): there is no image a.png."


def test_keeps_our_own_error_that_names_its_cause() -> None:
    error = ValueError("ours")
    error.__cause__ = KeyError("theirs")
    assert root_cause(error) is error


def test_unwraps_what_the_parser_wrapped() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--connector", type=Connector | None)
    sizes = {"in_dim": 2, "out_dim": 2, "depth": 0}
    made = {"class_path": "lit_vlm.connectors.MLPConnector", "init_args": sizes}
    config = parser.parse_object({"connector": made})
    with pytest.raises(ValueError, match="depth") as caught:
        parser.instantiate(config)
    assert str(root_cause(caught.value)) == "MLPConnector: depth must be at least 1, got 0."


def test_lists_the_first_weights_that_do_not_fit() -> None:
    small, large = nn.Linear(2, 2), nn.Sequential(*[nn.Linear(3, 3) for _ in range(4)])
    with pytest.raises(RuntimeError, match="Error") as caught:
        small.load_state_dict(large.state_dict())
    message = explain(caught.value)
    assert message is not None
    assert "weights do not fit the model that was configured:\n  Missing key(s)" in message
    assert message.count("\n") <= 4


def test_lists_no_more_than_five_weights_of_wrong_shape() -> None:
    model, other = (nn.Sequential(*[nn.Linear(d, d) for _ in range(4)]) for d in (2, 3))
    with pytest.raises(RuntimeError, match="size mismatch") as caught:
        model.load_state_dict(other.state_dict())
    assert "\n  and 3 more\n" in str(explain(caught.value))


def test_names_a_variable_that_no_config_defines() -> None:
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationKeyError

    config = OmegaConf.create({"fit": {"trainer": {"root": "${vars.root}"}}})
    with pytest.raises(InterpolationKeyError) as caught:  # noqa: PT012
        OmegaConf.to_container(config, resolve=True)
    assert explain(caught.value) == (
        "config error at trainer.root: ${vars.root} must be a key of the config, got none. Define "
        "it there or on the command line (--vars.root VALUE)."
    )


def test_calls_a_damaged_checkpoint_damaged() -> None:
    error = RuntimeError("PytorchStreamReader failed reading file data/3: invalid header. Long.")
    assert explain(error) == (
        "the checkpoint must be whole, got a damaged one: PytorchStreamReader failed reading file "
        "data/3: invalid header."
    )
