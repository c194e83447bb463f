"""Rows to compare recipes on."""

import json

WORDS = ["red", "blue", "green", "small", "big", "old", "new", "round", "flat", "warm"]


def rows(path, n, start=0):
    """Prompt and completion rows, as JSONL."""
    made = [{"prompt": f"{start + k}: say {WORDS[k % 10]} -> ", "completion": WORDS[k % 10]} for k in range(n)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(path)
