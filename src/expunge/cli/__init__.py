"""The command line: one file per command, each a thin call of the library function of its name.

Nothing here, and nothing imported at the top of a file here, loads torch or transformers: `--help`
answers at once. The modules that compute are imported inside the commands, once it is settled what
the libraries below them may say and whether they may use the network.
"""

from expunge.cli.main import main

__all__ = ["main"]
