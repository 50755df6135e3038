"""The crash-recovery drill: a real server, killed under load again and again, loses nothing.

    folder       where a drill may work, and what it may remove
    small        the same server, with files so small that a drill fills many of them
    server       `engram serve` as a child process: started, killed, stopped; the log verified
    effects      what writes do and logs say, in words that can be compared
    promises     one space: what was acknowledged, and what its log was seen to say
    model        what its log must say, and what must be there
    ledger       all spaces of one data root, and the counts
    operations   the table of what clients do; a new operation is one entry
    subscribers  those who follow the feeds of the spaces, through every kill
    look         reads what a server holds, for the model to judge
    files        looks for what was purged in every file
    crash        the drill itself: rounds of load, kill, restart and comparison
    report       the account of it, as a document and as text

It speaks to the server over HTTP alone, as any client does, and works on folders of its own.
"""
