"""`python -m streamer.wire` prints the JSON Schema of a message: what config/schema/result-1.json holds."""

import sys

from streamer.wire.schema import text

sys.stdout.write(text())
