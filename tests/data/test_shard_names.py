from pathlib import Path

import pytest

from lit_vlm.data.shard_names import absolute, find_shards, is_address


def test_expands_braces_and_wildcards_in_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.tar" for name in ("a-00", "a-01", "a-02", "b")]
    for path in paths:
        path.touch()
    assert find_shards("S", [f"{tmp_path}/a-{{00..02}}.tar"]) == [str(p) for p in paths[:3]]
    assert find_shards("S", [f"{tmp_path}/b.tar", f"{tmp_path}/a-*.tar"]) == [
        str(path) for path in (paths[3], *paths[:3])
    ]


def test_leaves_addresses_and_commands_to_the_library() -> None:
    assert find_shards("S", ["https://there/x-{0..1}.tar"]) == [
        "https://there/x-0.tar",
        "https://there/x-1.tar",
    ]
    assert find_shards("S", ["pipe:cat *.tar"]) == ["pipe:cat *.tar"]
    assert is_address("s3://there/x.tar")
    assert not is_address("C:\\x.tar")
    assert absolute("pipe:cat x.tar") == "pipe:cat x.tar"
    assert absolute("x-{0..1}.tar") == str(Path.cwd() / "x-{0..1}.tar")


def test_names_the_first_shard_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "0.tar").touch()
    with pytest.raises(FileNotFoundError, match=r"S: each of the 3 shards .* but 2 .*1\.tar\. Cor"):
        find_shards("S", [f"{tmp_path}/{{0..2}}.tar"])
    with pytest.raises(FileNotFoundError, match=r"S: shards must name files, got .*\?x, which"):
        find_shards("S", [f"{tmp_path}/?x"])


def test_refuses_no_shard_and_one_twice() -> None:
    with pytest.raises(ValueError, match="S: shards must name a shard, got none"):
        find_shards("S", [])
    with pytest.raises(ValueError, match="S: shards must name each shard once, got pipe:a twice"):
        find_shards("S", ["pipe:a", "pipe:a"])
