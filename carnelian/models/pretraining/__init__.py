"""Models of self-supervised training: a front end or an encoder, with the parts that only its objective needs."""
