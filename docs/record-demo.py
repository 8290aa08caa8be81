#!/usr/bin/env python3
"""Writes docs/demo.svg from a real run of `herald demo --once` in a terminal of 80 columns.

Needs nothing but Python and a built binary:

    cargo build -p herald && python3 docs/record-demo.py target/debug/herald

The SVG is text and colours as the terminal got them; nothing is put in or left out. It fails if the demo does.
"""

import html
import os
import pty
import re
import subprocess
import sys

COLUMNS, CELL, LINE, MARGIN = 80, 8.4, 18, 14
# As the demo uses them: https://en.wikipedia.org/wiki/ANSI_escape_code#SGR
STYLES = {
    "1": "font-weight:bold;fill:#f0f3f6",
    "2": "fill:#7d8590",
    "31": "fill:#ff7b72",
    "32": "fill:#56d364",
    "33": "fill:#e3b341",
    "35": "fill:#d2a8ff",
    "1;36": "font-weight:bold;fill:#76e3ea",
}


def record(binary):
    """What the demo writes to a terminal."""
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": str(COLUMNS)}
    demo = subprocess.Popen([binary, "demo", "--once"], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # Linux: the other end is closed.
            break
        if not read:
            break
        written += read
    if demo.wait() != 0:
        sys.exit(f"the demo failed:\n{written.decode()}")
    return written.decode().replace("\r\n", "\n").rstrip("\n").split("\n")


def spans(line):
    """(column, style, text) of each coloured or plain part of a line."""
    column, style = 0, ""
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        escape = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
        if escape:
            style = "" if escape[1] in ("", "0") else STYLES[escape[1]]
        elif part:
            yield column, style, part
            column += len(part)


def svg(lines):
    width, height = COLUMNS * CELL + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"',
        '     role="img" aria-label="The timeline of herald demo" fill="#c9d1d9" font-size="14"',
        '     font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace">',
        '<rect width="100%" height="100%" rx="8" fill="#0d1117"/>',
    ]
    for number, line in enumerate(lines):
        y = MARGIN + number * LINE + 13
        for column, style, text in spans(line):
            stripped = text.strip()
            if not stripped:
                continue
            column += len(text) - len(text.lstrip())
            style = f' style="{style}"' if style else ""
            # The length is given, so that the columns stand below each other in any font.
            out.append(
                f'<text x="{MARGIN + column * CELL:g}" y="{y}" textLength="{len(stripped) * CELL:g}" xml:space="preserve"'
                f"{style}>{html.escape(stripped, quote=False)}</text>"
            )
    return "\n".join([*out, "</svg>", ""])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    target = os.path.join(os.path.dirname(os.path.abspath(__file__)), "demo.svg")
    lines = record(sys.argv[1])
    with open(target, "w", encoding="utf-8") as file:
        file.write(svg(lines))
    print(f"{target}: {len(lines)} lines")


if __name__ == "__main__":
    main()
