"""Arrow's functions over whole columns, of which type checkers see none.

The library makes them when it is imported, of what its native code has.
"""

from typing import Any

import pyarrow.compute

pc: Any = pyarrow.compute
