"""A child that announces itself like a media worker, listens to nobody, and waits for its end.

    python -m tests.fakes.media_worker --announce-fd N

It ends at once with status 3 when its settings tell it to be at `host` "nowhere".
"""

from __future__ import annotations

import json
import os
import sys

line = b""
while not line.endswith(b"\n"):
    line += os.read(0, 65_536)
told = json.loads(line)
if told["settings"]["host"] == "nowhere":
    sys.exit(3)
report = {"serving": told["index"] > 0, "sessions": 2 * told["index"]}
os.write(int(sys.argv[2]), json.dumps(report).encode() + b"\n")
while os.read(0, 4096):
    pass
