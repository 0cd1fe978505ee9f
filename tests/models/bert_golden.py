"""Writes golden/bert.json: hidden states of a small BERT and of a decoder upon it, as transformers compute them.

Run: PYTHONPATH=. python tests/models/bert_golden.py (with transformers installed; made with 5.24.0 and torch 2.13.0). The weights are
a formula, `sine_weights`, so that only the results are kept.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from carnelian.formats.bert import bert_names
from carnelian.models.text.bert import BertConfig
from carnelian.models.text.bertx2 import BertX2

GOLDEN = Path(__file__).parent / "golden" / "bert.json"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh", "##a", "##b", "ab", "##ce", "bad", "'"]
SIZES = {"channels": 8, "layers": 2, "heads": 2, "feedforward": 16, "positions": 12, "types": 2, "epsilon": 1e-12}
#: pieces of two texts, padded, and their lengths; pieces of what is written
TEXTS, LENGTHS = [[2, 4, 12, 9, 3], [2, 16, 3, 0, 0]], [5, 3]
WRITTEN = [[2, 5, 13, 9], [2, 16, 17, 4]]


def sine_weights(model: nn.Module) -> dict[str, Tensor]:
    """Returns weights for a model that look random and are the same everywhere; those of norms are near 1."""
    weights = {}
    for index, (name, tensor) in enumerate(sorted(model.state_dict().items())):
        numbers = torch.sin(torch.arange(tensor.numel()) * (0.7 + 0.01 * index) + index).reshape(tensor.shape)
        weights[name] = 1 + 0.1 * numbers if name.endswith("norm.weight") else 0.4 * numbers
    return weights


def main() -> None:
    from transformers import BertConfig as TheirConfig
    from transformers import BertModel

    model = BertX2(len(VOCABULARY), BertConfig(**SIZES))
    model.load_state_dict(sine_weights(model))
    weights = model.state_dict()
    shared = {
        "vocab_size": len(weights["bias"]), "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 12, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "attn_implementation": "eager",
    }  # fmt: skip
    encoder = BertModel(TheirConfig(**shared), add_pooling_layer=False).eval()
    names = bert_names(2)
    encoder.load_state_dict({theirs: weights[f"encoder.{ours}"] for ours, theirs in names.items()})
    decoder = BertModel(
        TheirConfig(**shared, is_decoder=True, add_cross_attention=True), add_pooling_layer=False
    ).eval()
    word = {"word.weight": weights["encoder.word.weight"]}
    named = {theirs: (word | weights)[ours] for ours, theirs in names.items()}
    named |= {
        theirs.replace(".attention.", ".crossattention."): weights[ours.replace(".attention.", ".source_attention.")]
        for ours, theirs in names.items()
        if ".attention." in ours
    }
    decoder.load_state_dict(named)
    mask = torch.tensor([[position < length for position in range(len(TEXTS[0]))] for length in LENGTHS])
    with torch.no_grad():
        encoded = encoder(torch.tensor(TEXTS), attention_mask=mask).last_hidden_state
        hidden = decoder(
            torch.tensor(WRITTEN), encoder_hidden_states=encoded, encoder_attention_mask=mask
        ).last_hidden_state
        scores = hidden @ weights["encoder.word.weight"].T + weights["bias"]
    found = {"hidden": encoded.tolist(), "scores": scores.tolist()}
    rounded = json.loads(json.dumps(found), parse_float=lambda number: round(float(number), 6))
    GOLDEN.write_text(json.dumps(rounded) + "\n")


if __name__ == "__main__":
    main()
