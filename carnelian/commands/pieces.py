"""Word pieces for an alphabet: `carnelian pieces TEXT... --size N --out FILE`."""

from itertools import chain
from pathlib import Path
from typing import Annotated

from carnelian.data.alphabet import bert_vocabulary, learn_pieces
from carnelian.data.text.text_files import read_lines
from carnelian.errors import CarnelianError
from carnelian.files import written


def pieces(
    texts: Annotated[
        list[Path], "text files, one sentence a line, plain or gzip, or manifests (.jsonl); - is standard input"
    ],
    *,
    size: Annotated[int, "how many pieces, single letters among them"],
    out: Annotated[
        Path, "the file to write: a SentencePiece .model for a recipe's alphabet, or a corrector's vocabulary, .txt"
    ],
    kind: Annotated[str, "how they are learnt: bpe or unigram"] = "bpe",
) -> None:
    """Learn word pieces from text, to train a model that writes in them instead of letters.

    Example: carnelian pieces data/an4/train.jsonl --size 64 --out pieces.model
    """
    if out.suffix not in (".model", ".txt"):
        raise CarnelianError(
            f'--out {out}: a recipe knows word pieces by the ending ".model", and BERT\'s by ".txt". Give a name with one of them'
        )
    alphabet = learn_pieces(chain.from_iterable(map(read_lines, texts)), size, kind)
    if out.suffix == ".txt":
        with written(out, newline="\n") as file:
            file.writelines(f"{piece}\n" for piece in bert_vocabulary(alphabet))
    else:
        with written(out, "wb") as file:
            file.write(alphabet.model)
    print(f"{out}: {len(alphabet)} pieces, such as {' '.join(alphabet.symbols[1:13])}")
