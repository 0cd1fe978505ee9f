"""The parts of a model that a recipe may name, and the model built from a recipe.

Each part is a function whose keyword arguments are the keys of the recipe's table.
"""

from collections.abc import Callable, Sized

from torch import nn

from carnelian.errors import RecipeError
from carnelian.models.acoustic import AcousticModel
from carnelian.models.encoders.citrinet import citrinet
from carnelian.models.encoders.conformer import conformer
from carnelian.models.encoders.convolutional import convolutional
from carnelian.models.encoders.deepspeech2 import deepspeech2
from carnelian.models.encoders.jasper import jasper, jasper_mini
from carnelian.models.encoders.quartznet import quartznet, quartznet_wsj
from carnelian.models.encoders.wav2letter import wav2letter
from carnelian.models.encoders.wav2vec import wav2vec
from carnelian.models.encoders.wav2vec2 import wav2vec2
from carnelian.models.encoders.wave2letter import wave2letter
from carnelian.models.features import log_mel, mfcc, spectrogram, waveform
from carnelian.models.losses.asg import asg
from carnelian.models.losses.ctc import ctc
from carnelian.models.specaugment import Mask, spec_augment, spec_cutout, vocal_tract
from carnelian.models.text.transformer_xl import transformer_xl
from carnelian.models.time_stretch import TIME_STRETCH_RANGE, in_range
from carnelian.recipe import Recipe, as_table, choose, in_short, matches_type

#: front ends: waveforms -> features, with `.channels`, `.hop` and `.sample_rate`
FEATURES: dict[str, Callable[..., nn.Module]] = {
    "log_mel": log_mel,
    "mfcc": mfcc,
    "spectrogram": spectrogram,
    "wav2vec": wav2vec,
    "waveform": waveform,
}

#: encoders: `name(features, *, ...)` with the features' channels -> a module with `.channels`, `.stride`, `.receptive_field`
ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "citrinet": citrinet,
    "conformer": conformer,
    "convolutional": convolutional,
    "deepspeech2": deepspeech2,
    "jasper": jasper,
    "jasper_mini": jasper_mini,
    "quartznet": quartznet,
    "quartznet_wsj": quartznet_wsj,
    "wav2letter": wav2letter,
    "wav2vec2": wav2vec2,
    "wave2letter": wave2letter,
}

#: criteria: `name(symbols, *, ...)` with the alphabet's number of symbols -> a module that gives the loss, with `.extra`
CRITERIA: dict[str, Callable[..., nn.Module]] = {"asg": asg, "ctc": ctc}

#: masks on features while training: `name(*, ...)` -> a function of features and frames
MASKS: dict[str, Callable[..., Mask]] = {
    "spec_augment": spec_augment,
    "spec_cutout": spec_cutout,
    "vocal_tract": vocal_tract,
}

#: language models: `name(tokens, *, ...)` -> a module of tokens, those that follow and a memory, with `.memory`
NEURAL_LANGUAGE_MODELS: dict[str, Callable[..., nn.Module]] = {"transformer_xl": transformer_xl}


def build_language_model(recipe: Recipe, alphabet: Sized) -> nn.Module:
    """Returns a language model with random weights from a recipe's [model]; token 0 ends a sentence. Raises RecipeError."""
    try:
        return choose(NEURAL_LANGUAGE_MODELS, recipe.get("model", {}), where="model", tokens=len(alphabet) + 1)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise RecipeError(f"[model]: no model can be built from these settings ({str(error)[:200]})") from None


NOT_A_RECOGNIZER = "It writes no text. Train a recognizer upon it, with [initialize] checkpoint"
#: what a checkpoint of another task is good for
USES = {
    "corrector": "It corrects transcripts: give it as --correct",
    "language": "It scores sentences: give it as --rescore",
}


def build_model(recipe: Recipe, alphabet: Sized) -> AcousticModel:
    """Returns an acoustic model with random weights, from a recipe's [features], [encoder], [masks], [criterion] and time_stretches.

    Raises RecipeError for a wrong name, key or value.
    """
    if recipe.get("task", "acoustic") != "acoustic":
        use = USES.get(recipe["task"], NOT_A_RECOGNIZER)
        raise RecipeError(f"task = {in_short(recipe['task'])}: no recognizer. {use}")
    features, encoder, criterion = (
        recipe.get(key, {"name": name})
        for key, name in (("features", "log_mel"), ("encoder", None), ("criterion", "ctc"))
    )
    stretches = recipe.get("time_stretches", [1.0])
    if not stretches or not matches_type(stretches, list[float]) or not in_range(stretches):
        raise RecipeError(f"time_stretches = {in_short(stretches)}: expected a list of {TIME_STRETCH_RANGE}")
    masks = tuple(
        choose(MASKS, {**as_table(table, where=f"masks.{name}"), "name": name}, where=f"masks.{name}")
        for name, table in as_table(recipe.get("masks", {}), where="masks").items()
    )
    try:
        front_end = choose(FEATURES, features, where="features")
        network = choose(ENCODERS, encoder, where="encoder", features=front_end.channels)
        loss = choose(CRITERIA, criterion, where="criterion", symbols=len(alphabet))
        return AcousticModel(front_end, network, len(alphabet), masks, loss, stretches)
    except (RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        first_line = str(error).partition("\n")[0][:200]
        raise RecipeError(f"[features], [encoder]: no model can be built from these settings ({first_line})") from None
