"""GloVe: `download_glove.py` fetches the vectors, `reader.py` reads those of a vocabulary."""
