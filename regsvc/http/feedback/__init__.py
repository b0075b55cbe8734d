"""Reports of providers about accepted mails: each has an address of its own, off until its setting is there."""
