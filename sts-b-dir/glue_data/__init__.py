"""STS-B's pairs: `create_sts.py` fetches, draws, writes and recognises a split."""
