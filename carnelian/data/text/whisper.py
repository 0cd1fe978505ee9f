"""The normalisers of OpenAI's Whisper, by which the Open ASR Leaderboard scores. The only importer of whisper_normalizer."""

from importlib.metadata import PackageNotFoundError, version

from carnelian.data.text.report import NormalizationReport
from carnelian.errors import CarnelianError, MissingExtraError


class WhisperNormalizer:
    """`whisper-english` or `whisper-basic` of the package whisper-normalizer."""

    def __init__(self, name: str):
        if name not in ("whisper-english", "whisper-basic"):
            raise CarnelianError(
                f'--normalize {name}: no such normalisation. Give "whisper-english" or "whisper-basic"'
            )
        try:
            from whisper_normalizer.basic import BasicTextNormalizer
            from whisper_normalizer.english import EnglishTextNormalizer
        except ImportError:
            raise MissingExtraError("whisper-normalizer", "whisper", f"--normalize {name}") from None
        self.convert = EnglishTextNormalizer() if name == "whisper-english" else BasicTextNormalizer()
        try:
            release = version("whisper-normalizer")
        except PackageNotFoundError:
            release = "of unknown version"
        self.label = f"{name} {release} (whisper-normalizer)"

    def __call__(self, sentence: str, report: NormalizationReport | None = None) -> str | None:
        """The sentence as Whisper's evaluation compares it, or None where no word is left."""
        report = NormalizationReport() if report is None else report
        written = self.convert(sentence).strip()
        if not written:
            report.empty += 1
            return None
        report.sentences += 1
        report.words += len(written.split())
        report.altered += written != sentence
        return written
