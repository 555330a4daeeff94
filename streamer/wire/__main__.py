"""`python -m streamer.wire [result|event]` prints a JSON Schema: what config/schema/KIND-1.json holds."""

import sys

from streamer.wire.schema import text

sys.stdout.write(text(*sys.argv[1:2]))
