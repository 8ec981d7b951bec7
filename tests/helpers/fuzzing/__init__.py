"""What strangers, accidents and attackers do to the files of expunge: drawn from a seed, and held.

inputs      words and files that no command can use
changes     changes of a finished folder
forgeries   changes whose manifest was written anew
kills       processes that end at any moment
"""
