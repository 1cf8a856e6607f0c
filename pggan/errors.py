"""The two ways a run ends early, and the exit codes they become."""


class UserError(Exception):
    """Something the user can mend. The message is one plain line: what is wrong, what to do. Exit code 2."""


class Diverged(Exception):
    """The numbers are beyond help after all the rollbacks a run is allowed. Exit code 3."""
