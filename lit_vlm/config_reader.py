"""A config as ``lit-vlm fit`` would read it, without what it describes."""

from typing import Any

from lit_vlm.cli import LitVLMCLI, run


class ConfigReader(LitVLMCLI):
    """The command line up to where objects would be made: no model, no weights, no data."""

    def _set_seed(self) -> None:
        """Draw nothing."""

    def before_instantiate_classes(self) -> None:
        """Prepare nothing."""

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def after_instantiate_classes(self) -> None:
        """There is nothing to look at."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


def read_fit_config(words: list[str]) -> dict[str, Any]:
    """Return the whole config of ``lit-vlm fit``, defaults included, as plain dictionaries.

    Args:
        words: what follows ``fit`` on the command line.

    Raises:
        ConfigError: if the command line or a config is wrong.
    """
    config: dict[str, Any] = run("fit", words, ConfigReader).config["fit"].as_dict()
    return config
