"""Mails beside a sign-up's: about accounts, and for the legacy system."""
