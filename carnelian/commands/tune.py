"""The decoder's weights for a model and a language model: `carnelian tune MODEL MANIFEST... --language-model LM`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np

from carnelian.commands.options import TIME_STRETCH
from carnelian.commands.scoring_options import ScoringOptions
from carnelian.console import bar, note, table
from carnelian.data.text.names import NORMALIZE_HELP
from carnelian.data.utterance import Manifest
from carnelian.decoding.beam import BeamSearch
from carnelian.decoding.greedy import Greedy
from carnelian.decoding.settings import DecodingConfig, write_decoding
from carnelian.decoding.tuning import ALPHAS, BETAS, Tuning, check_grid, decoded_errors, oracle_errors, tune_weights
from carnelian.errors import DecodingError, ManifestError
from carnelian.files import check_outputs
from carnelian.inference.recognizer import Recognizer
from carnelian.scoring.report.plots import check_plots, plot_weights
from carnelian.scoring.wer import Errors


def tune(
    model: Annotated[Path, "the checkpoint"],
    manifests: Annotated[list[Path], "manifests of utterances with their text, not those the model is tested on"],
    *,
    language_model: Annotated[Path | None, "the n-gram model (ARPA, binary, or KenLM's binary)"] = None,
    out: Annotated[Path, "write the best settings here, for transcribe and evaluate"] = Path("decoding.toml"),
    plot: Annotated[Path | None, "draw the word error rates over alpha and beta into this image (PNG)"] = None,
    alpha: Annotated[list[float], "a weight of the language model to try; may be given again"] = list(ALPHAS),  # noqa: B006
    beta: Annotated[list[float], "a bonus for each word to try; may be given again"] = list(BETAS),  # noqa: B006
    beam_width: Annotated[list[int], "a number of beams to try; may be given again"] = [16, 64, 256],  # noqa: B006
    closed_vocabulary: Annotated[bool, "find only words of the language model"] = False,
    time_stretch: Annotated[list[float], TIME_STRETCH] = [],  # noqa: B006
    refinements: Annotated[int, "finer grids around the best"] = 2,
    normalize: Annotated[str, NORMALIZE_HELP] = "",
    device: Annotated[str, "cpu or cuda; by default a GPU where there is one"] = "",
    batch_seconds: Annotated[float, "seconds of audio in a batch"] = 120.0,
    overwrite: Annotated[bool, "replace outputs that exist"] = False,
) -> None:
    """Find the language model's weight, the word bonus and the beam width that give few word errors, and not by luck alone.

    Example: carnelian tune runs/an4 data/an4/dev.jsonl --language-model an4.arpa --out decoding.toml
    """
    if language_model is None:
        raise DecodingError("tune: no language model given, so there is nothing to weigh. Give --language-model FILE")
    check_grid(alpha, beta, beam_width, refinements)
    if not batch_seconds > 0:
        raise DecodingError(f"--batch-seconds {batch_seconds:g}: expected seconds above 0")
    check_outputs(out, plot, overwrite=overwrite)
    check_plots("A picture of weights", wanted=bool(plot))
    settings = DecodingConfig(str(language_model), closed_vocabulary=closed_vocabulary, time_stretches=(*time_stretch,))
    recognizer = Recognizer.load(model, decoding=settings, device=device)
    decoder = recognizer.decoder
    if not isinstance(decoder, BeamSearch):
        raise DecodingError(f"{model}: the model was not trained by CTC, so there is no beam search to tune")
    settings = replace(settings, time_stretches=recognizer.time_stretches)
    log_probs, references = compute_log_probs(recognizer, manifests, batch_seconds)
    comparison = ScoringOptions(normalize=normalize)
    references, normalized = comparison.normalized(references), comparison.normalize_text
    total = len(alpha) * len(beta) + 9 * refinements + len(beam_width)
    with bar("weights", total) as advance:
        tuning = tune_weights(
            decoder,
            log_probs,
            references,
            alphas=alpha,
            betas=beta,
            widths=beam_width,
            refinements=refinements,
            normalized=normalized,
            report=lambda weights, errors: advance(1, f"WER {100 * errors.rate:.2f} % at {weights}"),
        )
    settings = replace(settings, alpha=tuning.best[0], beta=tuning.best[1], beam_width=tuning.best[2])
    greedy = decoded_errors(Greedy(decoder.alphabet), log_probs, references, normalized)
    all_hypotheses = settings.decoder(recognizer.alphabet, hypotheses=settings.beam_width)
    oracle = oracle_errors(all_hypotheses, log_probs, references, normalized)
    print_tuning(tuning, sum(greedy, Errors()), oracle, comparison.label)
    write_decoding(out, settings)
    note(f"wrote {out}; give it to transcribe or evaluate as --decoding {out}")
    if plot:
        plot_tuning(tuning, sorted(beam_width)[len(beam_width) // 2], plot)


def print_tuning(tuning: Tuning, greedy: Errors, oracle: Errors, normalization: str) -> None:
    """Prints the word error rates of the best weights beside those of greedy decoding and of the oracle."""
    alpha, beta, width = tuning.best
    rates = {
        "greedy": greedy.rate,
        f"alpha {alpha}, beta {beta}, beam width {width}": tuning.errors(tuning.best).rate,
        "fewest of all weights tried": min(tuning.errors(weights).rate for weights in tuning.tried),
        "oracle of that beam": oracle.rate,
    }
    title = f"Word error rates (normalisation: {normalization})"
    table(title, ("", "WER %"), [(name, f"{100 * rate:.2f}") for name, rate in rates.items()])


def compute_log_probs(
    recognizer: Recognizer, manifests: list[Path], batch_seconds: float
) -> tuple[list[np.ndarray], list[str]]:
    """Returns the log-probabilities (O, V) of all utterances, and their references in the same order."""
    utterances = [utterance for manifest in manifests for utterance in Manifest(manifest)]
    if not any(utterance.text for utterance in utterances):
        raise ManifestError(f"{manifests[0]}: no utterance has a text. Give a manifest with references")
    log_probs, references = [], []
    with bar("log-probabilities", len(utterances)) as advance:
        for _, batch, rows, _ in recognizer.batches(utterances, batch_seconds=batch_seconds):
            log_probs += [emissions.log_probs for emissions in rows]
            references += [utterance.text for utterance in batch]
            advance(len(batch))
    return log_probs, references


def plot_tuning(tuning: Tuning, width: int, plot: Path) -> None:
    """Draws the word error rates of one beam width over alpha and beta."""
    rates = {weights[:2]: tuning.errors(weights).rate for weights in tuning.tried if weights[2] == width}
    plot_weights(rates, tuning.best[:2], plot)
    note(f"wrote {plot}")
