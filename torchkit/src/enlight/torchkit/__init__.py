"""What Enlight's worker processes that run torch share. Never imported by a process that speaks HTTP."""
