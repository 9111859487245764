"""Experiments by name or by path."""

from pathlib import Path
from typing import Any

import yaml

from lit_vlm.errors import ConfigError, nearest

CONFIGS = Path(__file__).parent / "configs"


def find_config(name: str) -> str:
    """Return the path of a config file: itself, or that of a shipped experiment.

    Args:
        name: a path, or a shipped experiment's name such as ``quickstart`` or
            ``systems/llava/toy``.

    Raises:
        ConfigError: if there is neither.
    """
    if Path(name).is_file():
        return name
    shipped = CONFIGS / f"{name}.yaml"
    if shipped.is_file():
        return str(shipped)
    known = shipped_configs()
    hint = nearest(name.removesuffix(".yaml"), known, list_all=False)
    raise ConfigError(
        f"--config must be a file or a shipped experiment ({', '.join(known)}), got {name!r}.{hint}"
    )


def shipped_configs() -> list[str]:
    """Return the names of all shipped experiments, those in folders as ``FOLDER/NAME``."""
    paths = sorted(CONFIGS.rglob("*.yaml"))
    return [path.relative_to(CONFIGS).with_suffix("").as_posix() for path in paths]


def read_config(path: str) -> dict[str, Any]:
    """Return what a config file says, before anything in it is interpreted.

    Raises:
        ConfigError: if it is not YAML, holds no keys, or the same key twice, of which YAML would
            ignore one.
    """
    try:
        tree = yaml.compose(Path(path).read_text(encoding="utf-8"), yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: a config must be YAML, got a file that is no text.") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: a config must be YAML, got: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: a config must be YAML, got: {error}.") from error
    if (repeated := _repeated_key(tree)) is not None:
        line = repeated.start_mark.line + 1
        raise ConfigError(f"{path}:{line}: each key must stand once, got {repeated.value} again.")
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        found = "an empty file" if content is None else f"a {type(content).__name__}"
        raise ConfigError(
            f"{path}: a config must hold keys such as trainer and model, got {found}."
        )
    return content


def _repeated_key(node: yaml.Node | None) -> yaml.ScalarNode | None:
    if not isinstance(node, yaml.CollectionNode):
        return None
    seen: set[str] = set()
    for entry in node.value:
        key, value = entry if isinstance(node, yaml.MappingNode) else (None, entry)
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                return key
            seen.add(key.value)
        if (found := _repeated_key(value)) is not None:
            return found
    return None
