"""Attention over keys and values that lie in blocks."""

import math

import torch
from torch.nn import functional

from modelyard_serving.engines.batching.kv_memory import KVMemory
from modelyard_serving.engines.batching.step import Answers, Prompt, Step


def attend(queries: torch.Tensor, layer: int, step: Step, memory: KVMemory, scale: float) -> torch.Tensor:
    """What each of the queries (token, head, size) finds, in one row per token.

    The step's own keys and values are in the memory already.
    """
    found = []
    if step.answers is not None:
        found.append(_answers(queries[: step.answers.rows], layer, step.answers, memory, scale))
    for prompt in step.prompts:
        found.append(_prompt(queries[prompt.begin : prompt.end], layer, prompt, step, memory, scale))
    return (found[0] if len(found) == 1 else torch.cat(found)).flatten(1)


def _answers(queries: torch.Tensor, layer: int, answers: Answers, memory: KVMemory, scale: float) -> torch.Tensor:
    """One query for each row and head, all blocks of all rows at once, in place; then rows of several blocks are
    put together by the weights of their parts.

    The query heads that share a key head are taken as several queries of it, which repeats no key.
    """
    rows, heads, size = queries.shape
    grouped = queries.view(rows, memory.shape.heads, -1, size).index_select(0, answers.owner)
    found, weight = _parts(grouped, _view(memory.keys[layer], answers, memory),
                           _view(memory.values[layer], answers, memory), answers.mask, scale)  # fmt: skip
    found = found.index_select(0, answers.used)
    if not answers.several:
        return found.reshape(rows, heads, size)
    weight = weight.index_select(0, answers.used)
    row = answers.owner.index_select(0, answers.used)
    top = torch.full((rows, *weight.shape[1:]), -math.inf, device=weight.device)
    top.scatter_reduce_(0, row.view(-1, 1, 1).expand_as(weight), weight, "amax")
    share = torch.exp(weight - top.index_select(0, row)).unsqueeze(-1)
    total = torch.zeros(rows, *share.shape[1:], device=weight.device).index_add_(0, row, share)
    whole = torch.zeros(rows, *found.shape[1:], device=weight.device).index_add_(0, row, share * found.float())
    return (whole / total).to(queries.dtype).view(rows, heads, size)


def _view(stored: torch.Tensor, answers: Answers, memory: KVMemory) -> torch.Tensor:
    """The looked-at tokens of the looked-at blocks: (block, head, token, size)."""
    blocks = stored.view(memory.blocks, memory.block_size, *stored.shape[1:])
    if answers.gathered is None:
        part = blocks[: answers.looked_at, : answers.length]
    else:
        part = blocks[:, : answers.length].index_select(0, answers.gathered)
    return part.transpose(1, 2)


def _parts(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention within each block, and the logarithm of the sum of its weights."""
    if queries.device.type == "cpu":
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - what the public one calls, with weights
        found, weight = kernel(queries, keys, values, 0.0, False, attn_mask=mask, scale=scale)  # noqa: FBT003
        return found, weight
    return plain_parts(queries, keys, values, mask, scale)


def plain_parts(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain operations, for devices without such a kernel."""
    scores = (queries @ keys.transpose(-1, -2)).float() * scale + mask.float()
    weight = torch.logsumexp(scores, dim=-1)
    return torch.exp(scores - weight.unsqueeze(-1)).to(values.dtype) @ values, weight


def _prompt(
    queries: torch.Tensor, layer: int, prompt: Prompt, step: Step, memory: KVMemory, scale: float
) -> torch.Tensor:
    """Consecutive tokens, each of which sees all before it and itself."""
    places = step.places[prompt.begin : prompt.end] if prompt.before is None else prompt.before
    keys = memory.keys[layer].index_select(0, places).transpose(0, 1).unsqueeze(0)
    values = memory.values[layer].index_select(0, places).transpose(0, 1).unsqueeze(0)
    mask = None
    if prompt.before is not None:
        mask = _behind(prompt.end - prompt.begin, len(places), queries)
    found = functional.scaled_dot_product_attention(
        queries.transpose(0, 1).unsqueeze(0), keys, values, attn_mask=mask, is_causal=mask is None, scale=scale,
        enable_gqa=True,
    )  # fmt: skip
    return found.squeeze(0).transpose(0, 1)


def _behind(new: int, known: int, queries: torch.Tensor) -> torch.Tensor:
    """The mask for the last `new` of `known` tokens: none sees those after it."""
    hidden = torch.ones(new, known, dtype=torch.bool, device=queries.device).triu(known - new + 1)
    return torch.zeros(new, known, dtype=queries.dtype, device=queries.device).masked_fill_(hidden, -math.inf)
