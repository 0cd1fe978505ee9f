"""What is known about speech before any model: utterances, audio, text, alphabets, batches, transcripts."""
