#!/usr/bin/env bash
# From two novels to a Spanish 4-gram model that decodes; docs/spanish-language-model.md explains each step.
# Usage: language_model.sh TEXTS WORK, where TEXTS holds don_quijote.latin1.txt, la_regenta.latin1.txt and
# ud_pud.sentences.txt, and WORK is the folder to write to.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
texts=$1 work=$2
mkdir -p "$work"

# 1. sentences of spoken words
letters=" abcdefghijklmnopqrstuvwxyzáéíñóúü"
carnelian language-model prepare "$texts/don_quijote.latin1.txt" "$texts/la_regenta.latin1.txt" \
    --encoding latin-1 --language es --alphabet "$letters" --out "$work/novels.txt" --overwrite
carnelian language-model prepare "$texts/ud_pud.sentences.txt" \
    --lines --language es --alphabet "$letters" --out "$work/pud.txt" --overwrite

# 2. the model, as text and in binary form
carnelian language-model build "$work/novels.txt" --order 4 \
    --arpa "$work/spanish.arpa.gz" --binary "$work/spanish.bin" --overwrite
carnelian language-model info "$work/spanish.bin"

# 3. perplexity and unknown words on newspaper and encyclopedia sentences
carnelian language-model score "$work/spanish.bin" "$work/pud.txt" --summary

# 4. decoding with it
python "$here/decode.py" "$work/spanish.bin" "$work/pud.txt"
