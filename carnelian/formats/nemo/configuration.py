"""NeMo's configurations, read as data: tables, NeMo's version, the recipe's [features] and [masks]. The only importer of pyyaml."""

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carnelian.errors import CheckpointError, MissingExtraError
from carnelian.files import one_line, reason_of

MOST_ALIASES = 100  # more than any configuration has
YAML_BYTES = 2**22  # more than any configuration has
LONGEST_WINDOW = 2**16  # samples of a window


def yaml_module() -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("pyyaml", "nemo", "Reading and writing NeMo's configurations") from None
    return yaml


def read_configuration(where: str | Path, data: bytes) -> dict[str, Any]:
    """A YAML configuration as plain data."""
    yaml = yaml_module()
    if len(data) > YAML_BYTES:
        raise CheckpointError(f"{where}: a configuration of {len(data)} bytes. Expected a few thousand: not read")
    try:
        if (
            data.count(b"*") > MOST_ALIASES
            and sum(isinstance(each, yaml.AliasEvent) for each in yaml.parse(data)) > MOST_ALIASES
        ):
            raise ValueError("more aliases than any configuration has")
        configuration = yaml.safe_load(data)
    except Exception as error:  # dates, numbers and keys that PyYAML makes of hostile text fail in any way
        raise CheckpointError(one_line(f"{where}: not a YAML configuration ({reason_of(error)})")) from None
    if not isinstance(configuration, dict):
        raise CheckpointError(f"{where}: not a configuration but {type(configuration).__name__}")
    if "JasperEncoder" in configuration:  # NeMo 0.x named its tables by the modules
        tables = {"encoder": "JasperEncoder", "preprocessor": "AudioToMelSpectrogramPreprocessor"}
        found = {ours: configuration.get(theirs) for ours, theirs in tables.items()}
        return {"nemo_version": "0.11", "decoder": {}, **configuration, **found}
    inner = configuration.get("model")
    return inner if isinstance(inner, dict) and "encoder" not in configuration else configuration


def configuration_text(configuration: Mapping[str, Any]) -> bytes:
    """A configuration as YAML."""
    return yaml_module().safe_dump(dict(configuration), sort_keys=False, allow_unicode=True).encode()


class Section:
    """A table of a configuration, whose values are asked for by name and type."""

    def __init__(self, where: str | Path, name: str, table: Any):
        if not isinstance(table, dict):
            raise CheckpointError(
                f"{where}: its configuration has no table '{name}'. Is this a speech recognizer of NeMo?"
            )
        # NeMo 1.0's first versions kept the settings under `params`
        self.where, self.name, self.table = where, name, {**table, **(table.get("params") or {})}
        self.target = str(table.get("_target_") or table.get("cls") or "").rpartition(".")[2]

    def get(self, key: str, kind: type, default: Any) -> Any:
        """A value; a list of one counts as its element, and a number written as text as the number."""
        value = self.table.get(key)
        if value is None:
            return default
        if isinstance(value, list) and kind is not list and len(value) == 1:
            value = value[0]
        try:
            if isinstance(value, kind) or kind in (int, float):
                return kind(value)
        except (TypeError, ValueError):
            pass
        raise CheckpointError(f"{self.where}: {self.name}.{key} is {reprlib.repr(value)}, expected {kind.__name__}")

    def expect(self, **settings: Any) -> None:
        """Raises CheckpointError for a setting whose value this package cannot follow."""
        for key, expected in settings.items():
            found = self.table.get(key)
            if found is not None and found != expected:
                raise CheckpointError(
                    f"{self.where}: {self.name}.{key} is {reprlib.repr(found)}; only {expected!r} is supported here"
                )


def version_of(configuration: Mapping[str, Any]) -> tuple[int, int]:
    """The (major, minor) version of NeMo that wrote an archive; 1.0 did not yet note it."""
    numbers = re.findall(r"\d+", str(configuration.get("nemo_version", "1.0")))
    return (int(numbers[0]), int(numbers[1])) if len(numbers) > 1 else (1, 0)


def resolved(configuration: dict[str, Any]) -> dict[str, Any]:
    """The configuration with `${labels}` and `${model.labels}` replaced by what they point at."""
    done: dict[int, Any] = {}

    def value(found: Any, depth: int) -> Any:
        if isinstance(found, str) and depth < 8 and (pointer := re.fullmatch(r"\$\{([\w.]+)\}", found)):
            target: Any = configuration
            for key in pointer[1].removeprefix("model.").split("."):
                target = target.get(key) if isinstance(target, dict) else None
            return value(target, depth + 1)
        if not isinstance(found, dict | list) or depth > 8:
            return found
        if id(found) not in done:  # what YAML's aliases share stays shared
            done[id(found)] = found
            parts = found.items() if isinstance(found, dict) else enumerate(found)
            inner = {key: value(part, depth + 1) for key, part in parts}
            done[id(found)] = inner if isinstance(found, dict) else list(inner.values())
        return done[id(found)]

    return value(configuration, 0)


def features_table(section: Section, sample_rate: int, version: tuple[int, int]) -> dict[str, Any]:
    """The recipe's [features] from NeMo's preprocessor; how frames are counted and edges padded follows NeMo's version."""
    section.expect(
        window="hann",
        frame_splicing=1,
        exact_pad=False,
        mag_power=2.0,
        log=True,
        log_zero_guard_type="add",
        mel_norm="slaney",
        pad_value=0,
        lowfreq=0,
    )
    sample_rate = section.get("sample_rate", int, sample_rate)
    window = section.get("window_size", float, 0.02)
    hop = section.get("window_stride", float, 0.01)
    if not (
        1000 <= sample_rate <= 2**20
        and int(sample_rate * hop) >= 1
        and 2 <= int(sample_rate * window) <= LONGEST_WINDOW
    ):
        raise CheckpointError(
            f"{section.where}: windows of {window} s every {hop} s at {sample_rate} Hz. Is the configuration whole?"
        )
    fft = section.get("n_fft", int, 2 ** (int(sample_rate * window) - 1).bit_length())
    if not int(sample_rate * window) <= fft <= LONGEST_WINDOW:
        raise CheckpointError(
            f"{section.where}: {section.name}.n_fft is {fft} for windows of {int(sample_rate * window)} samples"
        )
    normalize = section.table.get("normalize", "per_feature")
    if isinstance(normalize, dict):  # means and deviations of a corpus
        section.expect(normalize="per_feature")
    pad_to = section.table.get("pad_to")
    if section.table.get("highfreq") not in (None, sample_rate // 2):
        section.expect(highfreq=sample_rate // 2)
    recent = version >= (2, 5)
    return {
        "name": "log_mel",
        "features": section.get("features", int, 64),
        "sample_rate": sample_rate,
        "window": window,
        "hop": hop,
        "fft": fft,
        "preemphasis": section.get("preemph", float, 0.97),
        "dither": section.get("dither", float, 1e-5),
        "log_guard": section.get("log_zero_guard_value", float, 2.0**-24),
        "normalize": normalize if normalize in ("per_feature", "all_features") else "none",
        "frame_count": "floor" if recent else "ceil" if version < (1, 0) else "floor+1",
        "edge": "zeros" if recent else "reflect",
        "pad_to": pad_to if isinstance(pad_to, int) else 16,
    }


def masks_table(where: str | Path, configuration: dict[str, Any]) -> dict[str, Any]:
    """The recipe's [masks] from NeMo's spec_augment."""
    table = configuration.get("spec_augment")
    section = Section(where, "spec_augment", table if isinstance(table, dict) else {})
    masks: dict[str, Any] = {}
    if section.get("rect_masks", int, 0):
        masks["spec_cutout"] = {
            "masks": section.get("rect_masks", int, 0),
            "frequency_width": section.get("rect_freq", int, 20),
            "time_width": section.get("rect_time", int, 5),
        }
    if section.get("freq_masks", int, 0) or section.get("time_masks", int, 0):
        width = section.table.get("time_width", 10)
        masks["spec_augment"] = {
            "frequency_masks": section.get("freq_masks", int, 0),
            "frequency_width": section.get("freq_width", int, 10),
            "time_masks": section.get("time_masks", int, 0),
            "time_width": width if isinstance(width, int | float) else 10,
        }
    return masks
