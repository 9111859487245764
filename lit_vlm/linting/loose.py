"""A dialogue as far as it can be made out, and what cannot."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lit_vlm.conversation import ROLES, Role
from lit_vlm.linting.problems import Finding

FORMS: dict[str, tuple[str, str, dict[str, Role]]] = {
    "conversations": ("from", "value", {"system": "system", "human": "user", "gpt": "assistant"}),
    "messages": ("role", "content", {role: role for role in ROLES}),
}
"""Of each form of a sample: the keys of role and text in a turn, and the roles' names."""

IMAGE, BOX = "<image>", "<bbox>"


@dataclass(slots=True)
class LooseTurn:
    """A turn that may be wrong.

    Attributes:
        role: who speaks; None if that is unknown.
        text: the words, markers of boxes and markup of images included.
        shown: images in it, those that stand for the next of the sample's list and others.
        from_list: the former alone.
        readable: whether all of it could be made out.
    """

    role: Role | None = None
    text: str = ""
    shown: int = 0
    from_list: int = 0
    readable: bool = True


@dataclass(slots=True)
class LooseDialogue:
    """A sample that may be wrong.

    Attributes:
        turns: its turns.
        images: what it lists under ``image`` or ``images``.
        listed: whether the list of images is one.
        findings: what has another type than the form has, is unknown or is missing.
    """

    turns: list[LooseTurn] = field(default_factory=list)
    images: list[Any] = field(default_factory=list)
    listed: bool = True
    findings: list[Finding] = field(default_factory=list)

    def complain(self, kind: str, message: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, message))


def make_out(record: Any) -> LooseDialogue:
    """Read what can be read of a sample in either form."""
    dialogue = LooseDialogue()
    if not isinstance(record, Mapping):
        got = type(record).__name__
        dialogue.complain("wrong_type", f"a sample must be a JSON object, got {got}")
        return dialogue
    form = next((form for form in FORMS if form in record), None)
    if form is None:
        keys = ", ".join(sorted(map(str, record))) or "(none)"
        message = f"must have 'conversations' or 'messages', got the keys {keys}"
        dialogue.complain("no_dialogue", message)
        return dialogue
    dialogue.images = _listed_images(record, dialogue)
    turns = _list(record[form], f"{form!r}", dialogue)
    if turns == []:
        dialogue.complain("no_dialogue", f"{form!r} must hold turns, got none")
    for place, turn in enumerate(turns or [], start=1):
        dialogue.turns.append(_turn(turn, form, f"turn {place}", dialogue))
    return dialogue


def _listed_images(record: Mapping[str, Any], dialogue: LooseDialogue) -> list[Any]:
    keys = [key for key in ("image", "images") if record.get(key) is not None]
    if not keys:
        return []
    named = record[keys[0]]
    if isinstance(named, str) and not is_list_text(named):
        if keys[0] == "images":
            dialogue.complain("bare_images", f"'images' should be a list, got {named!r}")
        named = [named]
    images = _list(named, f"{keys[0]!r}", dialogue)
    dialogue.listed = images is not None
    for image in images or []:
        _check_path(image, dialogue)
    return images or []


def is_list_text(text: str) -> bool:
    """Return whether a string looks like a list that was made one.

    Example:
        >>> is_list_text("['a.png', 'b.png']"), is_list_text("[1]a.png")
        (True, False)
    """
    return text.lstrip().startswith("[") and text.rstrip().endswith("]")


def _check_path(path: Any, dialogue: LooseDialogue) -> None:
    if not isinstance(path, str) or not path:
        dialogue.complain("wrong_type", f"an image must be a path, got {path!r}")


def _turn(turn: Any, form: str, name: str, dialogue: LooseDialogue) -> LooseTurn:
    role_key, text_key, roles = FORMS[form]
    made = LooseTurn()
    if not isinstance(turn, Mapping):
        made.readable = False
        got = type(turn).__name__
        dialogue.complain("wrong_type", f"{name} must be an object, got {got}")
        return made
    role = turn.get(role_key)
    made.role = roles.get(role) if isinstance(role, str) else None
    if made.role is None:
        message = f"{name}: {role_key!r} must be one of {', '.join(roles)}, got {role!r}"
        dialogue.complain("unknown_role", message)
    if form == "conversations":
        _add_text(made, turn.get(text_key), f"{name}: 'value'", dialogue, marks_images=True)
    else:
        _add_content(made, turn.get(text_key), name, dialogue)
    return made


def _add_content(made: LooseTurn, content: Any, name: str, dialogue: LooseDialogue) -> None:
    if isinstance(content, str):
        _add_text(made, content, f"{name}: 'content'", dialogue, bool(dialogue.images))
    elif isinstance(content, list):
        for part in content:
            _add_part(made, part, name, dialogue)
    else:
        made.readable = False
        got = type(content).__name__
        dialogue.complain("wrong_type", f"{name}: 'content' must be text or a list, got {got}")


def _add_part(made: LooseTurn, part: Any, name: str, dialogue: LooseDialogue) -> None:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        _add_text(made, part.get("text"), f"{name}: 'text'", dialogue, bool(dialogue.images))
    elif kind == "image":
        made.shown += 1
        path = next((part[key] for key in ("path", "image", "url") if key in part), None)
        if path is None and dialogue.images:
            made.from_list += 1
        elif path is None:
            message = f"{name}: an image must have a path, or the sample 'images', got neither"
            dialogue.complain("too_few_images", message)
        else:
            _check_path(path, dialogue)
    else:
        made.readable = False
        got = repr(part if isinstance(part, str) else kind)
        message = f"{name}: a part must be an object of type 'text' or 'image', got {got}"
        dialogue.complain("wrong_type", message)


def _add_text(
    made: LooseTurn, text: Any, what: str, dialogue: LooseDialogue, marks_images: bool
) -> None:
    made.readable &= isinstance(text, str)
    if isinstance(text, list):
        dialogue.complain("list_for_string", f"{what} must be a string, got a list")
    elif not isinstance(text, str):
        dialogue.complain("wrong_type", f"{what} must be a string, got {type(text).__name__}")
    else:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            message = f"{what} must be text, got half of a surrogate pair in it"
            dialogue.complain("broken_text", message)
        count = text.count(IMAGE) if marks_images else 0
        made.shown += count
        made.from_list += count
        made.text += text.replace(IMAGE, "") if marks_images else text


def _list(value: Any, what: str, dialogue: LooseDialogue) -> list[Any] | None:
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        message = f"{what} must be a list, got the string {value[:60]!r}"
        dialogue.complain("string_for_list", message)
    else:
        dialogue.complain("wrong_type", f"{what} must be a list, got {type(value).__name__}")
    return None


def answers_of(dialogue: LooseDialogue) -> Iterator[str]:
    """Yield the words of the assistant's turns."""
    return (turn.text for turn in dialogue.turns if turn.role == "assistant")
