"""Wire bytes ⇄ inference data. Pure: no sockets, no threads, no clock. Imports inference and errors only."""
