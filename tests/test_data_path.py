"""How many files of the package the data go through: few enough to read in one sitting."""

import importlib.util
from pathlib import Path


def test_a_batch_and_an_utterance_enter_few_files():
    path = Path(__file__).parent / "count_files.py"
    specification = importlib.util.spec_from_file_location("count_files", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    batch, utterance = module.counted()
    assert len(batch) <= 16, batch
    assert len(utterance) <= 15, utterance
