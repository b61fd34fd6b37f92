"""The names of tools that the loop of a run itself knows."""

WAIT = "wait"
FINISH = "finish"
REMEMBER = "remember"

LONGEST_WAIT_S = 3_600
