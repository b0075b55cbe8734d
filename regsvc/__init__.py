"""Registration, login and email confirmation as one supervised program."""

__version__ = "0.2.0"
