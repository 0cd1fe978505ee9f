"""How long things take: functions timed in turns, a benchmark's run as a file and as tables, and whether two runs differ."""
