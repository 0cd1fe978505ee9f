"""`carnelian benchmark decoding` with flashlight-text and pyctcdecode beside it, where they are installed.

    python benchmarks/decoding.py SETS LANGUAGE_MODEL.arpa [--beam-width 16 --beam-width 64] [--repeats 3]

SETS is a folder of `.npz` files with `log_probs` (N, O, 29), blank last, and `text` (N,). The peers get the same weights;
flashlight-text runs three settings (threshold, tokens), of which its fastest and its best count.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from carnelian.cli import as_typer
from carnelian.commands.benchmarks.decoding import (
    WIDTHS,
    Decode,
    decoding_contenders,
    our_decoders,
    stored_emissions,
)
from carnelian.commands.benchmarks.measurement import BenchmarkOptions, measure_in_turns, run_benchmark
from carnelian.data.alphabet import ENGLISH, Alphabet
from carnelian.ngram.load import load_language_model

ALPHA, BETA = 0.8, 2.0


def flashlight(model: Path, known: list[str], widths: list[int]) -> Iterator[tuple[tuple[str, int], Decode]]:
    from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions, SmearingMode, Trie
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    words = Dictionary()
    for word in [*known, "<unk>"]:
        words.add_entry(word)
    scorer, tree = KenLM(str(model), words), Trie(len(ENGLISH) + 1, 0)
    start = scorer.start(False)
    for word in known:
        number = words.get_index(word)
        tree.insert([ENGLISH.index(letter) for letter in word + " "], number, scorer.score(start, number)[1])
    tree.smear(SmearingMode.MAX)
    for width in widths:
        for threshold, tokens in [(10, 8), (20, 12), (50, 29)]:
            settings = LexiconDecoderOptions(
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
            decoder = LexiconDecoder(settings, tree, scorer, 0, len(ENGLISH), words.get_index("<unk>"), [], False)

            def decode(log_probs: np.ndarray, decoder: Any = decoder) -> str:
                best = decoder.decode(log_probs.ctypes.data, *log_probs.shape)[0]
                return " ".join(words.get_entry(word) for word in best.words if word >= 0)

            yield (f"flashlight-text ({threshold}, {tokens})", width), decode


def pyctcdecode(model: Path, known: list[str], widths: list[int]) -> Iterator[tuple[tuple[str, int], Decode]]:
    from pyctcdecode import build_ctcdecoder

    decoder = build_ctcdecoder([*ENGLISH, ""], str(model), known, alpha=ALPHA, beta=BETA)
    pruning = {"beam_prune_logp": -10.0, "token_min_logp": -8.0}
    for width in widths:
        yield (
            ("pyctcdecode (-10, -8)", width),
            lambda log_probs, width=width: decoder.decode(log_probs, beam_width=width, **pruning),
        )


def main(
    sets: Annotated[Path, "a folder of .npz files"],
    language_model: Annotated[Path, "an ARPA file, which the peers read too"],
    *,
    beam_width: Annotated[list[int], "hypotheses kept at each step; may be given again"] = WIDTHS,
    peer: Annotated[list[str], "flashlight and pyctcdecode; may be given again"] = ["flashlight", "pyctcdecode"],  # noqa: B006
    options: BenchmarkOptions = BenchmarkOptions(),  # noqa: B008
) -> None:
    model = load_language_model(language_model)
    known = [word for word in model.words if word not in ("<s>", "</s>", "<unk>") and set(word) <= set(ENGLISH)]
    decoders = our_decoders(Alphabet(ENGLISH), language_model, beam_width, ALPHA, BETA)
    for name in peer:
        try:
            decoders |= dict(
                {"flashlight": flashlight, "pyctcdecode": pyctcdecode}[name](language_model, known, beam_width)
            )
        except ImportError as error:
            print(f"{name}: not installed ({error.name})")
    contenders = decoding_contenders(stored_emissions([sets], Alphabet(ENGLISH)), decoders)
    run_benchmark(options, lambda: measure_in_turns("decoding", contenders, options), clock="processor")


if __name__ == "__main__":
    typer.run(as_typer(main))
