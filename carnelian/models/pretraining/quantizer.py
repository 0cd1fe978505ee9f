"""Product quantisation with Gumbel softmax (Jang et al., 2016), as in wav2vec 2.0 (arXiv 2006.11477, section 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carnelian.errors import RecipeError
from carnelian.ranges import Fraction, PositiveFloat, PositiveInt


class GumbelQuantizer(nn.Module):
    """Chooses one of `entries` vectors in each of `groups` codebooks and joins them: (N, D) -> codes (N, Q), and the perplexity.

    While training the choice is drawn with Gumbel noise at `temperature` and the gradient is that of the soft choice
    (straight-through); otherwise it is the likeliest entry. The perplexity, of the mean probabilities, is summed over the
    codebooks: `groups` if one entry of each is used, `groups` x `entries` if all are used alike.
    """

    def __init__(self, inputs: int, codes: int, groups: int, entries: int, temperatures: tuple[float, float, float]):
        super().__init__()
        self.groups, self.entries, self.channels, self.temperatures = groups, entries, codes, temperatures
        self.temperature = temperatures[0]
        self.choice = nn.Linear(inputs, groups * entries)
        nn.init.normal_(self.choice.weight)
        nn.init.zeros_(self.choice.bias)
        self.codebooks = nn.Parameter(torch.empty(groups, entries, codes // groups).uniform_())

    def cool(self, step: int) -> None:
        """Sets the temperature of an optimizer step: it falls exponentially from the first of `temperatures` to the second."""
        highest, lowest, factor = self.temperatures
        self.temperature = max(highest * factor**step, lowest)

    def forward(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.choice(encoded).unflatten(-1, (self.groups, self.entries)).float()
        mean = scores.softmax(-1).mean(0)
        perplexity = (-(mean * (mean + 1e-7).log()).sum(-1)).exp().sum()
        if self.training:
            chosen = F.gumbel_softmax(scores, tau=self.temperature, hard=True)
        else:
            chosen = F.one_hot(scores.argmax(-1), self.entries).to(scores.dtype)
        codes = torch.einsum("nge,ged->ngd", chosen, self.codebooks.float())
        return codes.flatten(1).to(encoded.dtype), perplexity


def gumbel_quantizer(
    inputs: int,
    *,
    codes: PositiveInt = 256,
    groups: PositiveInt = 2,
    entries: PositiveInt = 320,
    temperature: PositiveFloat = 2.0,
    lowest: PositiveFloat = 0.5,
    factor: Fraction = 0.999995,
) -> GumbelQuantizer:
    """The quantiser of wav2vec 2.0 BASE: its `temperature` is multiplied by `factor` at each step, down to `lowest`."""
    if codes % groups:
        raise RecipeError(f"[quantizer] codes = {codes}: expected a multiple of groups = {groups}")
    return GumbelQuantizer(inputs, codes, groups, entries, (temperature, lowest, factor))
