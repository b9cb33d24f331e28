"""From a function to kernels: capture, passes, plan, lowering, cache, program. In the order in which they run:

capture -> ir -> joint -> simplify, cse, dce, fuse (pipeline) -> memory -> lower -> render -> cache -> program; api is
the door. It takes operations, the tape and the sweep from the eager half, which never imports it.
"""
