"""pyctcdecode's module of this name: its defaults."""

from carnelian.ngram.hashed import LN10

DEFAULT_ALPHA = 0.5
DEFAULT_BETA = 1.5
DEFAULT_UNK_LOGP_OFFSET = -10.0
DEFAULT_BEAM_WIDTH = 100
DEFAULT_HOTWORD_WEIGHT = 10.0
DEFAULT_PRUNE_LOGP = -10.0
DEFAULT_PRUNE_BEAMS = False
DEFAULT_MIN_TOKEN_LOGP = -5.0
DEFAULT_SCORE_LM_BOUNDARY = True
AVG_TOKEN_LEN = 6  # letters of an unfinished word, from which on being unknown costs more
MIN_TOKEN_CLIP_P = 1e-15
LOG_BASE_CHANGE_FACTOR = LN10
