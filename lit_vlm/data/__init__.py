"""Data: dialogues with images, and pictures with classes or captions, from files to batches."""

from lit_vlm.data.augmentation import Augmentation, RandomResizedCrop
from lit_vlm.data.blending import BlendedConversations
from lit_vlm.data.classification_datamodule import ImageClassificationDataModule
from lit_vlm.data.collation import Batch
from lit_vlm.data.concatenation import ConcatenatedConversations
from lit_vlm.data.datamodules import ConversationDataModule
from lit_vlm.data.easy_vqa import EasyVQA
from lit_vlm.data.easy_vqa_boxes import EasyVQABoxes
from lit_vlm.data.easy_vqa_captions import EasyVQACaptions
from lit_vlm.data.easy_vqa_descriptions import EasyVQADescriptions
from lit_vlm.data.easy_vqa_labels import EasyVQALabels
from lit_vlm.data.easy_vqa_pairs import EasyVQAPairs
from lit_vlm.data.hf_pairs import HuggingFacePairs
from lit_vlm.data.image_batches import CropBatch, LabelledBatch, PairBatch
from lit_vlm.data.image_datamodule import ImageBatch, ImageDataModule
from lit_vlm.data.image_folder import ImageFolder
from lit_vlm.data.json_source import JSONConversations
from lit_vlm.data.labelled_csv import LabelledCSV
from lit_vlm.data.multi_crop import MultiCrop
from lit_vlm.data.pair_stream import PairStream
from lit_vlm.data.pairs_datamodule import ImageTextDataModule
from lit_vlm.data.pairs_file import PairsFile
from lit_vlm.data.picture_sources import LabelledSource, PairSource, PictureSource
from lit_vlm.data.resampled_webdataset import ResampledWebDataset
from lit_vlm.data.sidecar_captions import SidecarCaptions
from lit_vlm.data.sources import ConversationSource
from lit_vlm.data.torchvision_data import TorchvisionData
from lit_vlm.data.webdataset_pairs import WebDatasetPairs

__all__ = [
    "HuggingFacePairs",
    "ResampledWebDataset",
    "WebDatasetPairs",
    "Augmentation",
    "Batch",
    "BlendedConversations",
    "ConcatenatedConversations",
    "ConversationDataModule",
    "ConversationSource",
    "CropBatch",
    "EasyVQA",
    "EasyVQABoxes",
    "EasyVQACaptions",
    "EasyVQADescriptions",
    "EasyVQALabels",
    "EasyVQAPairs",
    "ImageBatch",
    "ImageClassificationDataModule",
    "ImageDataModule",
    "ImageFolder",
    "ImageTextDataModule",
    "JSONConversations",
    "LabelledBatch",
    "LabelledCSV",
    "LabelledSource",
    "MultiCrop",
    "PairBatch",
    "PairSource",
    "PairStream",
    "PairsFile",
    "PictureSource",
    "RandomResizedCrop",
    "SidecarCaptions",
    "TorchvisionData",
]
