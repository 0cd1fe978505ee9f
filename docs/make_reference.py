"""Writes docs/recipe-reference.md from the signatures in the code: python docs/make_reference.py"""

from pathlib import Path

from carnelian.training.reference import reference_page

if __name__ == "__main__":
    (Path(__file__).parent / "recipe-reference.md").write_text(reference_page(), encoding="utf-8")
