"""The page on CTC gives the numbers of its lattice as the loss gives them."""

import math
import re
from pathlib import Path

import pytest
import torch

from carnelian.models.losses.ctc import ctc_loss

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_probability_on_the_page_is_that_of_the_loss():
    page = (DOCS / "how-it-works.md").read_text()
    rows = [re.search(rf"^\| {symbol} \|(.*)\|$", page, re.M).group(1).split("|") for symbol in ("a", "b", "blank")]
    log_probs = torch.tensor([[float(cell) for cell in row] for row in rows]).T.log()[None]
    loss = ctc_loss(log_probs, torch.tensor([4]), torch.tensor([[0, 1]]), torch.tensor([2])).item()
    assert float(re.search(r"\*\*(0\.\d+)\*\* is the probability", page).group(1)) == pytest.approx(
        math.exp(-loss), abs=6e-4
    )
    assert float(re.search(r"negative logarithm, (0\.\d+)\.", page).group(1)) == pytest.approx(loss, abs=6e-3)
    drawn = [
        float(number) for number in re.findall(r">(0\.\d{3})<", (DOCS / "images" / "ctc-lattice-4.svg").read_text())
    ]
    assert drawn[-1] + 0.409 == pytest.approx(math.exp(-loss), abs=1e-3)
