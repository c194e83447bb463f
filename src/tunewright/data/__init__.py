"""From files to records, from records to tokens, from tokens to batches."""
