"""The demo: two agents with a memory space each, and a server that is killed between two writes.

    turns      what the agents remember, and what they are asked
    server     a real `engram serve` in a process of its own, and `engram log verify`
    watch      the subscriber: both spaces' live feeds
    write      an agent that writes until its server is gone
    checks     what is stated at the end of a scene, compared with what was really read
    screen     the terminal: what things look like
    scenes     the story

Everything goes through the public client and command line; nothing is staged.
"""
