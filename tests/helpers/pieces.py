"""A stand-in tokenizer whose tokens are given texts."""


class Pieces:
    """A vocabulary of the given texts; 0 pads and starts, 1 ends."""

    pad_token_id = 0

    def __init__(self, *texts):
        self.texts = ["", "", *texts]

    def batch_decode(self, rows, **options):
        return ["".join(self.texts[i] for i in row) for row in rows]
