"""How the innermost functions of the search are compiled."""

import numba

#: For functions that only work on arrays which their caller holds, and neither make nor give any. Numba then counts no
#: references to them; at one step of output in a small beam the counting takes longer than the search itself.
borrowing = numba.njit(cache=True, nogil=True, _nrt=False)
#: The same, written into the function that calls it.
inlined = numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
