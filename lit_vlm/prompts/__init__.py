"""Prompt formats: dialogues to segments of text, images and answers."""

from lit_vlm.prompts.base import IMAGE, PromptFormat, Segment
from lit_vlm.prompts.boxes import BoxFormat, PlainBoxes, QwenBoxes, read_boxes, write_box
from lit_vlm.prompts.chat_template import ChatTemplate
from lit_vlm.prompts.llava import LLaVAV1
from lit_vlm.prompts.llava_plain import LLaVAPlain
from lit_vlm.prompts.plain import Plain
from lit_vlm.prompts.question_answer import QuestionAnswer
from lit_vlm.prompts.qwen_vl import QwenVL
from lit_vlm.prompts.qwen_vl_pretraining import QwenVLPretraining
from lit_vlm.prompts.visual_chat import VisualChat

__all__ = [
    "IMAGE",
    "BoxFormat",
    "ChatTemplate",
    "LLaVAPlain",
    "LLaVAV1",
    "Plain",
    "PlainBoxes",
    "PromptFormat",
    "QuestionAnswer",
    "QwenBoxes",
    "QwenVL",
    "QwenVLPretraining",
    "Segment",
    "VisualChat",
    "read_boxes",
    "write_box",
]
