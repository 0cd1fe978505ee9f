"""Transformer-XL: equal to a plain implementation of the paper, to Hugging Face's outputs, and to itself in segments of any length."""

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from carnelian.errors import RecipeError
from carnelian.models.acoustic import count_parameters
from carnelian.models.encoders.relative_attention import sinusoids
from carnelian.models.text.adaptive_softmax import AdaptiveSoftmax
from carnelian.models.text.transformer_xl import transformer_xl

GOLDEN = Path(__file__).parent / "golden" / "transformer_xl.npz"
MADE = runpy.run_path(str(Path(__file__).parent / "transformer_xl_golden.py"))
CHANNELS, TOKENS, SEGMENTS, numbers = MADE["CHANNELS"], MADE["TOKENS"], MADE["SEGMENTS"], MADE["numbers"]


def small(**settings):
    """A model of two layers with random weights, those that begin as constants too."""
    torch.manual_seed(0)
    narrow = {"channels": 8, "layers": 2, "heads": 2, "feedforward": 12, "memory": 5, **settings}
    model = transformer_xl(20, **narrow).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def their_weights(model, cutoffs, divisor):
    """The weights that Hugging Face's model had, under our names."""

    def theirs(name, *shape):
        return torch.from_numpy(numbers(name, shape))

    found, wide = {}, CHANNELS
    # theirs is a sine of each wavelength, then a cosine of each; ours alternate
    order = torch.arange(wide).view(2, -1).T.flatten()
    for index in range(MADE["LAYERS"]):
        layer, own = f"transformer.layers.{index}", f"layers.{index}"
        joined = theirs(f"{layer}.dec_attn.qkv_net.weight", 3 * wide, wide).chunk(3)
        for letter, weight in zip("qkv", joined):
            found[f"{own}.attention.linear_{letter}.weight"] = weight
        found[f"{own}.attention.linear_out.weight"] = theirs(f"{layer}.dec_attn.o_net.weight", wide, wide)
        found[f"{own}.attention.linear_pos.weight"] = theirs(f"{layer}.dec_attn.r_net.weight", wide, wide)[:, order]
        for part in ("weight", "bias"):
            found[f"{own}.norm_attention.{part}"] = theirs(f"{layer}.dec_attn.layer_norm.{part}", wide)
            found[f"{own}.norm_feed_forward.{part}"] = theirs(f"{layer}.pos_ff.layer_norm.{part}", wide)
        inner = MADE["FEEDFORWARD"]
        for name, number, outputs, inputs in (("linear1", 0, inner, wide), ("linear2", 3, wide, inner)):
            found[f"{own}.{name}.weight"] = theirs(f"{layer}.pos_ff.CoreNet.{number}.weight", outputs, inputs)
            found[f"{own}.{name}.bias"] = theirs(f"{layer}.pos_ff.CoreNet.{number}.bias", outputs)
    heads = MADE["HEADS"]
    found["content_bias"] = theirs("transformer.r_w_bias", heads, wide // heads)
    found["position_bias"] = theirs("transformer.r_r_bias", heads, wide // heads)
    bounds = [0, *cutoffs, TOKENS]
    sizes = [last - first for first, last in zip(bounds, bounds[1:])] if divisor > 1 else [TOKENS]
    weights = [theirs(f"crit.out_layers.{i}.weight", n, wide // divisor**i) for i, n in enumerate(sizes)]
    biases = torch.cat([theirs(f"crit.out_layers.{i}.bias", n) for i, n in enumerate(sizes)])
    for cluster, (first, last) in enumerate(zip(bounds, bounds[1:])):
        weight = weights[cluster] if divisor > 1 else weights[0][first:last]
        found[f"softmax.vectors.{cluster}"] = weight
        if divisor > 1:  # only the first cluster's is not tied
            name = f"crit.out_projs.{cluster}" if cluster else "transformer.word_emb.emb_projs.0"
            found[f"softmax.projections.{cluster}"] = theirs(name, wide, wide // divisor**cluster)
    if divisor > 1:
        found["softmax.head_projection"] = theirs("crit.out_projs.0", wide, wide)
    found["softmax.biases"] = biases
    names = ("softmax.cluster_vectors", "crit.cluster_weight", wide), ("softmax.cluster_biases", "crit.cluster_bias")
    for own, name, *shape in names:
        found[own] = theirs(name, len(cutoffs), *shape) if cutoffs else model.state_dict()[own]
    return found


@pytest.mark.parametrize("name", MADE["SETTINGS"])
def test_equal_to_hugging_face_segment_by_segment(name):
    cutoffs, divisor = MADE["SETTINGS"][name]
    model = transformer_xl(
        TOKENS, channels=CHANNELS, layers=MADE["LAYERS"], heads=MADE["HEADS"], feedforward=MADE["FEEDFORWARD"],
        memory=MADE["MEMORY"], cutoffs=cutoffs, divisor=divisor,
    ).eval()  # fmt: skip
    model.load_state_dict(their_weights(model, cutoffs, divisor))
    golden, tokens, memory, first = np.load(GOLDEN), torch.from_numpy(MADE["tokens"]()), None, 0
    with torch.no_grad():
        for segment, length in enumerate(SEGMENTS):
            hidden, memory = model.encode(tokens[:, first : first + length], memory)
            found = model.softmax.log_probs(hidden.flatten(0, 1)).view(2, length, TOKENS)
            first += length
            expected = torch.from_numpy(golden[f"{name}/{segment}"])
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


def plain_attention(layer, model, inputs, context):
    """The paper's attention (section 3.3) of one row by loops: (L, D) inputs and (K, D) what they may see, the inputs last."""
    attention, heads, wide = layer.attention, model.content_bias.shape[0], inputs.shape[1]
    size = wide // heads
    query, key, value = (
        linear(tensor).view(-1, heads, size)
        for linear, tensor in (
            (attention.linear_q, inputs),
            (attention.linear_k, context),
            (attention.linear_v, context),
        )
    )
    rows = []
    for i in range(len(inputs)):
        place, heard = len(context) - len(inputs) + i, []
        for head in range(heads):
            scores = []
            for j in range(place + 1):
                far = sinusoids(torch.tensor([place - j]), wide)
                position = attention.linear_pos(far).view(heads, size)[head]
                content = (query[i, head] + model.content_bias[head]) @ key[j, head]
                scores.append((content + (query[i, head] + model.position_bias[head]) @ position) / math.sqrt(size))
            shares = torch.stack(scores).softmax(0)
            heard.append(sum(share * value[j, head] for j, share in enumerate(shares)))
        rows.append(torch.cat(heard))
    return attention.linear_out(torch.stack(rows))


@pytest.mark.parametrize("memory", [0, 1, 3, 20])
def test_equal_to_the_papers_attention_by_loops(memory):
    model, tokens = small(memory=memory), torch.randint(20, (9,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        kept = [torch.zeros(0, 8) for _ in model.layers]
        ours = None
        for first, last in ((0, 4), (4, 6), (6, 9)):
            segment = tokens[first:last]
            hidden = model.softmax.embed(segment) * math.sqrt(8)
            for number, layer in enumerate(model.layers):
                context = torch.cat([kept[number], hidden])
                kept[number] = context[max(0, len(context) - memory) :]
                hidden = layer.norm_attention(hidden + plain_attention(layer, model, hidden, context))
                hidden = layer.norm_feed_forward(hidden + layer.linear2(layer.linear1(hidden).relu()))
            encoded, ours = model.encode(segment[None], ours)
            torch.testing.assert_close(encoded[0], hidden, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(ours[0], torch.stack(kept), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lengths", [(6, 6), (1,) * 12, (3, 1, 7, 1)])
def test_a_memory_of_all_before_equals_one_long_segment(lengths):
    model, tokens = small(memory=12), torch.randint(20, (3, 13), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole, _ = model(tokens[:, :12], tokens[:, 1:])
        parts, memory, first = [], None, 0
        for length in lengths:
            here = slice(first, first + length)
            part, memory = model(tokens[:, here], tokens[:, first + 1 : first + length + 1], memory)
            parts.append(part)
            first += length
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)


def test_no_token_sees_a_later_one_and_no_row_another():
    model, tokens = small(), torch.randint(20, (2, 6), generator=torch.Generator().manual_seed(3))
    changed = tokens.clone()
    changed[0, 4:] = (tokens[0, 4:] + 1) % 20
    with torch.no_grad():
        first, second = model.encode(tokens)[0], model.encode(changed)[0]
    torch.testing.assert_close(first[0, :4], second[0, :4])
    torch.testing.assert_close(first[1], second[1])
    assert not torch.allclose(first[0, 4:], second[0, 4:])


def test_no_gradient_goes_through_the_memory():
    model, tokens = small().train(), torch.randint(20, (2, 7), generator=torch.Generator().manual_seed(4))
    _, memory = model(tokens[:, :3], tokens[:, 1:4])
    assert not memory.requires_grad
    log_probs, _ = model(tokens[:, 3:6], tokens[:, 4:7], memory)
    (-log_probs.mean()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("cutoffs,divisor", [([], 1), ([5], 1), ([3, 4, 11], 1), ([3, 11], 2), ([4], 4), ([], 2)])
def test_the_adaptive_softmax_sums_to_one_and_is_the_same_for_chosen_tokens(cutoffs, divisor):
    torch.manual_seed(5)
    softmax = AdaptiveSoftmax(17, 8, cutoffs, divisor)
    with torch.no_grad():
        for parameter in softmax.parameters():
            parameter.normal_()
        encoded = torch.randn(40, 8)
        log_probs = softmax.log_probs(encoded)
        torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(40))
        tokens = torch.arange(40) % 17
        torch.testing.assert_close(softmax(encoded, tokens), log_probs.gather(1, tokens[:, None])[:, 0])
        alone = torch.stack([softmax.embed(token) for token in tokens])
        torch.testing.assert_close(softmax.embed(tokens.view(4, 10)), alone.view(4, 10, 8))


def test_each_weight_has_a_gradient_also_of_clusters_that_no_token_is_of():
    softmax = AdaptiveSoftmax(17, 8, [3, 11], 2)
    softmax(softmax.embed(torch.tensor([0, 1])), torch.tensor([1, 2])).sum().backward()
    assert all(parameter.grad is not None for parameter in softmax.parameters())


@pytest.mark.parametrize(
    "millions,settings",
    [
        (151.1, {"cutoffs": [20_000, 40_000, 200_000]}),
        (
            285.2,
            {
                "channels": 1024, "layers": 18, "heads": 16, "feedforward": 4096, "memory": 384,
                "cutoffs": [20_000, 40_000, 200_000], "divisor": 4,
            },
        ),
    ],
)  # fmt: skip
def test_parameters_of_the_published_models(millions, settings):
    """As many as the authors' checkpoints have; the paper counts 151 and 257 million."""
    with torch.device("meta"):
        count = count_parameters(transformer_xl(267_735, **settings))
    assert count / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize(
    "settings,named",
    [
        ({"cutoffs": [10, 5]}, "cutoffs"),
        ({"cutoffs": [20]}, "cutoffs"),
        ({"cutoffs": [5, 5]}, "cutoffs"),
        ({"cutoffs": [2, 4], "divisor": 3, "channels": 8}, "divisor"),
        ({"channels": 9}, "channels"),
        ({"channels": 8, "heads": 3}, "channels"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, named):
    with pytest.raises(RecipeError, match=rf"\[model\] {named} = "):
        small(**settings)
