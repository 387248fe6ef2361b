"""The old place of ``encode_source``: model cards written before the move import it from here."""

from data.rows.tokenization import encode_source

__all__ = ["encode_source"]
