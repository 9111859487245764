"""Prompt formats: dialogues to segments of text, images and answers."""

from lit_vlm.prompts.base import IMAGE, PromptFormat, Segment
from lit_vlm.prompts.chat_template import ChatTemplate
from lit_vlm.prompts.plain import Plain

__all__ = ["IMAGE", "ChatTemplate", "Plain", "PromptFormat", "Segment"]
