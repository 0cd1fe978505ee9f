"""How the innermost functions of the search are compiled."""

from typing import Any

import numba

#: Numba counts no references to arrays: at one step of output in a small beam the counting takes longer than the search.
UNCOUNTED: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False}

#: For functions that only work on arrays which their caller holds, and neither make nor give any.
borrowing = numba.njit(**UNCOUNTED)
#: The same, written into the function that calls it.
inlined = numba.njit(forceinline=True, **UNCOUNTED)
