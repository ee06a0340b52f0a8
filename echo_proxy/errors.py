"""What can go wrong, as a tree.

EchoProxyError
├── PolicyError            a policy file is wrong: file, line, field, what was expected
├── SettingsError          a process setting (ECHO_*) is wrong
├── InputError             a file that was given to a command is wrong
├── StoreError
│   ├── StoreUnavailable   the store does not answer; the request goes on without examples
│   ├── SchemaMismatch     the index was made with another embedding model or size
│   └── LeaseLost          somebody else does this work by now; nothing was written
├── EmbedderError          a text could not be embedded
├── AskError               a model that Echo asked by itself, beside the path, gave no answer
├── FeedbackRefused        a decision has been judged anew too often
└── LocalModelError        a local model could not be started or asked
"""


class EchoProxyError(Exception):
    """Root of everything that Echo raises on purpose."""


class PolicyError(EchoProxyError):
    """A policy file is wrong; the message names file, line, field, what was expected and what came."""


class SettingsError(EchoProxyError):
    """A process setting is wrong; the message names the variable."""


class InputError(EchoProxyError):
    """A file that was given to a command is wrong; the message names it, what was expected and what came."""


class StoreError(EchoProxyError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The store does not answer, or not in time."""


class SchemaMismatch(StoreError):
    """The index was made with another embedding model or vector size than the process has now."""


class LeaseLost(StoreError):
    """A write under a lease that has ended: somebody else may do this work by now. Nothing was written."""


class EmbedderError(EchoProxyError):
    """A text could not be embedded."""


class AskError(EchoProxyError):
    """A model that Echo asked by itself, beside the path, gave no answer."""


class FeedbackRefused(EchoProxyError):
    """A decision has been judged anew too often."""


class LocalModelError(EchoProxyError):
    """A local model could not be started or asked."""


FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a calculation raises on a value that it was not made for; numpy's LinAlgError is a ValueError. Caught, counted
and logged around what callers do not wait for: learning, and what is asked beside the path."""
