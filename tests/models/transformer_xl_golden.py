"""Writes `golden/transformer_xl.npz`, outputs of Hugging Face's TransfoXLLMHeadModel; `python transformer_xl_golden.py` where it is.

Weights and tokens are functions of their names and shapes, so that only the outputs need to be kept. Made with transformers 4.35.2.
"""

import runpy
from pathlib import Path

import numpy as np

numbers = runpy.run_path(str(Path(__file__).parent / "nemo_conformer_golden.py"))["numbers"]
TOKENS, CHANNELS, LAYERS, HEADS, FEEDFORWARD, MEMORY = 30, 16, 3, 2, 24, 5
SETTINGS = {"one softmax": ([], 1), "clusters": ([6, 14], 1), "clusters, smaller and smaller": ([6, 14], 2)}
SEGMENTS = (7, 4, 1, 6)  # their lengths, one after the other with memory


def tokens() -> np.ndarray:
    """Two rows of tokens, one more than all segments hold."""
    return np.random.RandomState(0).randint(0, TOKENS, (2, sum(SEGMENTS) + 1))


def main() -> None:
    import torch
    from transformers import TransfoXLConfig, TransfoXLLMHeadModel

    outputs = {}
    for name, (cutoffs, divisor) in SETTINGS.items():
        config = TransfoXLConfig(
            vocab_size=TOKENS, cutoffs=list(cutoffs), d_model=CHANNELS, d_embed=CHANNELS, n_head=HEADS, untie_r=False,
            d_head=CHANNELS // HEADS, d_inner=FEEDFORWARD, div_val=divisor, n_layer=LAYERS, mem_len=MEMORY,
            same_length=False,
        )  # fmt: skip
        model = TransfoXLLMHeadModel(config).eval()
        with torch.no_grad():
            for key, tensor in model.state_dict().items():
                if tensor.is_floating_point() and "inv_freq" not in key and tensor.numel():
                    tensor.copy_(torch.from_numpy(numbers(key, tuple(tensor.shape))))
            shared = ("transformer.r_w_bias", "transformer.r_r_bias")
            for layer in model.transformer.layers:
                for key, parameter in zip(shared, (layer.dec_attn.r_w_bias, layer.dec_attn.r_r_bias)):
                    parameter.copy_(torch.from_numpy(numbers(key, tuple(parameter.shape))))
            drawn = torch.from_numpy(tokens())
            memory = [torch.zeros(0, 2, CHANNELS) for _ in range(LAYERS)]
            first = 0
            for segment, length in enumerate(SEGMENTS):
                found = model(drawn[:, first : first + length], mems=memory)
                outputs[f"{name}/{segment}"] = found.prediction_scores.numpy()
                memory, first = found.mems, first + length
    np.savez_compressed(Path(__file__).parent / "golden" / "transformer_xl.npz", **outputs)


if __name__ == "__main__":
    main()
