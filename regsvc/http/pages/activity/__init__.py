"""The part of the account page that lists what happened to the account lately."""
