"""Times NeMo's own inference for `inference.py`, in NeMo's environment: `python nemo_worker.py MODEL.nemo`.

Requests come on standard input, a line of JSON each: {"audio": FILE.npy (B, S), "threads": N} answers {"seconds": T, "processor": P},
with "keep" also {"log_probs": FILE.npy}; {"files": [...]} answers the same and {"texts": [...]} of `transcribe`. Answers go to
standard output, one line each.
"""

import json
import logging
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    answers = sys.stdout
    sys.stdout = sys.stderr  # NeMo prints
    started = time.perf_counter()
    import torch
    from nemo.collections.asr.models import ASRModel
    from nemo.utils import logging as nemo_logging

    nemo_logging.setLevel(logging.ERROR)
    model = ASRModel.restore_from(sys.argv[1], map_location="cpu").eval()
    model.preprocessor.featurizer.dither = 0.0
    print(json.dumps({"ready": time.perf_counter() - started}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        torch.set_num_threads(request.get("threads", 1))
        if "files" in request:
            started, spent = time.perf_counter(), time.process_time()
            found = model.transcribe(request["files"], batch_size=16, verbose=False)
            answer = {
                "seconds": time.perf_counter() - started,
                "processor": time.process_time() - spent,
                "texts": [getattr(each, "text", each) for each in found],
            }
        else:
            audio = torch.from_numpy(np.load(request["audio"]))
            lengths = torch.full((len(audio),), audio.shape[1])
            with torch.inference_mode():
                started, spent = time.perf_counter(), time.process_time()
                log_probs = model(input_signal=audio, input_signal_length=lengths)[0]
                answer = {"seconds": time.perf_counter() - started, "processor": time.process_time() - spent}
            if request.get("keep"):
                path = Path(request["audio"]).with_suffix(".log_probs.npy")
                np.save(path, log_probs.numpy())
                answer["log_probs"] = str(path)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
