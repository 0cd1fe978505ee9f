"""`carnelian export`: a checkpoint or a manifest for another toolkit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from carnelian import console
from carnelian.checkpoint import load_checkpoint, load_model
from carnelian.commands.export_onnx import onnx
from carnelian.commands.export_triton import triton
from carnelian.corpora.kaldi import write_directory, write_features
from carnelian.data.audio import load_audio
from carnelian.data.utterance import Utterance, read_manifest
from carnelian.errors import CarnelianError
from carnelian.files import check_outputs
from carnelian.formats.catalog import find_checkpoint
from carnelian.formats.fairseq_export import write_fairseq
from carnelian.formats.nemo.export import write_nemo


def nemo(
    checkpoint: Annotated[Path, "a checkpoint of Jasper, QuartzNet, Citrinet or a Conformer"],
    out: Annotated[Path, "the .nemo archive to write"],
    *,
    overwrite: Annotated[bool, "replace outputs that exist"] = False,
) -> None:
    """Write a checkpoint as a .nemo archive that NeMo loads.

    Example: carnelian export nemo model.safetensors model.nemo
    """
    check_outputs(out, overwrite=overwrite)
    model, found = load_model(find_checkpoint(checkpoint))
    remarks = write_nemo(out, model, found.recipe, found.alphabet)
    for remark in remarks:
        console.note(f"{out}: {remark}")
    print(out)


def fairseq(
    checkpoint: Annotated[Path, "a checkpoint with wav2vec as front end, pre-trained or of a recognizer"],
    out: Annotated[Path, "the .pt file to write"],
    *,
    overwrite: Annotated[bool, "replace the file if it exists"] = False,
) -> None:
    """Write a wav2vec front end in the layout of fairseq's checkpoints.

    Example: carnelian export fairseq runs/wav2vec wav2vec.pt
    """
    check_outputs(out, overwrite=overwrite)
    write_fairseq(out, load_checkpoint(find_checkpoint(checkpoint)))
    print(out)


def kaldi_directory(
    manifest: Annotated[Path, "the manifest"],
    folder: Annotated[Path, "the data directory to write: wav.scp, text, utt2spk, spk2utt, ..."],
    *,
    features: Annotated[Path | None, "a checkpoint: write its features as well (feats.ark, feats.scp)"] = None,
    overwrite: Annotated[bool, "replace the files if they exist"] = False,
) -> None:
    """Write a manifest as a Kaldi data directory that passes validate_data_dir.sh.

    Example: carnelian export kaldi data/an4/train.jsonl data/kaldi/train
    """
    if (folder / "wav.scp").exists() and not overwrite:
        raise CarnelianError(f"{folder / 'wav.scp'}: exists. Give another folder, or --overwrite")
    written = write_directory(folder, list(read_manifest(manifest)))
    for reason, count in written.left_out.items():
        console.note(f"{manifest}: {count} utterances are left out: {reason}")
    if features:
        write_features(folder, model_features(features, written.utterances))
    print(folder)


def model_features(checkpoint: Path, utterances: dict[str, Utterance]) -> Iterator[tuple[str, np.ndarray]]:
    """Name and features (T, F) of each utterance, as the model of a checkpoint computes them; sorted as Kaldi sorts."""
    model, _ = load_model(find_checkpoint(checkpoint))
    names = sorted(utterances, key=str.encode)
    for name in console.track(names, "Computing features"):
        audio = torch.from_numpy(load_audio(utterances[name], model.features.sample_rate))
        with torch.inference_mode():
            found, frames = model.eval().features(audio[None], torch.tensor([len(audio)]))
        yield name, found[0, :, : int(frames[0])].T.numpy()


EXPORT_VERBS = {"nemo": nemo, "fairseq": fairseq, "onnx": onnx, "triton": triton, "kaldi": kaldi_directory}
