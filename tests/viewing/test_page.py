from html.parser import HTMLParser

from PIL import Image

from lit_vlm.conversation import Conversation, ImageContent, Turn
from lit_vlm.viewing.page import sample_page
from lit_vlm.viewing.pieces import ReadDialogue, Token, VisualTokens
from lit_vlm.viewing.seen_images import SeenImage

ANSWER = "<b>&\n"
DIALOGUE = Conversation(
    "<i>1", (Turn("user", (ImageContent("a<.png"), "Q")), Turn("assistant", (ANSWER,)))
)
READ = ReadDialogue(
    pieces=(
        VisualTokens(0, 4, 1, cut=False),
        Token(4, 17, "Q", supervised=False, cut=False),
        Token(5, 18, ANSWER, supervised=True, cut=False),
        Token(6, 19, "</s>", supervised=True, cut=True),
    ),
    learnt=(ANSWER,),
    tokens=7,
    visual=4,
    supervised=1,
    truncated=1,
    max_length=6,
    refusal="too <long>",
)
IMAGE = SeenImage("a<.png", (80, 40), Image.new("RGB", (20, 10), "red"), ((0.25, 0, 0.5, 1),))


class Page(HTMLParser):
    """What a browser would make of the page; every element must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[int] = []
        self.elements: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag != "meta":
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            tag, attributes, text = self.elements[self.open[-1]]
            self.elements[self.open[-1]] = (tag, attributes, text + data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]


def test_marks_every_token_with_its_id_and_what_is_learnt() -> None:
    spans = Page(sample_page(DIALOGUE, [IMAGE], READ)).all("span")
    *_, visual, question, answer, end = spans
    assert visual[0] == {"class": "visual", "title": "places 0 to 3"}
    assert question == ({"class": "token", "title": "id 17, place 4"}, "Q")
    assert answer[0] == {"class": "token supervised", "title": "id 18, place 5"}
    assert answer[1] == "<b>&⏎\n"
    assert end[0] == {"class": "token cut supervised", "title": "id 19, place 6"}


def test_shows_the_picture_and_its_boxes_and_needs_no_other_file() -> None:
    text = sample_page(DIALOGUE, [IMAGE], READ)
    page = Page(text)
    [(svg, _)] = page.all("svg")
    assert svg["viewbox"] == "0 0 20 10"
    [(image, _)] = page.all("image")
    assert image["href"] == IMAGE.data_uri
    [(box, _)] = page.all("rect")
    assert box == {"x": "5", "y": "0", "width": "5", "height": "10"}
    [(link, label)] = page.all("a")
    assert (link["href"], label) == ("#image-1", "[4 visual tokens of image 1]")
    [(figure, _)] = page.all("figure")
    assert figure["id"] == "image-1"
    [(_, caption)] = page.all("figcaption")
    assert caption == "image 1: a<.png, stored with 80 x 40 pixels, seen with 20 x 10"
    assert "http" not in text
    assert {tag for tag, *_ in page.elements}.isdisjoint({"script", "link", "img"})


def test_says_what_is_learnt_why_it_is_refused_and_what_to_know() -> None:
    page = Page(sample_page(DIALOGUE, [], READ, note="from <here>"))
    assert [text for _, text in page.all("code")] == [ANSWER]
    paragraphs = [text for _, text in page.all("p")]
    assert "from <here>" in paragraphs
    assert "Training refuses this sample: too <long>" in paragraphs
    assert "7 tokens: 4 visual, 1 supervised; 1 cut off by max_length=6" in paragraphs
    assert page.all("title")[0][1] == "sample '<i>1'"


def test_shows_the_dialogue_alone_without_a_model() -> None:
    page = Page(sample_page(DIALOGUE, [IMAGE], None))
    assert page.all("span") == []
    turns = [text for attributes, text in page.all("p") if attributes.get("class") == "turn"]
    assert turns == ["user: [a<.png]Q", f"assistant: {ANSWER}"]
