"""Showing a dialogue as a model reads it."""

from lit_vlm.viewing.page import record_page, sample_page
from lit_vlm.viewing.pieces import ReadDialogue, Token, VisualTokens, read_dialogue
from lit_vlm.viewing.seen_images import SeenImage, see_images
from lit_vlm.viewing.stored_record import record_lines
from lit_vlm.viewing.terminal import counts_line, dialogue_lines, tokens_line

__all__ = [
    "ReadDialogue",
    "SeenImage",
    "Token",
    "VisualTokens",
    "counts_line",
    "dialogue_lines",
    "read_dialogue",
    "record_lines",
    "record_page",
    "sample_page",
    "see_images",
    "tokens_line",
]
