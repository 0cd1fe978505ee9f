"""Writes `golden/conformer.npz`, outputs of NeMo's ConformerEncoder in many settings; `python nemo_conformer_golden.py` where NeMo is.

Weights and features are functions of their names and shapes, so that only the outputs need to be kept. Made with NeMo 3.0.0.
"""

import zlib
from pathlib import Path

import numpy as np

SMALL = {"feat_in": 20, "n_layers": 2, "d_model": 16, "n_heads": 4, "conv_kernel_size": 9}
CAUSAL = {"causal_downsampling": True, "conv_context_size": "causal", "att_context_style": "chunked_limited"}
LOCAL = {"self_attention_model": "rel_pos_local_attn"}
FAST = {"subsampling": "dw_striding", "subsampling_factor": 8, "subsampling_conv_channels": 6}
SETTINGS = {
    "usual": {},
    "shared biases, no scale": {"untie_biases": False, "xscaling": False},
    "no bias, other width out": {"use_bias": False, "feat_out": 12, "ff_expansion_factor": 2, "subsampling_factor": 2},
    "fast": FAST,
    "chunked, layer norm": FAST | CAUSAL | {"att_context_size": [[8, 3], [4, 1]], "conv_norm_type": "layer_norm"},
    "chunked, batch norm": CAUSAL | {"att_context_size": [6, 2]},
    "chunked, all of the past": CAUSAL | {"att_context_size": [-1, 3]},
    "chunked, no past": CAUSAL | {"att_context_size": [0, 5]},
    "limited": {"att_context_size": [6, 3], "conv_context_size": [5, 3], "untie_biases": False},
    "limited past": {"att_context_size": [7, 0], "conv_context_size": "causal"},
    "limited past, all ahead": {"att_context_size": [5, -1]},
    "local": LOCAL | {"att_context_size": [5, 5], "untie_biases": False},
    "local, more past": LOCAL | {"att_context_size": [7, 3]},
    "local, more ahead": LOCAL | {"att_context_size": [3, 7]},
    "local, no look-ahead": LOCAL | {"att_context_size": [6, 0]},
}
LENGTHS = (150, 61)


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers that depend on the name and the shape alone; positive ones for variances, around 1 for a norm's weights."""
    drawn = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, shape).astype(np.float32)
    if name.endswith("running_var"):
        return drawn + 1.5
    if "norm" in name and name.endswith("weight"):
        return 1 + drawn / 2
    if "pos_bias" in name or len(shape) < 2:
        return drawn / 2
    return drawn * np.float32(1.5 / np.sqrt(np.prod(shape[1:])))


def main() -> None:
    import torch
    from nemo.collections.asr.modules import ConformerEncoder

    outputs = {}
    features = numbers("features", (2, SMALL["feat_in"], LENGTHS[0])) * 2
    for index, length in enumerate(LENGTHS):
        features[index, :, length:] = 0
    for name, settings in SETTINGS.items():
        encoder = ConformerEncoder(**{**SMALL, **settings}).eval()
        with torch.no_grad():
            shared = settings.get("untie_biases") is False and "self_attention_model" not in settings
            for key, tensor in encoder.state_dict().items():
                if tensor.is_floating_point():
                    own = key.replace("layers.1.", "layers.0.") if shared and "pos_bias" in key else key
                    tensor.copy_(torch.from_numpy(numbers(own, tuple(tensor.shape))))
            encoded, steps = encoder(audio_signal=torch.from_numpy(features), length=torch.tensor(LENGTHS))
        for index, count in enumerate(steps.tolist()):
            outputs[f"{name}/{index}"] = encoded[index, :, :count].numpy()
    np.savez_compressed(Path(__file__).parent / "golden" / "conformer.npz", **outputs)


if __name__ == "__main__":
    main()
