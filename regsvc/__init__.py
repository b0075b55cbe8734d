"""Registration, login and e-mail confirmation as one supervised program."""

__version__ = "0.1.0"
