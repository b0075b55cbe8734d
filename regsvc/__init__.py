"""Registration, login and email confirmation as one supervised program."""

__version__ = "0.1.0"
