from collections.abc import Callable
from pathlib import Path

from lit_vlm.data import JSONConversations
from lit_vlm.data.modality import shows_images


def test_tells_samples_with_images_from_others_over_all_sources(
    color_questions: Callable[[list[bool]], Path], tmp_path: Path
) -> None:
    path = color_questions([True, False, True])
    sources = [JSONConversations(path), JSONConversations(path)]
    for source in sources:
        source.prepare()
    assert shows_images(sources).tolist() == [True, False, True] * 2
    assert shows_images([]).tolist() == []
