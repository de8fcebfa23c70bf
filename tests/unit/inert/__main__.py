"""`make corpus`."""

import asyncio
import sys

from tests.unit.inert.corpus import main

sys.exit(asyncio.run(main()))
