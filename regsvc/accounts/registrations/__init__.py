"""Sign-up attempts, from the POST to the account."""
