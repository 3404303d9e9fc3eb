"""`python -m agent.packets PARENT_PID`: the child. It answers lines on its standard input and ends with it."""

from agent.packets.inside import main

if __name__ == "__main__":
    main()
