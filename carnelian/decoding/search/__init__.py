"""The compiled beam search: its state, its steps, pruning, the word tree, the language model and hot words."""
