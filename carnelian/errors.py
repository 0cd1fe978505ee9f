"""The errors a user can cause: one line each, saying where, what was found, what was expected and what to do."""


class CarnelianError(Exception):
    """A fault outside the code, told in one line; the command line prints it and exits with code 2."""


class AudioError(CarnelianError):
    """A recording that cannot be read as asked."""


class ManifestError(CarnelianError):
    """A manifest, corpus tree or shard that is not what it should be."""


class RecipeError(CarnelianError):
    """A recipe with an unknown table, key, name or value."""


class CheckpointError(CarnelianError):
    """A checkpoint that is cut, hostile, of another kind or of other shapes."""


class LanguageModelError(CarnelianError):
    """A language model, or text for one, that cannot be used."""


class ScoringError(CarnelianError):
    """References or hypotheses that cannot be scored."""


class DecodingError(CarnelianError):
    """Log-probabilities or search settings that make no sense together."""


class DownloadError(CarnelianError):
    """A file that no address gives whole, or an archive that is cut or hostile."""


#: packages that are not part of the light installation, and the extra that brings each
EXTRA_OF = {"torch": "train", "safetensors": "train", "onnx": "train", "numba": "search"}


class MissingExtraError(CarnelianError):
    """An optional package that is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f'{purpose} needs the package "{package}", which is not installed. Run: pip install "carnelian[{extra}]"'
        )


class CloudError(CarnelianError):
    """What a cloud refuses, or an order to it that makes no sense."""
