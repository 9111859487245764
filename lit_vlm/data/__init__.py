"""Data: dialogues with images, from files to batches."""

from lit_vlm.data.collation import Batch
from lit_vlm.data.datamodules import ConversationDataModule
from lit_vlm.data.easy_vqa import EasyVQA
from lit_vlm.data.image_datamodule import ImageBatch, ImageDataModule
from lit_vlm.data.json_source import JSONConversations
from lit_vlm.data.sources import ConversationSource

__all__ = [
    "Batch",
    "ConversationDataModule",
    "ConversationSource",
    "EasyVQA",
    "ImageBatch",
    "ImageDataModule",
    "JSONConversations",
]
