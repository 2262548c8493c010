"""The ``naspix`` command.

Results go to standard output, talk to standard error. A mistake of the user's ends in one sentence
and status 2, anything else that fails in one sentence and status 1, Ctrl-C in status 130;
``NASPIX_DEBUG=1`` shows where in the code. Commands import what is heavy when they run.
"""

from naspix.cli.app import main

__all__ = ["main"]
