"""Ways to prove who one is beside the password, and rules that hold for all of them."""
