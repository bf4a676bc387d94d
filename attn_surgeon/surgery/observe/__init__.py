"""One example run, and what flowed in it: the calls, the operations, and what depends on what."""
