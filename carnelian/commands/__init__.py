"""The verbs: one public function per file, turned into the command line by cli.py."""
