"""PocketSphinx's pretrained English model on a manifest: word errors and real-time factor, with its language model and with an n-gram.

    python -m venv .venv-peers && .venv-peers/bin/pip install pocketsphinx==5.1.1 soundfile
    .venv-peers/bin/python benchmarks/peers/pocketsphinx_wer.py MANIFEST OUT.jsonl [TRIGRAM.arpa]

OUT.jsonl has `text` and `pred_text` of each utterance, for `carnelian score OUT.jsonl`. Recordings are 16 kHz, mono.
"""

import json
import sys
import time
from pathlib import Path

import soundfile
from pocketsphinx import Decoder


def main(manifest: str, out: str, language_model: str = "") -> None:
    utterances = [json.loads(line) for line in Path(manifest).read_text().splitlines()]
    decoder = Decoder(samprate=16_000, loglevel="FATAL", **({"lm": language_model} if language_model else {}))
    spent, lines = time.process_time(), []
    for utterance in utterances:
        audio, _ = soundfile.read(Path(manifest).parent / utterance["audio_filepath"], dtype="int16")
        decoder.start_utt()
        decoder.process_raw(audio.tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        lines.append(json.dumps({**utterance, "pred_text": found.hypstr if found else ""}) + "\n")
    spent = time.process_time() - spent
    Path(out).write_text("".join(lines))
    print(f"{len(lines)} utterances, real-time factor {spent / sum(each['duration'] for each in utterances):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
