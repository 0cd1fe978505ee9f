"""Models of text: what writes no transcript itself, but judges or corrects one."""
