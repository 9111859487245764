import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import DynamicCache

from lit_vlm.language_models import CausalLanguageModel
from lit_vlm.language_models.multimodal_causal_attention import (
    multimodal_causal_attention,
    multimodal_causal_mask,
)
from lit_vlm.language_models.token_roles import TokenRoles, roles_in_force

SIZES = {
    "vocab_size": 80,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
# A system prompt, two images of two tokens each with words between them, then text.
VISUAL = torch.tensor([[0, 0, 1, 1, 0, 1, 1, 0, 0, 0]], dtype=torch.bool)
LENGTH = VISUAL.shape[1]


def roles(visual: Tensor = VISUAL) -> TokenRoles:
    return TokenRoles(visual, torch.zeros_like(visual))


def model(kind: str = "llama", attention: str = "multimodal_causal", **more: Any) -> Any:
    torch.manual_seed(0)
    made = CausalLanguageModel(config={"model_type": kind, **SIZES}, attention=attention, **more)
    return made.eval()


def embeddings(batch: int = 1, length: int = LENGTH) -> Tensor:
    return torch.randn(batch, length, 32, generator=torch.Generator().manual_seed(1))


def logits(lm: Any, inputs: Tensor, visual: Tensor = VISUAL) -> Tensor:
    seen = torch.ones(inputs.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        return lm.logits(inputs, seen, roles(visual))


class Heads(nn.Module):
    """What transformers' attention functions ask of the module that calls them."""

    num_key_value_groups = 1
    is_causal = True


def by_hand(query: Tensor, key: Tensor, value: Tensor, visual: list[bool]) -> Tensor:
    """Compute the figure of the paper, one query of one head at a time."""
    scale = query.shape[-1] ** -0.5
    rows = []
    for i, is_image in enumerate(visual):
        scores = query[i] @ key.T * scale
        text = [j for j in range(i + 1) if not visual[j]]
        images = [j for j in range(i) if visual[j]]
        if is_image:
            rows.append(value[i])
            continue
        row = scores[text].softmax(0) @ value[text]
        rows.append(row + scores[images].softmax(0) @ value[images] if images else row)
    return torch.stack(rows)


def attend(visual: Tensor, published: bool = False, **mask_options: Any) -> tuple[Tensor, ...]:
    length = visual.shape[1]
    generator = torch.Generator().manual_seed(2)
    query, key, value = torch.randn(3, 1, 1, length, 8, generator=generator)
    with roles_in_force(roles(visual)):
        mask = multimodal_causal_mask(
            length, length, published=published, batch_size=1, **mask_options
        )
    out, _ = multimodal_causal_attention(Heads(), query, key, value, mask)
    return out[0, :, 0], query[0, 0], key[0, 0], value[0, 0]


@pytest.mark.parametrize(
    "visual", [VISUAL, ~VISUAL, torch.ones(1, 4, dtype=torch.bool)], ids=["mixed", "turned", "all"]
)
def test_is_the_figure_of_the_paper(visual: Tensor) -> None:
    got, query, key, value = attend(visual)
    assert_close(got, by_hand(query, key, value, visual[0].tolist()), atol=1e-6, rtol=1e-5)


def test_a_text_row_is_the_sum_of_two_attentions() -> None:
    got, query, key, value = attend(VISUAL)
    last = LENGTH - 1
    text, images = ~VISUAL[0], VISUAL[0]
    scores = query[last] @ key.T / 8**0.5
    separately = [scores[kind].softmax(0) @ value[kind] for kind in (text, images)]
    assert_close(got[last], separately[0] + separately[1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral"])
def test_no_position_sees_a_later_one(kind: str) -> None:
    lm = model(kind)
    inputs = embeddings()
    before = logits(lm, inputs)
    for place in range(1, LENGTH):
        changed = inputs.clone()
        changed[:, place] += 1
        after = logits(lm, changed)
        assert torch.equal(after[:, :place], before[:, :place]), place
        assert not torch.equal(after[:, place], before[:, place])


def test_text_and_other_images_leave_visual_tokens_unchanged() -> None:
    lm = model()
    inputs = embeddings()
    before = logits(lm, inputs)
    for place in range(LENGTH):
        changed = inputs.clone()
        changed[:, place] += 1
        after = logits(lm, changed)
        others = VISUAL[0] & (torch.arange(LENGTH) != place)
        assert torch.equal(after[:, others], before[:, others]), place


def test_without_images_it_is_causal_attention_bit_for_bit() -> None:
    inputs = embeddings(2)
    none = torch.zeros(2, LENGTH, dtype=torch.bool)
    ours, causal = model(), model(attention="sdpa")
    assert torch.equal(logits(ours, inputs, none), logits(causal, inputs, none))
    padded = torch.ones(2, LENGTH, dtype=torch.bool)
    padded[0, -3:] = False
    with torch.no_grad():
        assert torch.equal(
            ours.logits(inputs, padded, roles(none)), causal.logits(inputs, padded, None)
        )


def test_without_roles_it_is_causal_attention() -> None:
    inputs = embeddings()
    seen = torch.ones(1, LENGTH, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(
            model().logits(inputs, seen), model(attention="sdpa").logits(inputs, seen)
        )


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_padding_does_not_count(left: bool) -> None:
    lm = model()
    inputs = embeddings()
    alone = logits(lm, inputs)
    filler = torch.full((1, 3, 32), 9.0)
    off = torch.zeros(1, 3, dtype=torch.bool)
    on = torch.ones(1, LENGTH, dtype=torch.bool)
    parts = [filler, inputs] if left else [inputs, filler]
    seen = torch.cat([off, on] if left else [on, off], 1)
    visual = torch.cat([off, VISUAL] if left else [VISUAL, off], 1)
    if left:  # as generation numbers positions
        with torch.no_grad(), roles_in_force(roles(visual)):
            positions = (seen.long().cumsum(1) - 1).clamp(min=0)
            padded = lm.model(
                inputs_embeds=torch.cat(parts, 1),
                attention_mask=seen.long(),
                position_ids=positions,
                use_cache=False,
            ).logits[:, 3:]
    else:
        with torch.no_grad():
            padded = lm.logits(torch.cat(parts, 1), seen, roles(visual))[:, :LENGTH]
    assert_close(padded, alone, atol=1e-5, rtol=1e-5)
    assert padded.isfinite().all()


@pytest.mark.parametrize("attention", ["multimodal_causal", "prefix"])
def test_generation_with_cache_equals_the_full_forward(attention: str) -> None:
    lm = model(attention=attention)
    prompts = embeddings(2, LENGTH + 2)
    seen = torch.ones(2, LENGTH + 2, dtype=torch.bool)
    seen[0, :2] = False
    visual = torch.zeros(2, LENGTH + 2, dtype=torch.bool)
    visual[0, 2:], visual[1, 1:4] = VISUAL[0], True
    what = TokenRoles(visual, seen)
    new = lm.generate(prompts, seen, stop_ids=[79], max_new_tokens=6, roles=what)
    assert new.shape == (2, 6)
    for row, start in ((0, 2), (1, 0)):
        inputs = prompts[row : row + 1, start:]
        own = TokenRoles(visual[row : row + 1, start:], seen[row : row + 1, start:])
        for step in range(6):
            ones = torch.ones(inputs.shape[:2], dtype=torch.bool)
            more = (0, inputs.shape[1] - own.is_visual.shape[1])
            whole = TokenRoles(
                *(nn.functional.pad(f, more) for f in (own.is_visual, own.is_prompt))
            )
            with torch.no_grad():
                likeliest = lm.logits(inputs, ones, whole)[:, -1].argmax(-1)
            assert likeliest.item() == new[row, step].item(), (row, step)
            if likeliest.item() == 79:
                break
            inputs = torch.cat([inputs, lm.embed(likeliest[:, None])], 1)


def test_a_cache_gives_the_logits_of_the_whole() -> None:
    lm = model()
    inputs = embeddings()
    whole = logits(lm, inputs)
    # transformers 5.24 gave the argument its new name.
    known = inspect.signature(lm.model.forward).parameters
    name = "cache" if "cache" in known else "past_key_values"
    cache = {name: DynamicCache(config=lm.model.config)}
    steps = []
    with torch.no_grad(), roles_in_force(roles()):
        for part in (inputs[:, :6], inputs[:, 6:7], inputs[:, 7:]):
            steps.append(lm.model(inputs_embeds=part, **cache).logits)
    assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=1e-5)


def test_recomputed_blocks_attend_alike() -> None:
    inputs, labels = embeddings(), torch.full((1, LENGTH), -100)
    labels[:, -2:] = 5
    seen = torch.ones(1, LENGTH, dtype=torch.bool)
    grads = []
    for recompute in (False, True):
        lm = model(gradient_checkpointing=recompute).train()
        lm(inputs, seen, labels, roles()).total.backward()
        grads.append([weight.grad for weight in lm.parameters()])
    for plain, again in zip(*grads, strict=True):
        assert_close(again, plain)


def test_an_image_less_row_in_a_batch_is_causal() -> None:
    inputs = embeddings(2)
    visual = VISUAL.repeat(2, 1)
    visual[1] = False
    got = logits(model(), inputs, visual)
    causal = logits(model(attention="sdpa"), inputs[1:], visual[1:])
    assert_close(got[1:], causal, atol=1e-5, rtol=1e-5)


@pytest.fixture
def published() -> tuple[Tensor, ...]:
    """Attention as the published code computes it, and its query, key and value."""
    return attend(VISUAL, published=True)


def test_the_published_variant_has_the_deviations_measured_in_its_code(
    published: tuple[Tensor, ...],
) -> None:
    got, query, key, value = published
    visual = VISUAL[0].tolist()
    scores = query @ key.T / 8**0.5
    for i in range(LENGTH):
        text = [j for j in range(i + 1) if not visual[j]]
        images = [j for j in range(i) if visual[j]]
        if visual[i]:
            earlier = [j for j in text if j < i]
            expected = value[i] + scores[i, earlier].softmax(0) @ value[earlier]
        elif images:
            expected = scores[i, text].softmax(0) @ value[text]
            expected = expected + scores[i, images].softmax(0) @ value[images]
        else:
            drowned = text + [j for j in range(i, LENGTH) if visual[j]]
            expected = scores[i, text].softmax(0) @ value[text] + value[drowned].mean(0)
        assert_close(got[i], expected, atol=1e-5, rtol=1e-5, msg=f"row {i}")


def test_the_published_variant_leaks_from_the_future() -> None:
    lm = model(attention="multimodal_causal_published")
    inputs = embeddings()
    before = logits(lm, inputs)
    changed = inputs.clone()
    changed[:, 2] += 1  # the first visual token
    assert not torch.allclose(logits(lm, changed)[:, 0], before[:, 0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["multimodal_causal", "multimodal_causal_published"])
def test_half_precision_is_finite_and_near(name: str, dtype: torch.dtype) -> None:
    exact = logits(model(attention=name), embeddings())
    lm = model(attention=name).to(dtype)
    rough = logits(lm, embeddings().to(dtype))
    assert_close(rough.float(), exact, atol=5e-2, rtol=5e-2)


def test_the_published_mask_is_exact_where_half_precision_is_the_default() -> None:
    torch.set_default_dtype(torch.bfloat16)  # as Lightning's bf16-true does
    try:
        with roles_in_force(roles()):
            mask = multimodal_causal_mask(LENGTH, LENGTH, batch_size=1, published=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert mask is not None
    assert mask.dtype == torch.float32
