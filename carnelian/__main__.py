"""python -m carnelian."""

from carnelian.cli import main

main()
