"""Trains a small QuartzNet by NeMo for `nemo_training.py`, in NeMo's environment: `python nemo_train.py REQUEST.json ANSWER.json`.

REQUEST: {"train": MANIFEST, "test": [MANIFEST ...], "minutes": M, "seed": N, "labels": [...], "blocks": [...], "out": FOLDER}.
The first 60 steps tell how many fit into the minutes of processor time. Optimizer, rate and masks are those of NeMo's AN4 tutorial.
ANSWER: what the training took, its parameters, the archive that it wrote, and the texts of each test list.
"""

import json
import logging
import resource
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import torch
from nemo.collections.asr.models import EncDecCTCModel
from nemo.utils import logging as nemo_logging
from omegaconf import OmegaConf

MODULES = "nemo.collections.asr.modules"
TIMED_STEPS = 60


def configuration(request: dict, steps: int) -> dict:
    """The model's configuration, with a cosine schedule over `steps`."""
    train = {
        "manifest_filepath": request["train"],
        "sample_rate": 16_000,
        "labels": request["labels"],
        "batch_size": 8,
        "shuffle": True,
        "num_workers": 0,
    }
    return {
        "sample_rate": 16_000,
        "labels": request["labels"],
        "train_ds": train,
        "validation_ds": None,
        "preprocessor": {
            "_target_": f"{MODULES}.AudioToMelSpectrogramPreprocessor",
            "normalize": "per_feature",
            "window_size": 0.02,
            "window_stride": 0.01,
            "window": "hann",
            "features": 64,
            "n_fft": 512,
        },
        "spec_augment": {
            "_target_": f"{MODULES}.SpectrogramAugmentation",
            "freq_masks": 2,
            "freq_width": 20,
            "time_masks": 5,
            "time_width": 12,
        },
        "encoder": {
            "_target_": f"{MODULES}.ConvASREncoder",
            "feat_in": 64,
            "activation": "relu",
            "conv_mask": True,
            "jasper": request["blocks"],
        },
        "decoder": {
            "_target_": f"{MODULES}.ConvASRDecoder",
            "feat_in": request["blocks"][-1]["filters"],
            "num_classes": len(request["labels"]),
            "vocabulary": request["labels"],
        },
        "optim": {
            "name": "novograd",
            "lr": 0.01,
            "betas": [0.8, 0.5],
            "weight_decay": 0.001,
            "sched": {"name": "CosineAnnealing", "warmup_steps": max(1, steps // 8), "min_lr": 0.0, "max_steps": steps},
        },
    }


def trained(request: dict, steps: int) -> tuple[EncDecCTCModel, dict[str, float]]:
    """A model trained for `steps`, and the minutes that they took."""
    pl.seed_everything(request["seed"])
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
    )
    model = EncDecCTCModel(OmegaConf.create(configuration(request, steps)), trainer=trainer)
    wall, processor = time.perf_counter(), time.process_time()
    trainer.fit(model)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return model, {"minutes": processor / 60, "wall_minutes": wall / 60, "steps": steps}


def main() -> None:
    nemo_logging.setLevel(logging.ERROR)
    torch.set_num_threads(1)
    request = json.loads(Path(sys.argv[1]).read_text())
    timed = trained(request, TIMED_STEPS)[1]
    model, answer = trained(request, round(request["minutes"] * TIMED_STEPS / timed["minutes"]))
    archive = Path(request["out"]) / "nemo.nemo"
    model.save_to(str(archive))
    model.eval()
    answer |= {"archive": str(archive), "parameters": sum(each.numel() for each in model.parameters()), "texts": []}
    for manifest in request["test"]:
        names = [json.loads(line)["audio_filepath"] for line in Path(manifest).read_text().splitlines()]
        files = [str(Path(manifest).parent / name) for name in names]
        spent = time.process_time()
        found = model.transcribe(files, batch_size=16, verbose=False)
        answer["recognition_seconds"] = time.process_time() - spent
        answer["texts"].append([getattr(each, "text", each) for each in found])
    answer["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
