"""Speed and word error rate of the beam search, beside flashlight-text and pyctcdecode where they are installed.

    python benchmarks/decoding.py SETS LANGUAGE_MODEL.arpa [--widths 16 64] [--repeats 3] [--peers]

SETS is a folder of `.npz` files with `log_probs` (N, O, 29), blank last, and `text` (N,). Every time is the processor
time of one thread for one utterance, the lowest of the repeats. The peers get the same weights; flashlight-text runs
three settings (threshold, tokens), of which its fastest and its best count.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.greedy import Greedy
from carnelian.ngram.load import load_language_model
from carnelian.scoring.wer import count_errors

ALPHA, BETA = 0.8, 2.0
Decode = Callable[[np.ndarray], str]


def ours(model_path: Path, width: int) -> Iterator[tuple[str, Decode]]:
    decoder = BeamSearch(Alphabet(ENGLISH), MODEL, alpha=ALPHA, beta=BETA, beam_width=width)
    yield "carnelian", lambda log_probs: decoder(log_probs)[0].text


def flashlight(model_path: Path, width: int) -> Iterator[tuple[str, Decode]]:
    try:
        from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions, SmearingMode, Trie
        from flashlight.lib.text.decoder.kenlm import KenLM
        from flashlight.lib.text.dictionary import Dictionary
    except ImportError:
        return
    if not FLASHLIGHT:
        words = Dictionary()
        for word in [*KNOWN_WORDS, "<unk>"]:
            words.add_entry(word)
        model = KenLM(str(model_path), words)
        tree = Trie(len(ENGLISH) + 1, 0)
        start = model.start(False)
        for word in KNOWN_WORDS:
            number = words.get_index(word)
            tree.insert([ENGLISH.index(letter) for letter in word + " "], number, model.score(start, number)[1])
        tree.smear(SmearingMode.MAX)
        FLASHLIGHT.extend([words, model, tree])
    words, model, tree = FLASHLIGHT
    for threshold, tokens in [(10, 8), (20, 12), (50, 29)]:
        options = LexiconDecoderOptions(
            beam_size=width,
            beam_size_token=tokens,
            beam_threshold=threshold,
            lm_weight=ALPHA * np.log(10),
            word_score=BETA,
            unk_score=-np.inf,
            sil_score=0,
            log_add=False,
            criterion_type=CriterionType.CTC,
        )
        decoder = LexiconDecoder(options, tree, model, 0, len(ENGLISH), words.get_index("<unk>"), [], False)

        def decode(log_probs: np.ndarray, decoder=decoder) -> str:
            best = decoder.decode(log_probs.ctypes.data, *log_probs.shape)[0]
            return " ".join(words.get_entry(word) for word in best.words if word >= 0)

        yield f"flashlight-text ({threshold}, {tokens})", decode


def pyctcdecode(model_path: Path, width: int) -> Iterator[tuple[str, Decode]]:
    try:
        from pyctcdecode import build_ctcdecoder
    except ImportError:
        return
    if not PYCTCDECODE:
        labels = [*ENGLISH, ""]
        PYCTCDECODE.append(build_ctcdecoder(labels, str(model_path), KNOWN_WORDS, alpha=ALPHA, beta=BETA))
    settings = {"beam_width": width, "beam_prune_logp": -10.0, "token_min_logp": -8.0}
    yield "pyctcdecode (-10, -8)", lambda log_probs: PYCTCDECODE[0].decode(log_probs, **settings)


def measure(decode: Decode, log_probs: np.ndarray, texts: list[str], repeats: int) -> tuple[float, float]:
    """Milliseconds per utterance, and word error rate in percent."""
    times = []
    decode(log_probs[0])
    for _ in range(repeats):
        before = time.process_time()
        found = [decode(each) for each in log_probs]
        times.append(time.process_time() - before)
    errors = sum((count_errors(text, hypothesis) for text, hypothesis in zip(texts, found)), count_errors("", ""))
    return 1e3 * min(times) / len(log_probs), 100 * errors.rate


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path)
    parser.add_argument("language_model", type=Path)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64, 128, 512])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=["flashlight", "pyctcdecode"])
    options = parser.parse_args()
    MODEL = load_language_model(options.language_model)
    KNOWN_WORDS = [word for word in MODEL.words if word not in ("<s>", "</s>", "<unk>") and set(word) <= set(ENGLISH)]
    FLASHLIGHT: list = []
    PYCTCDECODE: list = []
    runs = [ours, *(globals()[name] for name in options.peers)]
    for path in sorted(options.sets.glob("*.npz")):
        data = np.load(path)
        log_probs, texts = data["log_probs"], [str(text) for text in data["text"]]
        greedy = Greedy(Alphabet(ENGLISH))
        spent, rate = measure(lambda each, greedy=greedy: greedy(each)[0].text, log_probs, texts, options.repeats)
        print(f"{path.stem:<12} {'-':>5}  {'carnelian, greedy':<26} {spent:9.3f} ms  {rate:6.2f} %", flush=True)
        for width in options.widths:
            for run in runs:
                for name, decode in run(options.language_model, width):
                    spent, rate = measure(decode, log_probs, texts, options.repeats)
                    print(f"{path.stem:<12} {width:>5}  {name:<26} {spent:9.3f} ms  {rate:6.2f} %", flush=True)
