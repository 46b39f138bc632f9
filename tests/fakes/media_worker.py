"""A child that announces itself like a media worker, listens to nobody, and waits for its end.

    python -m tests.fakes.media_worker --announce-fd N

It ends at once with status 3 when its settings tell it to be at `host` "nowhere", and says
the same again ten times a second at `host` "beating".
"""

from __future__ import annotations

import json
import os
import select
import sys

line = b""
while not line.endswith(b"\n"):
    line += os.read(0, 65_536)
told = json.loads(line)
if told["settings"]["host"] == "nowhere":
    sys.exit(3)
report = {"serving": told["index"] > 0, "sessions": 2 * told["index"]}
pause_s = 0.1 if told["settings"]["host"] == "beating" else None
while True:
    os.write(int(sys.argv[2]), json.dumps(report).encode() + b"\n")
    readable, _, _ = select.select([0], [], [], pause_s)
    if readable and not os.read(0, 4096):
        break
