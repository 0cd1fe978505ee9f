"""Decoding settings: what a file says, and what a decoder is made of it."""

import numpy as np
import pytest

from carnelian.commands.options import RecognizerOptions
from carnelian.data.alphabet import Alphabet
from carnelian.decoding.settings import DecodingConfig, read_decoding, write_decoding
from carnelian.errors import CarnelianError, DecodingError

ARPA = "\\data\\\nngram 1=5\n\n\\1-grams:\n-2\t<unk>\n-99\t<s>\n-1\t</s>\n-0.3\tab\n-1\tb\n\n\\end\\\n"


def test_a_closed_vocabulary_knows_no_other_words(tmp_path):
    (tmp_path / "words.arpa").write_text(ARPA)
    settings = DecodingConfig(str(tmp_path / "words.arpa"), alpha=0.0, beta=0.0, closed_vocabulary=True)
    write_decoding(tmp_path / "decoding.toml", settings)
    settings = read_decoding(tmp_path / "decoding.toml")
    assert settings.closed_vocabulary
    probs = np.array([[0.01, 0.10, 0.02, 0.86, 0.01], [0.01, 0.01, 0.96, 0.01, 0.01]], np.float32)
    alphabet = Alphabet(" abc")
    assert settings.decoder(alphabet)(np.log(probs))[0].text == "ab"  # not the likelier "cb"
    with pytest.raises(DecodingError, match="no language model whose words"):
        DecodingConfig(closed_vocabulary=True).decoder(alphabet)


def test_what_is_no_setting_is_said(tmp_path):
    (tmp_path / "decoding.toml").write_text("closed_vocabulary = 1\n")
    with pytest.raises(DecodingError, match="closed_vocabulary = 1 is not a decoding setting"):
        read_decoding(tmp_path / "decoding.toml")


@pytest.mark.parametrize("time_stretches", ["[0]", "[1, 2.5]", "[nan]"])
def test_stretches_out_of_bounds_are_said_with_the_file(tmp_path, time_stretches):
    (tmp_path / "decoding.toml").write_text(f"time_stretches = {time_stretches}\n")
    with pytest.raises(
        DecodingError, match=r"decoding.toml: time_stretches .*(expected numbers from 0.5 to 2|not a decoding setting)"
    ):
        read_decoding(tmp_path / "decoding.toml")


def test_stretches_are_kept_and_an_option_replaces_them(tmp_path):
    write_decoding(tmp_path / "decoding.toml", DecodingConfig(time_stretches=(1.0, 1.2)))
    assert read_decoding(tmp_path / "decoding.toml").time_stretches == (1.0, 1.2)
    kept = RecognizerOptions(decoding=tmp_path / "decoding.toml").config()
    assert kept.time_stretches == (1.0, 1.2)
    changed = RecognizerOptions(decoding=tmp_path / "decoding.toml", time_stretch=[1.5]).config()
    assert changed.time_stretches == (1.5,)


@pytest.mark.parametrize("option", ["alpha", "beta", "beam_width"])
def test_an_option_without_effect_is_an_error(option):
    with pytest.raises(DecodingError, match="has no effect without a language model"):
        RecognizerOptions(**{option: 1}).config()


@pytest.mark.parametrize(
    "text",
    ["alpha = -1.0", "alpha = nan", "beta = 1e9", "beam_width = 0", "beam_width = 10000000000", "alpha = [" * 3000],
)
def test_settings_out_of_range_are_one_line(tmp_path, text):
    (tmp_path / "decoding.toml").write_text(text)
    with pytest.raises(DecodingError, match=r"decoding.toml: ") as error:
        read_decoding(tmp_path / "decoding.toml")
    assert len(str(error.value)) <= 300 and str(error.value).isprintable()


def test_damaged_settings_found_by_mutation(shared):
    for path in shared("../cases/damaged_files").glob("decoding_toml*"):
        with pytest.raises(DecodingError) as error:
            read_decoding(path)
        assert len(str(error.value)) <= 300 and str(error.value).isprintable()


def test_bf16_without_instructions_for_it_is_refused(monkeypatch):
    from carnelian.models import device

    monkeypatch.setattr(device, "has_bf16", lambda: False)
    with pytest.raises(CarnelianError, match=r"10 to 60 times as long\. Use fp32, or --force"):
        RecognizerOptions(precision="bf16", device="cpu")
    assert RecognizerOptions(precision="bf16", device="cpu", force=True).precision == "bf16"
